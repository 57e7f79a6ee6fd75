"""OffsetCommit (key 8): keep how far a group has read.

Versions. 2 to 4 have a retention time, 6 a leader epoch, 7 an instance id; 8 is flexible, 9 is
for the new group protocol too, 10 names topics by id.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class OffsetCommitRequestPartition(Struct):
    partition_index: int = field(int32)
    committed_offset: int = field(int64)
    committed_leader_epoch: int = field(int32, versions="6+", default=-1, ignorable=True)
    committed_metadata: str | None = field(nullable="0+", default=None)


class OffsetCommitRequestTopic(Struct):
    name: str = field(versions="0-9", default="", ignorable=True)
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    partitions: list[OffsetCommitRequestPartition] = field()


class OffsetCommitRequest(Request, api=ApiKey.OFFSET_COMMIT, versions="2-10", flexible="8+"):
    group_id: str = field()
    generation_id_or_member_epoch: int = field(int32, versions="1+", default=-1, ignorable=True)
    member_id: str = field(versions="1+", default="", ignorable=True)
    group_instance_id: str | None = field(versions="7+", nullable="7+", default=None)
    retention_time_ms: int = field(int64, versions="2-4", default=-1, ignorable=True)
    topics: list[OffsetCommitRequestTopic] = field()


class OffsetCommitResponsePartition(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)


class OffsetCommitResponseTopic(Struct):
    name: str = field(versions="0-9", default="", ignorable=True)
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    partitions: list[OffsetCommitResponsePartition] = field()


class OffsetCommitResponse(Response, api=ApiKey.OFFSET_COMMIT, versions="2-10", flexible="8+"):
    throttle_time_ms: int = field(int32, versions="3+", default=0, ignorable=True)
    topics: list[OffsetCommitResponseTopic] = field()

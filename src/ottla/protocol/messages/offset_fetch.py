"""OffsetFetch (key 9): how far a group has read.

Versions. From 2 no topics means all of them; 5 answers leader epochs; 6 is flexible; 7 may ask
for stable offsets alone; 8 asks for many groups, with fields of their own on both sides; 9 is for
the new group protocol too; 10 names topics by id.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class OffsetFetchRequestTopic(Struct):
    name: str = field()
    partition_indexes: list[int] = field(int32)


class OffsetFetchRequestTopics(Struct):
    name: str = field(versions="8-9", default="", ignorable=True)
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    partition_indexes: list[int] = field(int32)


class OffsetFetchRequestGroup(Struct):
    group_id: str = field()
    member_id: str | None = field(versions="9+", nullable="9+", default=None, ignorable=True)
    member_epoch: int = field(int32, versions="9+", default=-1, ignorable=True)
    topics: list[OffsetFetchRequestTopics] | None = field(nullable="8+", default=None)


class OffsetFetchRequest(Request, api=ApiKey.OFFSET_FETCH, versions="1-10", flexible="6+"):
    group_id: str = field(versions="0-7", default="")
    topics: list[OffsetFetchRequestTopic] | None = field(
        versions="0-7", nullable="2-7", default=None
    )
    groups: list[OffsetFetchRequestGroup] = field(versions="8+", default_factory=list)
    require_stable: bool = field(versions="7+", default=False)


class OffsetFetchResponsePartition(Struct):
    partition_index: int = field(int32)
    committed_offset: int = field(int64)
    committed_leader_epoch: int = field(int32, versions="5-7", default=-1, ignorable=True)
    metadata: str | None = field(nullable="0-7")
    error_code: int = field(int16, default=0)


class OffsetFetchResponseTopic(Struct):
    name: str = field()
    partitions: list[OffsetFetchResponsePartition] = field()


class OffsetFetchResponsePartitions(Struct):
    partition_index: int = field(int32)
    committed_offset: int = field(int64)
    committed_leader_epoch: int = field(int32, versions="8+", default=-1, ignorable=True)
    metadata: str | None = field(nullable="8+")
    error_code: int = field(int16, default=0)


class OffsetFetchResponseTopics(Struct):
    name: str = field(versions="8-9", default="", ignorable=True)
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    partitions: list[OffsetFetchResponsePartitions] = field()


class OffsetFetchResponseGroup(Struct):
    group_id: str = field()
    topics: list[OffsetFetchResponseTopics] = field(default_factory=list)
    error_code: int = field(int16, default=0)


class OffsetFetchResponse(Response, api=ApiKey.OFFSET_FETCH, versions="1-10", flexible="6+"):
    throttle_time_ms: int = field(int32, versions="3+", default=0, ignorable=True)
    topics: list[OffsetFetchResponseTopic] = field(versions="0-7", default_factory=list)
    error_code: int = field(int16, versions="2-7", default=0, ignorable=True)
    groups: list[OffsetFetchResponseGroup] = field(versions="8+", default_factory=list)

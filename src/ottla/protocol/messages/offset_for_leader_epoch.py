"""OffsetForLeaderEpoch (key 23): where a leader epoch ends.

So a reader finds out that it must truncate, and to which offset.
Versions. 3 has the replica id (-2 a consumer, -1 a debugging tool); 4 is flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class OffsetForLeaderPartition(Struct):
    partition: int = field(int32)
    current_leader_epoch: int = field(int32, default=-1, ignorable=True)
    leader_epoch: int = field(int32)


class OffsetForLeaderTopic(Struct):
    topic: str = field()
    partitions: list[OffsetForLeaderPartition] = field()


class OffsetForLeaderEpochRequest(
    Request, api=ApiKey.OFFSET_FOR_LEADER_EPOCH, versions="2-4", flexible="4+"
):
    replica_id: int = field(int32, versions="3+", default=-2, ignorable=True)
    topics: list[OffsetForLeaderTopic] = field()


class EpochEndOffset(Struct):
    error_code: int = field(int16, default=0)
    partition: int = field(int32)
    leader_epoch: int = field(int32, default=-1, ignorable=True)
    end_offset: int = field(int64, default=-1)


class OffsetForLeaderTopicResult(Struct):
    topic: str = field()
    partitions: list[EpochEndOffset] = field()


class OffsetForLeaderEpochResponse(
    Response, api=ApiKey.OFFSET_FOR_LEADER_EPOCH, versions="2-4", flexible="4+"
):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    topics: list[OffsetForLeaderTopicResult] = field()

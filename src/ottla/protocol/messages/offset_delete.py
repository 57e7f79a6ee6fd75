"""OffsetDelete (key 47): forget how far a group has read some partitions. One version."""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class OffsetDeleteRequestPartition(Struct):
    partition_index: int = field(int32)


class OffsetDeleteRequestTopic(Struct):
    name: str = field()
    partitions: list[OffsetDeleteRequestPartition] = field()


class OffsetDeleteRequest(Request, api=ApiKey.OFFSET_DELETE, versions="0"):
    group_id: str = field()
    topics: list[OffsetDeleteRequestTopic] = field()


class OffsetDeleteResponsePartition(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)


class OffsetDeleteResponseTopic(Struct):
    name: str = field()
    partitions: list[OffsetDeleteResponsePartition] = field()


class OffsetDeleteResponse(Response, api=ApiKey.OFFSET_DELETE, versions="0"):
    error_code: int = field(int16, default=0)
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    topics: list[OffsetDeleteResponseTopic] = field(default_factory=list)

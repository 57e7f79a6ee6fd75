"""CreatePartitions (key 37): raise the number of partitions of topics.

`count` is the new total, and `assignments` holds the replicas of the new ones, if given.
Versions. 2 is flexible, 3 may be throttled.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class CreatePartitionsAssignment(Struct):
    broker_ids: list[int] = field(int32)


class CreatePartitionsTopic(Struct):
    name: str = field()
    count: int = field(int32)
    assignments: list[CreatePartitionsAssignment] | None = field(nullable="0+", default=None)


class CreatePartitionsRequest(Request, api=ApiKey.CREATE_PARTITIONS, versions="0-3", flexible="2+"):
    topics: list[CreatePartitionsTopic] = field()
    timeout_ms: int = field(int32)
    validate_only: bool = field()


class CreatePartitionsTopicResult(Struct):
    name: str = field()
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class CreatePartitionsResponse(
    Response, api=ApiKey.CREATE_PARTITIONS, versions="0-3", flexible="2+"
):
    throttle_time_ms: int = field(int32, default=0)
    results: list[CreatePartitionsTopicResult] = field()

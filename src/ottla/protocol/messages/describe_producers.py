"""DescribeProducers (key 61): the active producers of partitions.

For tools that look for hanging transactions.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class TopicRequest(Struct):
    name: str = field()
    partition_indexes: list[int] = field(int32)


class DescribeProducersRequest(Request, api=ApiKey.DESCRIBE_PRODUCERS, versions="0", flexible="0+"):
    topics: list[TopicRequest] = field()


class ProducerState(Struct):
    producer_id: int = field(int64)
    producer_epoch: int = field(int32)
    last_sequence: int = field(int32, default=-1)
    last_timestamp: int = field(int64, default=-1)
    coordinator_epoch: int = field(int32)
    current_txn_start_offset: int = field(int64, default=-1)


class PartitionResponse(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    active_producers: list[ProducerState] = field()


class TopicResponse(Struct):
    name: str = field()
    partitions: list[PartitionResponse] = field()


class DescribeProducersResponse(
    Response, api=ApiKey.DESCRIBE_PRODUCERS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    topics: list[TopicResponse] = field()

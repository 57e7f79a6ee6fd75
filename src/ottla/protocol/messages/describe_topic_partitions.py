"""DescribeTopicPartitions (key 75): topics page by page, with eligible leaders (KIP-966).

The cursor of an answer that is not the last goes into the next request.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class TopicRequest(Struct):
    name: str = field()


class Cursor(Struct):
    topic_name: str = field()
    partition_index: int = field(int32)


class DescribeTopicPartitionsRequest(
    Request, api=ApiKey.DESCRIBE_TOPIC_PARTITIONS, versions="0", flexible="0+"
):
    topics: list[TopicRequest] = field()
    response_partition_limit: int = field(int32, default=2000)
    cursor: Cursor | None = field(nullable="0+", default=None)


class DescribeTopicPartitionsResponsePartition(Struct):
    error_code: int = field(int16, default=0)
    partition_index: int = field(int32)
    leader_id: int = field(int32)
    leader_epoch: int = field(int32, default=-1, ignorable=True)
    replica_nodes: list[int] = field(int32)
    isr_nodes: list[int] = field(int32)
    eligible_leader_replicas: list[int] | None = field(int32, nullable="0+", default=None)
    last_known_elr: list[int] | None = field(int32, nullable="0+", default=None)
    offline_replicas: list[int] = field(int32, default_factory=list, ignorable=True)


class DescribeTopicPartitionsResponseTopic(Struct):
    error_code: int = field(int16, default=0)
    name: str | None = field(nullable="0+", default=None)
    topic_id: Uuid = field(default=ZERO_UUID, ignorable=True)
    is_internal: bool = field(default=False, ignorable=True)
    partitions: list[DescribeTopicPartitionsResponsePartition] = field()
    topic_authorized_operations: int = field(int32, default=-0x8000_0000)


class DescribeTopicPartitionsResponse(
    Response, api=ApiKey.DESCRIBE_TOPIC_PARTITIONS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    topics: list[DescribeTopicPartitionsResponseTopic] = field()
    next_cursor: Cursor | None = field(nullable="0+", default=None)

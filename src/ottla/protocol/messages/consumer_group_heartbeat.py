"""ConsumerGroupHeartbeat (key 68): join, stay in, and leave a consumer group (KIP-848).

Versions. 1 may subscribe by a regular expression, and its clients make their own member ids
(KIP-1082).
"""

from ottla.base.ids import Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class TopicPartitions(Struct):
    topic_id: Uuid = field()
    partitions: list[int] = field(int32)


class ConsumerGroupHeartbeatRequest(
    Request, api=ApiKey.CONSUMER_GROUP_HEARTBEAT, versions="0-1", flexible="0+"
):
    group_id: str = field()
    member_id: str = field()
    member_epoch: int = field(int32)
    instance_id: str | None = field(nullable="0+", default=None)
    rack_id: str | None = field(nullable="0+", default=None)
    rebalance_timeout_ms: int = field(int32, default=-1)
    subscribed_topic_names: list[str] | None = field(nullable="0+", default=None)
    subscribed_topic_regex: str | None = field(versions="1+", nullable="1+", default=None)
    server_assignor: str | None = field(nullable="0+", default=None)
    topic_partitions: list[TopicPartitions] | None = field(nullable="0+", default=None)


class Assignment(Struct):
    topic_partitions: list[TopicPartitions] = field()


class ConsumerGroupHeartbeatResponse(
    Response, api=ApiKey.CONSUMER_GROUP_HEARTBEAT, versions="0-1", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    member_id: str | None = field(nullable="0+", default=None)
    member_epoch: int = field(int32, default=0)
    heartbeat_interval_ms: int = field(int32, default=0)
    assignment: Assignment | None = field(nullable="0+", default=None)

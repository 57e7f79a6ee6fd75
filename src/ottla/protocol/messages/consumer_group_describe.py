"""ConsumerGroupDescribe (key 69): the members of consumer groups, and what they read (KIP-848).

Versions. 1 tells members of the two protocols apart (KIP-1099).
"""

from ottla.base.ids import Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class ConsumerGroupDescribeRequest(
    Request, api=ApiKey.CONSUMER_GROUP_DESCRIBE, versions="0-1", flexible="0+"
):
    group_ids: list[str] = field()
    include_authorized_operations: bool = field()


class TopicPartitions(Struct):
    topic_id: Uuid = field()
    topic_name: str = field()
    partitions: list[int] = field(int32)


class Assignment(Struct):
    topic_partitions: list[TopicPartitions] = field(default_factory=list)


class Member(Struct):
    member_id: str = field()
    instance_id: str | None = field(nullable="0+", default=None)
    rack_id: str | None = field(nullable="0+", default=None)
    member_epoch: int = field(int32)
    client_id: str = field()
    client_host: str = field()
    subscribed_topic_names: list[str] = field()
    subscribed_topic_regex: str | None = field(nullable="0+", default=None)
    assignment: Assignment = field()
    target_assignment: Assignment = field()
    member_type: int = field(int8, versions="1+", default=-1, ignorable=True)


class DescribedGroup(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    group_id: str = field()
    group_state: str = field(default="")
    group_epoch: int = field(int32, default=0)
    assignment_epoch: int = field(int32, default=0)
    assignor_name: str = field(default="")
    members: list[Member] = field(default_factory=list)
    authorized_operations: int = field(int32, default=-(1 << 31))


class ConsumerGroupDescribeResponse(
    Response, api=ApiKey.CONSUMER_GROUP_DESCRIBE, versions="0-1", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    groups: list[DescribedGroup] = field(default_factory=list)

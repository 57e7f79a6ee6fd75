"""ListPartitionReassignments (key 46): partitions on their way to other replicas (KIP-455).

Versions. 0 alone.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class ListPartitionReassignmentsTopics(Struct):
    name: str = field()
    partition_indexes: list[int] = field(int32)


class ListPartitionReassignmentsRequest(
    Request, api=ApiKey.LIST_PARTITION_REASSIGNMENTS, versions="0", flexible="0+"
):
    timeout_ms: int = field(int32, default=60_000)
    topics: list[ListPartitionReassignmentsTopics] | None = field(nullable="0+", default=None)


class OngoingPartitionReassignment(Struct):
    partition_index: int = field(int32)
    replicas: list[int] = field(int32)
    adding_replicas: list[int] = field(int32)
    removing_replicas: list[int] = field(int32)


class OngoingTopicReassignment(Struct):
    name: str = field()
    partitions: list[OngoingPartitionReassignment] = field()


class ListPartitionReassignmentsResponse(
    Response, api=ApiKey.LIST_PARTITION_REASSIGNMENTS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    topics: list[OngoingTopicReassignment] = field()

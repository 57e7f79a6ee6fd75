"""AlterPartitionReassignments (key 45): give partitions other replicas (KIP-455), or take it back.

Versions. 1 can forbid that the number of replicas changes (KIP-860).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class ReassignablePartition(Struct):
    partition_index: int = field(int32)
    replicas: list[int] | None = field(int32, nullable="0+", default=None)


class ReassignableTopic(Struct):
    name: str = field()
    partitions: list[ReassignablePartition] = field()


class AlterPartitionReassignmentsRequest(
    Request, api=ApiKey.ALTER_PARTITION_REASSIGNMENTS, versions="0-1", flexible="0+"
):
    timeout_ms: int = field(int32, default=60_000)
    allow_replication_factor_change: bool = field(versions="1+", default=True)
    topics: list[ReassignableTopic] = field()


class ReassignablePartitionResponse(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class ReassignableTopicResponse(Struct):
    name: str = field()
    partitions: list[ReassignablePartitionResponse] = field()


class AlterPartitionReassignmentsResponse(
    Response, api=ApiKey.ALTER_PARTITION_REASSIGNMENTS, versions="0-1", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    allow_replication_factor_change: bool = field(versions="1+", default=True, ignorable=True)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    responses: list[ReassignableTopicResponse] = field()

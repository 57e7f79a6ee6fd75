"""ElectLeaders (key 43): let partitions be led by their preferred, or by any replica.

Versions. 0 elects preferred leaders alone, 1 has types of elections (KIP-460), 2 is flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class TopicPartitions(Struct):
    topic: str = field()
    partitions: list[int] = field(int32)


class ElectLeadersRequest(Request, api=ApiKey.ELECT_LEADERS, versions="0-2", flexible="2+"):
    election_type: int = field(int8, versions="1+", default=0)
    topic_partitions: list[TopicPartitions] | None = field(nullable="0+")
    timeout_ms: int = field(int32, default=60_000)


class PartitionResult(Struct):
    partition_id: int = field(int32)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class ReplicaElectionResult(Struct):
    topic: str = field()
    partition_result: list[PartitionResult] = field()


class ElectLeadersResponse(Response, api=ApiKey.ELECT_LEADERS, versions="0-2", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, versions="1+", default=0)
    replica_election_results: list[ReplicaElectionResult] = field()

"""DescribeQuorum (key 55): who agrees on the metadata, and how far each has come (KIP-595).

Versions. 1 has times (KIP-836); 2 has messages, directories and the nodes' listeners (KIP-853).
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64, uint16


class AskedPartitions:
    """A name of the request that Kafka has once more in the response."""

    class PartitionData(Struct):
        partition_index: int = field(int32)


class AskedTopics:
    """The same."""

    class TopicData(Struct):
        topic_name: str = field()
        partitions: list[AskedPartitions.PartitionData] = field()


class DescribeQuorumRequest(Request, api=ApiKey.DESCRIBE_QUORUM, versions="0-2", flexible="0+"):
    topics: list[AskedTopics.TopicData] = field()


class ReplicaState(Struct):
    replica_id: int = field(int32)
    replica_directory_id: Uuid = field(versions="2+", default=ZERO_UUID)
    log_end_offset: int = field(int64)
    last_fetch_timestamp: int = field(int64, versions="1+", default=-1, ignorable=True)
    last_caught_up_timestamp: int = field(int64, versions="1+", default=-1, ignorable=True)


class PartitionData(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(versions="2+", nullable="2+", default=None, ignorable=True)
    leader_id: int = field(int32, default=0)
    leader_epoch: int = field(int32, default=0)
    high_watermark: int = field(int64, default=0)
    current_voters: list[ReplicaState] = field(default_factory=list)
    observers: list[ReplicaState] = field(default_factory=list)


class TopicData(Struct):
    topic_name: str = field()
    partitions: list[PartitionData] = field()


class Listener(Struct):
    name: str = field(versions="2+")
    host: str = field(versions="2+")
    port: int = field(uint16, versions="2+")


class Node(Struct):
    node_id: int = field(int32, versions="2+")
    listeners: list[Listener] = field()


class DescribeQuorumResponse(Response, api=ApiKey.DESCRIBE_QUORUM, versions="0-2", flexible="0+"):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(versions="2+", nullable="2+", default=None, ignorable=True)
    topics: list[TopicData] = field()
    nodes: list[Node] = field(versions="2+", default_factory=list)

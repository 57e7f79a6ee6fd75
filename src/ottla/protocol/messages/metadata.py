"""Metadata (key 3): who the brokers are, and which topics and partitions they lead.

`topics` None asks for all topics. In version 0 there was no null: there an empty list means all.
Versions. 1 has the controller, racks and which topics are internal; 2 the cluster id; 4 whether
a topic may be made by asking; 5 offline replicas; 7 leader epochs; 8 authorised operations (of
the cluster until 10); 9 is flexible; 10 has topic ids, 12 lets one ask by id alone; 13 has an
error of its own. Versions 0 and 1 are still what Python clients begin with.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class MetadataRequestTopic(Struct):
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    name: str | None = field(nullable="10+", default=None)


class MetadataRequest(Request, api=ApiKey.METADATA, versions="0-13", flexible="9+"):
    topics: list[MetadataRequestTopic] | None = field(nullable="1+")
    allow_auto_topic_creation: bool = field(versions="4+", default=True)
    include_cluster_authorized_operations: bool = field(versions="8-10", default=False)
    include_topic_authorized_operations: bool = field(versions="8+", default=False)


class MetadataResponseBroker(Struct):
    node_id: int = field(int32)
    host: str = field()
    port: int = field(int32)
    rack: str | None = field(versions="1+", nullable="0+", default=None, ignorable=True)


class MetadataResponsePartition(Struct):
    error_code: int = field(int16, default=0)
    partition_index: int = field(int32)
    leader_id: int = field(int32)
    leader_epoch: int = field(int32, versions="7+", default=-1, ignorable=True)
    replica_nodes: list[int] = field(int32)
    isr_nodes: list[int] = field(int32)
    offline_replicas: list[int] = field(int32, versions="5+", default_factory=list, ignorable=True)


class MetadataResponseTopic(Struct):
    error_code: int = field(int16, default=0)
    name: str | None = field(nullable="12+", default=None)
    topic_id: Uuid = field(versions="10+", default=ZERO_UUID, ignorable=True)
    is_internal: bool = field(versions="1+", default=False, ignorable=True)
    partitions: list[MetadataResponsePartition] = field()
    topic_authorized_operations: int = field(int32, versions="8+", default=-0x8000_0000)


class MetadataResponse(Response, api=ApiKey.METADATA, versions="0-13", flexible="9+"):
    throttle_time_ms: int = field(int32, versions="3+", default=0, ignorable=True)
    brokers: list[MetadataResponseBroker] = field()
    cluster_id: str | None = field(versions="2+", nullable="0+", default=None, ignorable=True)
    controller_id: int = field(int32, versions="1+", default=-1, ignorable=True)
    topics: list[MetadataResponseTopic] = field()
    cluster_authorized_operations: int = field(int32, versions="8-10", default=-0x8000_0000)
    error_code: int = field(int16, versions="13+", default=0, ignorable=True)

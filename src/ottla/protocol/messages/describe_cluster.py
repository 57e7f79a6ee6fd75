"""DescribeCluster (key 60): the cluster's id, brokers and controller (KIP-700).

Versions. 1 tells brokers (endpoint type 1) from controllers (2); 2 may include fenced brokers.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class DescribeClusterRequest(Request, api=ApiKey.DESCRIBE_CLUSTER, versions="0-2", flexible="0+"):
    include_cluster_authorized_operations: bool = field()
    endpoint_type: int = field(int8, versions="1+", default=1)
    include_fenced_brokers: bool = field(versions="2+", default=False)


class DescribeClusterBroker(Struct):
    broker_id: int = field(int32)
    host: str = field()
    port: int = field(int32)
    rack: str | None = field(nullable="0+", default=None)
    is_fenced: bool = field(versions="2+", default=False)


class DescribeClusterResponse(Response, api=ApiKey.DESCRIBE_CLUSTER, versions="0-2", flexible="0+"):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    endpoint_type: int = field(int8, versions="1+", default=1)
    cluster_id: str = field()
    controller_id: int = field(int32, default=-1)
    brokers: list[DescribeClusterBroker] = field()
    cluster_authorized_operations: int = field(int32, default=-0x8000_0000)

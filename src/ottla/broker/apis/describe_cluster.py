"""DescribeCluster (key 60): the cluster's id, brokers and controller (KIP-700).

Behaviour. Every listener is a broker's: asking it for controllers is MISMATCHED_ENDPOINT_TYPE,
for anything else UNSUPPORTED_ENDPOINT_TYPE. A broker that is registered serves, so there are no
fenced ones to include.
Versions. 1 tells brokers (endpoint type 1) from controllers (2); 2 may include fenced brokers.
"""

from typing import Final

from ottla.base.errors import ErrorCode
from ottla.broker.apis.metadata import broker_rows
from ottla.broker.context import RequestContext
from ottla.broker.operations import NOT_ASKED, cluster_operations
from ottla.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

BROKERS: Final = 1
CONTROLLERS: Final = 2


def describe_cluster(
    context: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    if request.endpoint_type != BROKERS:
        return _mismatch(request.endpoint_type)
    image = context.services.cluster.image
    wants_operations = request.include_cluster_authorized_operations
    return DescribeClusterResponse(
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
        brokers=[
            DescribeClusterBroker(broker_id=node, host=host, port=port, rack=rack)
            for node, host, port, rack in broker_rows(context, image)
        ],
        cluster_authorized_operations=cluster_operations(context)
        if wants_operations
        else NOT_ASKED,
    )


def _mismatch(endpoint_type: int) -> DescribeClusterResponse:
    if endpoint_type == CONTROLLERS:
        code = ErrorCode.MISMATCHED_ENDPOINT_TYPE
        message = "The request was for a controller, and reached a broker."
    else:
        code = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
        message = f"Unknown endpoint type {endpoint_type}."
    return DescribeClusterResponse(
        error_code=code, error_message=message, cluster_id="", brokers=[]
    )

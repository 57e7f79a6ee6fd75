"""ApiVersions (key 18): what this broker speaks.

Behaviour. Every version is answered; one that is too new gets a version 0 body with
UNSUPPORTED_VERSION and the whole table, so that the client can choose again (KIP-511). A client
software name or version that is not `[a-zA-Z0-9](...)` is INVALID_REQUEST, as in Kafka. A client
that expects another cluster or node behind this address is told to begin anew from its bootstrap
servers, REBOOTSTRAP_REQUIRED (KIP-1242). No features are named: nothing here has levels yet.
Versions. 3 is flexible and carries the client's name and the cluster's features, 4 allows
features whose lowest level is 0, 5 names the cluster and node that the client expects.
"""

import re
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.registry import advertised
from ottla.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def api_versions(
    context: RequestContext, request: ApiVersionsRequest | None
) -> ApiVersionsResponse:
    return ApiVersionsResponse(
        error_code=_error_of(context, request),
        api_keys=[
            ApiVersion(api_key=key, min_version=lowest, max_version=highest)
            for key, lowest, highest in advertised()
        ],
    )


def _error_of(context: RequestContext, request: ApiVersionsRequest | None) -> ErrorCode:
    if request is None:
        return ErrorCode.UNSUPPORTED_VERSION
    if context.api_version >= 3:
        names = (request.client_software_name, request.client_software_version)
        if not all(_SOFTWARE.fullmatch(name) for name in names):
            return ErrorCode.INVALID_REQUEST
    if request.cluster_id is not None:
        services = context.services
        expected = (request.cluster_id, request.node_id)
        if expected != (services.cluster.image.cluster_id, services.node_id):
            return ErrorCode.REBOOTSTRAP_REQUIRED
    return ErrorCode.NONE

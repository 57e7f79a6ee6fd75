"""ApiVersions (key 18): what this broker speaks.

Behaviour. Every version is answered; one that is too new gets a version 0 body with
UNSUPPORTED_VERSION and the whole table, so that the client can choose again (KIP-511). A client
software name or version that is not `[a-zA-Z0-9](...)` is INVALID_REQUEST, as in Kafka. A client
that expects another cluster or node behind this address is told to begin anew from its bootstrap
servers, REBOOTSTRAP_REQUIRED (KIP-1242). The features' levels are those of the image; their epoch
is its revision.
Versions. 3 is flexible and carries the client's name and the cluster's features, 4 allows
features whose lowest level is 0, 5 names the cluster and node that the client expects.
"""

import re
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.registry import advertised
from ottla.metadata.features import FEATURES, level_of
from ottla.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

FEATURES_VERSION: Final = 3
ZERO_VERSION: Final = 4
"""Before it a client does not take a feature whose lowest level is 0."""
_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def api_versions(
    context: RequestContext, request: ApiVersionsRequest | None
) -> ApiVersionsResponse:
    answer = ApiVersionsResponse(
        error_code=_error_of(context, request),
        api_keys=[
            ApiVersion(api_key=key, min_version=lowest, max_version=highest)
            for key, lowest, highest in advertised()
        ],
    )
    if context.api_version >= FEATURES_VERSION:
        _name_features(answer, context)
    return answer


def _name_features(answer: ApiVersionsResponse, context: RequestContext) -> None:
    image = context.services.cluster.image
    answer.supported_features = [
        SupportedFeatureKey(name=name, min_version=each.lowest, max_version=each.highest)
        for name, each in FEATURES.items()
        if each.lowest or context.api_version >= ZERO_VERSION
    ]
    levels = {name: level_of(name, image.features) for name in FEATURES}
    answer.finalized_features_epoch = image.revision
    answer.finalized_features = [
        FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
        for name, level in levels.items()
        if level
    ]


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

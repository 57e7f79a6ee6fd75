"""ListConfigResources (key 74): names of resources that have configs (KIP-1142).

Behaviour. Topics and brokers are listed whether or not something is set of them, groups if
something is; of client metrics there are none yet. A type that does not exist is
UNSUPPORTED_VERSION.
Authorised by: Describe Configs on the cluster.
Versions. 0 lists client metrics; 1 asks for types, with an empty list for all.
"""

from collections.abc import Iterable

from ottla.base.errors import ErrorCode
from ottla.broker.configs import ConfigResourceType
from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from ottla.security.acl import Operation, ResourceType


def list_config_resources(
    context: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    if not context.may(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER):
        return ListConfigResourcesResponse(
            error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, config_resources=[]
        )
    types: Iterable[int] = dict.fromkeys(request.resource_types) or ConfigResourceType
    if context.api_version == 0:
        types = [ConfigResourceType.CLIENT_METRICS]
    image = context.services.cluster.image
    try:
        resources = [
            ConfigResource(resource_name=name, resource_type=number)
            for number in types
            for name in _names(image, ConfigResourceType(number))
        ]
    except ValueError:
        return ListConfigResourcesResponse(
            error_code=ErrorCode.UNSUPPORTED_VERSION, config_resources=[]
        )
    return ListConfigResourcesResponse(config_resources=resources)


def _names(image: ClusterImage, kind: ConfigResourceType) -> Iterable[str]:
    if kind is ConfigResourceType.TOPIC:
        return image.topics
    if kind in (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER):
        return map(str, image.brokers)
    if kind is ConfigResourceType.GROUP:
        return image.group_configs
    return ()

"""AlterConfigs (key 33): replace all configs of a resource. Clients prefer IncrementalAlterConfigs.

Behaviour. Whatever was set of the resource and is not named again is unset. Each resource is
altered, or refused and left as it was, on its own; see configs for who may be altered.
`validate_only` checks everything and changes nothing.
Authorised by: Alter Configs on the topic or group, or on the cluster.
Versions. 2 is flexible. Nothing else changed.
"""

from ottla.broker.configs import Alteration, ConfigChange, alter
from ottla.broker.context import RequestContext
from ottla.metadata.config_ops import OpType
from ottla.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


async def alter_configs(
    context: RequestContext, request: AlterConfigsRequest
) -> AlterConfigsResponse:
    alterations = [
        Alteration(
            each.resource_type,
            each.resource_name,
            [ConfigChange(config.name, OpType.SET, config.value) for config in each.configs],
        )
        for each in request.resources
    ]
    outcomes = await alter(context, alterations, replace=True, validate_only=request.validate_only)
    return AlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=outcome.error_code,
                error_message=outcome.error_message,
                resource_type=outcome.resource_type,
                resource_name=outcome.resource_name,
            )
            for outcome in outcomes
        ]
    )

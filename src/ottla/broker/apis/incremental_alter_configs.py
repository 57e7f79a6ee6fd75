"""IncrementalAlterConfigs (key 44): change some configs of a resource (KIP-339).

Behaviour. Operations are 0 set, 1 delete (back to the default), 2 append and 3 subtract, the
last two for lists; a key may be named once. Each resource is altered, or refused and left as it
was, on its own; see configs for who may be altered. `validate_only` checks everything and
changes nothing.
Authorised by: Alter Configs on the topic or group, or on the cluster.
Versions. 1 is flexible. Nothing else changed.
"""

from ottla.broker.configs import Alteration, ConfigChange, alter
from ottla.broker.context import RequestContext
from ottla.protocol.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


async def incremental_alter_configs(
    context: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    alterations = [
        Alteration(
            each.resource_type,
            each.resource_name,
            [
                ConfigChange(config.name, config.config_operation, config.value)
                for config in each.configs
            ],
        )
        for each in request.resources
    ]
    outcomes = await alter(context, alterations, replace=False, validate_only=request.validate_only)
    return IncrementalAlterConfigsResponse(
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

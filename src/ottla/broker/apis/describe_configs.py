"""DescribeConfigs (key 32): the configs of topics, brokers and others.

Behaviour. Each resource is answered on its own, with all of its configs, or those among
`configuration_keys` that it has. See configs for what each kind of resource has. Values of
secrets are null. What is asked for twice in the same words is answered once, so that a short
request cannot ask for an endless answer; between resources others get their turn.
Authorised by: Describe Configs on the topic or group, or on the cluster.
Versions. 1 has synonyms and sources, 3 types and documentation, both on demand; 4 is flexible.
"""

import asyncio

from ottla.base.errors import KafkaError
from ottla.base.options import ConfigEntry
from ottla.broker.configs import describe
from ottla.broker.context import RequestContext
from ottla.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)


async def describe_configs(
    context: RequestContext, request: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    unique = {
        (each.resource_type, each.resource_name, tuple(each.configuration_keys or ())): each
        for each in request.resources
    }
    results = []
    for resource in unique.values():
        results.append(_result(context, request, resource))
        await asyncio.sleep(0)
    return DescribeConfigsResponse(results=results)


def _result(
    context: RequestContext, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        resource_type=resource.resource_type, resource_name=resource.resource_name, configs=[]
    )
    try:
        entries = describe(context, resource.resource_type, resource.resource_name)
    except KafkaError as error:
        result.error_code, result.error_message = error.code, error.message
        return result
    keys = resource.configuration_keys  # none is all, as null is
    result.configs = [_row(request, entry) for entry in entries if not keys or entry.name in keys]
    return result


def _row(request: DescribeConfigsRequest, entry: ConfigEntry) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.is_sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=place.name, value=place.value, source=place.source)
            for place in (entry.synonyms if request.include_synonyms else ())
        ],
        config_type=entry.type,
        documentation=entry.documentation if request.include_documentation else None,
    )

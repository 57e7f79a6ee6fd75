"""DescribeAcls (key 29): the access control entries that a filter matches.

Behaviour. Entries come by the resource that they speak of. Without an authorizer SECURITY_DISABLED.
Versions. See the message.
Authorised by: Describe on the cluster.
"""

from ottla.base.errors import KafkaError
from ottla.broker.acls import filter_of, require_authorizer
from ottla.broker.context import RequestContext
from ottla.protocol.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)
from ottla.security.acl import Operation, PatternType, ResourceType


def describe_acls(context: RequestContext, request: DescribeAclsRequest) -> DescribeAclsResponse:
    try:
        require_authorizer(context, Operation.DESCRIBE)
        asked = filter_of(request)
        asked.check()
    except KafkaError as error:
        return DescribeAclsResponse(
            error_code=error.code, error_message=error.message, resources=[]
        )
    resources: dict[tuple[ResourceType, str, PatternType], list[AclDescription]] = {}
    for acl in context.services.cluster.image.acls.values():
        if asked.matches(acl):
            resource = (acl.resource_type, acl.name, acl.pattern_type)
            resources.setdefault(resource, []).append(
                AclDescription(
                    principal=acl.principal,
                    host=acl.host,
                    operation=acl.operation,
                    permission_type=acl.permission,
                )
            )
    return DescribeAclsResponse(
        resources=[
            DescribeAclsResource(
                resource_type=kind, resource_name=name, pattern_type=pattern, acls=rows
            )
            for (kind, name, pattern), rows in resources.items()
        ]
    )

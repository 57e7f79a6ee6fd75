"""What the three ACL APIs have in common: who may ask, and a filter as it is asked for."""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.protocol.messages.delete_acls import DeleteAclsFilter
from ottla.protocol.messages.describe_acls import DescribeAclsRequest
from ottla.security.acl import (
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
    known,
)


def require_authorizer(context: RequestContext, operation: Operation) -> None:
    """KafkaError where there is no authorizer, or the client may not do that on the cluster."""
    if context.services.authorizer is None:
        raise KafkaError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured on the broker.")
    context.require(operation, ResourceType.CLUSTER)


def filter_of(asked: DescribeAclsRequest | DeleteAclsFilter) -> AclFilter:
    return AclFilter(
        known(ResourceType, asked.resource_type_filter),
        known(PatternType, asked.pattern_type_filter),
        asked.resource_name_filter,
        asked.principal_filter,
        asked.host_filter,
        known(Operation, asked.operation),
        known(Permission, asked.permission_type),
    )

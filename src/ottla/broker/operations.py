"""Which operations a client may do on a resource, as the bit mask that answers carry (KIP-430).

Bit n stands for the operation of number n. Without an authorizer whatever the kind of resource
knows is allowed.
"""

from typing import Final

from ottla.broker.context import RequestContext
from ottla.security.acl import CLUSTER_NAME, OPERATIONS, Operation, ResourceType

NOT_ASKED: Final = -0x8000_0000
"""What the field holds where the client did not ask."""


def authorized_operations(
    context: RequestContext, resource_type: ResourceType, name: str = CLUSTER_NAME
) -> int:
    return sum(
        1 << operation
        for operation in OPERATIONS[resource_type]
        if context.may(operation, resource_type, name, quiet=True)
    )


def cluster_operations(context: RequestContext) -> int:
    """Those on the cluster; none for who may not describe it."""
    if not context.may(Operation.DESCRIBE, ResourceType.CLUSTER):
        return 0
    return authorized_operations(context, ResourceType.CLUSTER)

"""CreateAcls (key 30): add access control entries.

Behaviour. Each is answered on its own, and counts on this node when the answer leaves; one that is
there already is no error. What cannot be kept is INVALID_REQUEST. Without an authorizer
SECURITY_DISABLED, past the bounds of the store POLICY_VIOLATION for every one.
Versions. See the message.
Authorised by: Alter on the cluster.
"""

from ottla.base.errors import KafkaError
from ottla.broker.acls import require_authorizer
from ottla.broker.context import RequestContext
from ottla.protocol.messages.create_acls import (
    AclCreation,
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
)
from ottla.security.acl import Acl, Operation, PatternType, Permission, ResourceType, known


async def create_acls(context: RequestContext, request: CreateAclsRequest) -> CreateAclsResponse:
    outcomes: list[KafkaError | None]
    try:
        require_authorizer(context, Operation.ALTER)
        acls = [_acl(each) for each in request.creations]
        outcomes = await context.services.controller.acls.create(acls)
    except KafkaError as error:
        outcomes = [error] * len(request.creations)
    return CreateAclsResponse(results=[_row(outcome) for outcome in outcomes])


def _acl(asked: AclCreation) -> Acl:
    return Acl(
        known(ResourceType, asked.resource_type),
        known(PatternType, asked.resource_pattern_type),
        asked.resource_name,
        asked.principal,
        asked.host,
        known(Operation, asked.operation),
        known(Permission, asked.permission_type),
    )


def _row(fault: KafkaError | None) -> AclCreationResult:
    if fault is None:
        return AclCreationResult()
    return AclCreationResult(error_code=fault.code, error_message=fault.message)

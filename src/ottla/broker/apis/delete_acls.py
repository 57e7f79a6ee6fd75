"""DeleteAcls (key 31): remove the access control entries that filters match.

Behaviour. Each filter is answered on its own, with what it found; all that was found goes at once.
A filter with a part that is not known is INVALID_REQUEST. Without an authorizer SECURITY_DISABLED.
Versions. See the message.
Authorised by: Alter on the cluster.
"""

from ottla.base.errors import KafkaError
from ottla.broker.acls import filter_of, require_authorizer
from ottla.broker.context import RequestContext
from ottla.protocol.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from ottla.security.acl import Acl, Operation


async def delete_acls(context: RequestContext, request: DeleteAclsRequest) -> DeleteAclsResponse:
    outcomes: list[list[Acl] | KafkaError]
    try:
        require_authorizer(context, Operation.ALTER)
        filters = [filter_of(each) for each in request.filters]
        outcomes = await context.services.controller.acls.delete(filters)
    except KafkaError as error:
        outcomes = [error] * len(request.filters)
    return DeleteAclsResponse(filter_results=[_row(outcome) for outcome in outcomes])


def _row(outcome: list[Acl] | KafkaError) -> DeleteAclsFilterResult:
    if isinstance(outcome, KafkaError):
        return DeleteAclsFilterResult(
            error_code=outcome.code, error_message=outcome.message, matching_acls=[]
        )
    return DeleteAclsFilterResult(
        matching_acls=[
            DeleteAclsMatchingAcl(
                resource_type=acl.resource_type,
                resource_name=acl.name,
                pattern_type=acl.pattern_type,
                principal=acl.principal,
                host=acl.host,
                operation=acl.operation,
                permission_type=acl.permission,
            )
            for acl in outcome
        ]
    )

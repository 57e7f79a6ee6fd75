"""LeaveGroup (key 13): members leave a classic group at once.

Behaviour. Each is answered for itself, and the others rebalance. An administrator removes a
static member by its instance id alone.
Authorised by: Read on the group.
Versions. Up to 2 one member, answered at the top; 3 many, 4 is flexible, 5 has reasons.
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
)
from ottla.security.acl import Operation, ResourceType

MANY_VERSION = 3


def leave_group(context: RequestContext, request: LeaveGroupRequest) -> Any:
    if not request.group_id:
        return _refuse(ErrorCode.INVALID_GROUP_ID)
    if not context.may(Operation.READ, ResourceType.GROUP, request.group_id):
        return _refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    is_one = context.api_version < MANY_VERSION
    if is_one:
        request.members = [MemberIdentity(member_id=request.member_id)]

    def leave(machine: GroupMachine, now_ms: int) -> Outcome:
        outcome = machine.leave(request, now_ms)
        if not is_one:
            return outcome
        code = outcome.response.members[0].error_code
        return outcome._replace(response=LeaveGroupResponse(error_code=code))

    pending = Pending(_refuse)
    context.services.groups.perform(request.group_id, leave, pending)
    return pending.outcome


def _refuse(code: ErrorCode) -> LeaveGroupResponse:
    return LeaveGroupResponse(error_code=coordinator_error(code))

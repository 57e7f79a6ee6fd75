"""Heartbeat (key 12): a member of a classic group is alive.

Behaviour. REBALANCE_IN_PROGRESS tells it to join again. While the coordinator loads the group,
the answer is that all is well, as in Kafka.
Authorised by: Read on the group.
Versions. 3 has static members, 4 is flexible.
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.security.acl import Operation, ResourceType


def heartbeat(context: RequestContext, request: HeartbeatRequest) -> Any:
    if not request.group_id:
        return _refuse(ErrorCode.INVALID_GROUP_ID)
    if not context.may(Operation.READ, ResourceType.GROUP, request.group_id):
        return _refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    pending = Pending(_refuse)
    context.services.groups.perform(
        request.group_id,
        lambda machine, now_ms: machine.heartbeat(request),
        pending,
    )
    return pending.outcome


def _refuse(code: ErrorCode) -> HeartbeatResponse:
    if code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        return HeartbeatResponse()
    return HeartbeatResponse(error_code=coordinator_error(code))

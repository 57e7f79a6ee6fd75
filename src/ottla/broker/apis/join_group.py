"""JoinGroup (key 11): enter a classic group; answered when its members are known.

Behaviour. The answer comes when all members have joined, at the latest after the largest of their
rebalance timeouts; the first members of an empty group wait `group.initial.rebalance.delay.ms`
for others. The leader gets everybody's subscriptions. The session timeout lies between
`group.min.session.timeout.ms` and `group.max.session.timeout.ms`, else INVALID_SESSION_TIMEOUT.
A client that goes away while it waits is out by its timeouts.
Authorised by: Read on the group.
Versions. 1 has a rebalance timeout, 4 gives ids before members join (KIP-394), 5 has static
members (KIP-345), 7 answers the protocol type, 9 lets a leader skip the assignment.
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.member import Sender
from ottla.coordinator.group.rebalance import refused_join
from ottla.coordinator.pending import PatientPending
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from ottla.security.acl import Operation, ResourceType


def join_group(context: RequestContext, request: JoinGroupRequest) -> Any:
    version = context.api_version
    settings = context.services.settings

    def refuse(code: ErrorCode) -> JoinGroupResponse:
        return refused_join(coordinator_error(code), request.member_id, version)

    if not request.group_id:
        return refuse(ErrorCode.INVALID_GROUP_ID)
    if not context.may(Operation.READ, ResourceType.GROUP, request.group_id):
        return refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    shortest, longest = (
        settings.group_min_session_timeout_ms,
        settings.group_max_session_timeout_ms,
    )
    if not shortest <= request.session_timeout_ms <= longest:
        return refuse(ErrorCode.INVALID_SESSION_TIMEOUT)
    pending = PatientPending(refuse, version)
    sender = Sender(context.client_id or "", "/" + context.connection.peer.rpartition(":")[0])
    context.services.groups.perform(
        request.group_id,
        lambda machine, now_ms: machine.join(sender, request, pending, now_ms),
        pending,
    )
    return pending.outcome

"""SyncGroup (key 14): a member's assignment; the leader brings those of all.

Behaviour. Followers wait for the leader. Its assignments are written to the log with the group's
members, and everybody is answered when that is committed. From version 5 protocol type and name
must be there, and be the group's: INCONSISTENT_GROUP_PROTOCOL.
Authorised by: Read on the group.
Versions. 3 has static members, 4 is flexible, 5 names the protocol on both sides (KIP-559).
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.rebalance import refused_sync
from ottla.coordinator.pending import PatientPending
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ottla.security.acl import Operation, ResourceType

NAMED_VERSION = 5


def sync_group(context: RequestContext, request: SyncGroupRequest) -> Any:
    def refuse(code: ErrorCode) -> SyncGroupResponse:
        return refused_sync(coordinator_error(code))

    is_named = request.protocol_type is not None and request.protocol_name is not None
    if context.api_version >= NAMED_VERSION and not is_named:
        return refuse(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if not request.group_id:
        return refuse(ErrorCode.INVALID_GROUP_ID)
    if not context.may(Operation.READ, ResourceType.GROUP, request.group_id):
        return refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    pending = PatientPending(refuse, context.api_version)
    context.services.groups.perform(
        request.group_id,
        lambda machine, now_ms: machine.sync(request, pending, now_ms),
        pending,
    )
    return pending.outcome

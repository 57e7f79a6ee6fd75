"""ConsumerGroupHeartbeat (key 68): join, stay in and leave a consumer group (KIP-848).

Behaviour. The coordinator assigns, by its assignors; the answer names the member's epoch, and what
it may read if that is news. A classic group of consumers becomes a consumer group with the first
member that joins in this way. Without `consumer` in `group.coordinator.rebalance.protocols`, or
with the cluster at group.version 0, UNSUPPORTED_VERSION.
Authorised by: Read on the group, and Describe on each topic that is named; expressions match
those topics alone.
Versions. 1 subscribes by regular expressions too, and its members make their own ids (KIP-1082).
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.consumer_membership import refused_heartbeat
from ottla.coordinator.group.member import Sender
from ottla.coordinator.pending import Pending
from ottla.metadata.features import GROUP, level_of
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from ottla.security.acl import Operation, ResourceType

CONSUMER = "consumer"


def consumer_group_heartbeat(
    context: RequestContext, request: ConsumerGroupHeartbeatRequest
) -> Any:
    services, version = context.services, context.api_version
    is_allowed = CONSUMER in services.settings.group_coordinator_rebalance_protocols
    if not (is_allowed and level_of(GROUP, services.cluster.image.features)):
        return refused_heartbeat(
            ErrorCode.UNSUPPORTED_VERSION, "The consumer group protocol is not enabled."
        )
    if not request.group_id:
        return refused_heartbeat(ErrorCode.INVALID_REQUEST, "GroupId can't be empty.")
    if not context.may(Operation.READ, ResourceType.GROUP, request.group_id):
        return refused_heartbeat(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    topics = request.subscribed_topic_names or ()
    if not all(context.may(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in topics):
        return refused_heartbeat(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    sender = Sender(
        context.client_id or "",
        "/" + context.connection.peer.rpartition(":")[0],
        lambda name: context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True),
    )
    pending = Pending(_refuse, version)
    services.groups.perform(
        request.group_id,
        lambda machine, now_ms: machine.consumers.heartbeat(sender, request, version, now_ms),
        pending,
    )
    return pending.outcome


def _refuse(code: ErrorCode) -> ConsumerGroupHeartbeatResponse:
    return refused_heartbeat(coordinator_error(code))

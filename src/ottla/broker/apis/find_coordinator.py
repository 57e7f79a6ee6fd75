"""FindCoordinator (key 10): which node coordinates a group or a transactional id.

Behaviour. The node that leads the key's partition of `__consumer_offsets` or `__transaction_state`,
which is made for the first who asks. No coordinator of share groups runs yet: INVALID_REQUEST.
Authorised by: Describe on the group or the transactional id.
Versions. 0 names one group, 1 adds the kind of key, 3 is flexible, 4 asks for many keys at once,
6 knows share groups.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.apis.metadata import broker_rows
from ottla.broker.context import RequestContext
from ottla.broker.rows import side_by_side
from ottla.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from ottla.security.acl import Operation, ResourceType

GROUP, TRANSACTION = 0, 1
RESOURCES = {GROUP: ResourceType.GROUP, TRANSACTION: ResourceType.TRANSACTIONAL_ID}
MANY_VERSION = 4


async def find_coordinator(
    context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    kind = request.key_type
    if context.api_version >= MANY_VERSION:
        # A repeat is answered once: a short request must not ask for an endless answer.
        keys = dict.fromkeys(request.coordinator_keys)
        rows = await side_by_side(_coordinator(context, kind, key) for key in keys)
        return FindCoordinatorResponse(coordinators=rows)
    row = await _coordinator(context, kind, request.key)
    return FindCoordinatorResponse(
        error_code=row.error_code,
        error_message=row.error_message,
        node_id=row.node_id,
        host=row.host,
        port=row.port,
    )


async def _coordinator(context: RequestContext, kind: int, key: str) -> Coordinator:
    try:
        if kind not in RESOURCES:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, f"There is no coordinator of kind {kind} here."
            )
        context.require(Operation.DESCRIBE, RESOURCES[kind], key)
        services = context.services
        coordinator = services.groups if kind == GROUP else services.transactions
        leader = await coordinator.node_of(key)
    except KafkaError as error:
        return Coordinator(
            key=key,
            node_id=-1,
            host="",
            port=-1,
            error_code=error.code,
            error_message=error.message,
        )
    for node_id, host, port, _ in broker_rows(context, context.services.cluster.image):
        if node_id == leader:
            return Coordinator(key=key, node_id=node_id, host=host, port=port, error_message=None)
    raise AssertionError("the coordinator is a broker of the image")

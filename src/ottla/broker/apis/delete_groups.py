"""DeleteGroups (key 42): forget groups and the offsets that they committed.

Behaviour. Each is answered for itself: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP while it has members.
Authorised by: Delete on each group.
Versions. 2 is flexible, 3 has messages.
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.broker.rows import side_by_side
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.protocol.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from ottla.security.acl import Operation, ResourceType


async def delete_groups(
    context: RequestContext, request: DeleteGroupsRequest
) -> DeleteGroupsResponse:
    group_ids = dict.fromkeys(request.groups_names)
    rows = await side_by_side(_delete(context, group_id) for group_id in group_ids)
    return DeleteGroupsResponse(results=rows)


async def _delete(context: RequestContext, group_id: str) -> DeletableGroupResult:
    row = DeletableGroupResult(group_id=group_id)

    def delete(machine: GroupMachine, now_ms: int) -> Outcome:
        return Outcome(machine.admin.delete(group_id), row, is_divisible=True)

    try:
        context.require(Operation.DELETE, ResourceType.GROUP, group_id)
        await context.services.groups.ask(group_id, delete)
    except KafkaError as error:
        row.error_code = coordinator_error(error.code)
    return row

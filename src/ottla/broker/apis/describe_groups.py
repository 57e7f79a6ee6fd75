"""DescribeGroups (key 15): state and members of classic groups.

Behaviour. A group that is not there is Dead, and no error, up to version 5. What members said and
what they were assigned is told of a stable group.
Authorised by: Describe on each group.
Versions. 3 asks for authorized operations, 4 has instance ids, 5 is flexible, 6 says
GROUP_ID_NOT_FOUND.
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.broker.operations import authorized_operations
from ottla.broker.rows import side_by_side
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from ottla.security.acl import Operation, ResourceType


async def describe_groups(
    context: RequestContext, request: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    # A repeat is answered once: a short request must not ask for an endless answer.
    group_ids = dict.fromkeys(request.groups)
    groups = await side_by_side(_describe(context, group_id) for group_id in group_ids)
    if request.include_authorized_operations:
        for group in groups:
            if not group.error_code:
                group.authorized_operations = authorized_operations(
                    context, ResourceType.GROUP, group.group_id
                )
    return DescribeGroupsResponse(groups=groups)


async def _describe(context: RequestContext, group_id: str) -> DescribedGroup:
    version = context.api_version

    def describe(machine: GroupMachine, now_ms: int) -> Outcome:
        return Outcome(response=machine.admin.describe(group_id, version))

    try:
        context.require(Operation.DESCRIBE, ResourceType.GROUP, group_id)
        group: DescribedGroup = await context.services.groups.ask(group_id, describe)
    except KafkaError as error:
        return DescribedGroup(group_id=group_id, error_code=coordinator_error(error.code))
    return group

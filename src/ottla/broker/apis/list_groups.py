"""ListGroups (key 16): the groups that this node coordinates.

Behaviour. Filters are read without regard to case; an unknown state or type is a group's that is
not there. While a part of the groups loads, COORDINATOR_LOAD_IN_PROGRESS.
Authorised by: Describe on the cluster; else groups without Describe are left out.
Versions. 3 is flexible, 4 filters by state (KIP-518), 5 by type (KIP-848).
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from ottla.security.acl import Operation, ResourceType


async def list_groups(context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
    states = frozenset(each.strip().lower() for each in request.states_filter)
    types = frozenset(each.strip().lower() for each in request.types_filter)

    def listed(machine: GroupMachine, now_ms: int) -> Outcome:
        return Outcome(response=machine.admin.listed(states, types))

    try:
        shards = await context.services.groups.ask_all(listed)
    except KafkaError as error:
        return ListGroupsResponse(error_code=coordinator_error(error.code))
    sees_all = context.may(Operation.DESCRIBE, ResourceType.CLUSTER, quiet=True)
    return ListGroupsResponse(
        groups=[
            group
            for groups in shards
            for group in groups
            if sees_all
            or context.may(Operation.DESCRIBE, ResourceType.GROUP, group.group_id, quiet=True)
        ]
    )

"""ConsumerGroupDescribe (key 69): state, members and assignments of consumer groups (KIP-848).

Behaviour. Each group is answered for itself; a classic group, too, is GROUP_ID_NOT_FOUND here.
Authorised by: Describe on each group, and on the topics that its members read.
Versions. 1 tells members of the two protocols apart (KIP-1099).
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.broker.operations import authorized_operations
from ottla.broker.rows import side_by_side
from ottla.coordinator.group.consumer_admin import described
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)
from ottla.security.acl import Operation, ResourceType


async def consumer_group_describe(
    context: RequestContext, request: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse:
    # A repeat is answered once: a short request must not ask for an endless answer.
    group_ids = dict.fromkeys(request.group_ids)
    groups = await side_by_side(_describe(context, group_id) for group_id in group_ids)
    if request.include_authorized_operations:
        for group in groups:
            if not group.error_code:
                group.authorized_operations = authorized_operations(
                    context, ResourceType.GROUP, group.group_id
                )
    return ConsumerGroupDescribeResponse(groups=groups)


async def _describe(context: RequestContext, group_id: str) -> DescribedGroup:
    services = context.services
    image, assignor = services.cluster.image, services.settings.group_consumer_assignors[0]

    def describe(machine: GroupMachine, now_ms: int) -> Outcome:
        return Outcome(response=described(machine.groups, group_id, image, assignor))

    try:
        context.require(Operation.DESCRIBE, ResourceType.GROUP, group_id)
        group: DescribedGroup = await services.groups.ask(group_id, describe)
    except KafkaError as error:
        return DescribedGroup(
            group_id=group_id,
            error_code=coordinator_error(error.code),
            error_message=error.message,
        )
    if not all(
        context.may(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in _topics_of(group)
    ):
        return DescribedGroup(
            group_id=group_id,
            error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            error_message="The group reads topics that the client is not authorized to describe.",
        )
    return group


def _topics_of(group: DescribedGroup) -> dict[str, None]:
    return {
        each.topic_name: None
        for member in group.members
        for assignment in (member.assignment, member.target_assignment)
        for each in assignment.topic_partitions
    }

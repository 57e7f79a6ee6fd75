"""What administrators see of consumer groups: ConsumerGroupDescribe, and their rows of ListGroups.

A partition is told by the name of its topic, so what belongs to a topic that is gone is left out.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.coordinator.group.consumer_group import NO_PARTITIONS, ConsumerGroup
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.coordinator.group.groups import Groups
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.consumer_group_describe import (
    Assignment,
    DescribedGroup,
    Member,
    TopicPartitions,
)
from ottla.protocol.messages.list_groups import ListedGroup

CONSUMER: Final = "consumer"
CLASSIC_MEMBER, CONSUMER_MEMBER = 0, 1


def consumer_rows(groups: Groups, states: Collection[str]) -> list[ListedGroup]:
    """Groups in one of these states (lower case); none means all."""
    rows = []
    for group in groups.consumer_groups():
        state = group.state.value
        if not states or state.lower() in states:
            rows.append(
                ListedGroup(
                    group_id=group.id,
                    protocol_type=CONSUMER,
                    group_state=state,
                    group_type=CONSUMER,
                )
            )
    return rows


def described(
    groups: Groups, group_id: str, image: ClusterImage, default_assignor: str
) -> DescribedGroup:
    """GROUP_ID_NOT_FOUND in the row where there is no such consumer group."""
    group = groups.find_consumer(group_id)
    if group is None:
        is_other = groups.find(group_id) is not None
        fault = "is not a consumer group" if is_other else "not found"
        return DescribedGroup(
            group_id=group_id,
            error_code=ErrorCode.GROUP_ID_NOT_FOUND,
            error_message=f"Group {group_id[:200]} {fault}.",
        )
    return DescribedGroup(
        group_id=group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=group.assignor(group.members, default_assignor),
        members=[_member(group, each, image) for each in group.members.values()],
    )


def _member(group: ConsumerGroup, member: ConsumerMember, image: ClusterImage) -> Member:
    return Member(
        member_id=member.id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        subscribed_topic_regex=member.regex or None,
        assignment=_assignment(member.assigned, image),
        target_assignment=_assignment(group.targets.get(member.id, NO_PARTITIONS), image),
        member_type=CLASSIC_MEMBER if member.is_classic else CONSUMER_MEMBER,
    )


def _assignment(partitions: Mapping[Uuid, Any], image: ClusterImage) -> Assignment:
    rows = [
        TopicPartitions(
            topic_id=topic_id,
            topic_name=image.topics_by_id[topic_id].name,
            partitions=sorted(partitions[topic_id]),
        )
        for topic_id in sorted(partitions)
        if topic_id in image.topics_by_id
    ]
    return Assignment(topic_partitions=rows)

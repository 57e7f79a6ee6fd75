"""A new target of a consumer group: who shall have what, worked out by its assignor.

The members' own wishes decide on the assignor. What is written is each share that is another one
than before, and the epoch of the target last: a target is whole as soon as its epoch is there.
"""

from collections.abc import Callable, Mapping

from ottla.base.ids import Uuid
from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.assignors import ASSIGNORS
from ottla.coordinator.group.assignors.model import GroupSpec, MemberSpec, Shares
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.coordinator.group.consumer_records import ConsumerRecord, Partitions
from ottla.metadata.image import ClusterImage


def new_target(
    group: ConsumerGroup,
    members: Mapping[str, ConsumerMember],
    target_of: Callable[[str], Partitions],
    image: ClusterImage,
    default_assignor: str,
) -> Shares:
    """The share of each of `members`; `target_of` tells what one was to have till now."""
    subscribed: dict[tuple[tuple[str, ...], str], frozenset[Uuid]] = {}
    specs = {}
    counts: dict[Uuid, int] = {}
    for member_id, member in members.items():
        wish = member.topics, member.regex
        topics = subscribed.get(wish)
        if topics is None:
            topics = subscribed[wish] = topic_ids(image, group.topics_of(member))
            for topic_id in sorted(topics):
                counts[topic_id] = len(image.topics_by_id[topic_id].partitions)
        specs[member_id] = MemberSpec(topics, target_of(member_id), member.instance_id)
    assign = ASSIGNORS[group.assignor(members, default_assignor)]
    return assign(GroupSpec(specs, counts))


def target_records(
    group: ConsumerGroup, shares: Shares, epoch: int, now_ms: int
) -> list[ConsumerRecord]:
    made = [
        records.target_of_member(group.id, member_id, share)
        for member_id, share in shares.items()
        if share != group.targets.get(member_id)
    ]
    made.append(records.target_epoch(group.id, epoch, now_ms))
    return made


def topic_ids(image: ClusterImage, names: frozenset[str]) -> frozenset[Uuid]:
    """Of those that are there."""
    return frozenset(image.topics[name].id for name in sorted(names) if name in image.topics)

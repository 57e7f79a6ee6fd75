"""What an assignor is asked, and what it answers: members, topics and shares by their ids.

A share is what a member shall have in the end. What it may read now, and what it has to give back
before, is not an assignor's business but a member's (`consumer_member`).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ottla.base.ids import Uuid
from ottla.coordinator.group.consumer_records import Partitions

Place = tuple[Uuid, int]
"""A partition."""
Shares = Mapping[str, Partitions]
"""By member id: every member of the spec, and no topic without partitions."""


class MemberSpec(NamedTuple):
    topics: frozenset[Uuid]
    """What it reads, among the topics of the spec."""
    has: Partitions
    """Its share of the last assignment."""
    instance_id: str | None = None


class GroupSpec(NamedTuple):
    members: Mapping[str, MemberSpec]
    partition_counts: Mapping[Uuid, int]
    """Every topic that somebody reads and that exists."""

    def held(self, member: MemberSpec) -> Iterator[Place]:
        """What of its share it may keep, in order."""
        for topic in sorted(member.has):
            if topic in member.topics:
                count = self.partition_counts.get(topic, 0)
                for index in sorted(member.has[topic]):
                    if index < count:
                        yield topic, index


def shares_of(places: Mapping[str, list[Place]]) -> Shares:
    shares: dict[str, Partitions] = {}
    for member_id, of_member in places.items():
        by_topic: dict[Uuid, list[int]] = {}
        for topic, index in of_member:
            by_topic.setdefault(topic, []).append(index)
        shares[member_id] = {topic: frozenset(indexes) for topic, indexes in by_topic.items()}
    return shares

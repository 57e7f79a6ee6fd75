"""A consumer group (KIP-848): what its records say, and what follows from them alone.

    EMPTY         nobody is in it
    ASSIGNING     its epoch is ahead of its target's: members or topics changed since
    RECONCILING   some member does not have its target yet
    STABLE        every member has

Everything here but `checked` and `scanned_topics` is durable and changes by `replay` alone.
The records of a compacted log may come in another order than they were written in, so each stands
for itself: a member is there as soon as one of its records is, and a partition belongs to whoever
claimed it last.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId, Uuid
from ottla.coordinator.group.assignors import ASSIGNORS
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.coordinator.group.consumer_records import (
    ConsumerGroupKey,
    ConsumerMemberKey,
    ConsumerRecord,
    CurrentKey,
    PartitionMetadataKey,
    Partitions,
    RegularExpressionKey,
    TargetKey,
    TargetMemberKey,
    expression_gone,
    group_gone,
    member_gone,
    partition_metadata_gone,
    partitions_of,
    target_gone,
)
from ottla.coordinator.group.member import Budget
from ottla.metadata.image import BrokerImage, ClusterImage, TopicImage


class ConsumerGroupState(Enum):
    """By the name that clients see."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class Resolved(NamedTuple):
    """The topics that a regular expression matched, at a revision of the image."""

    topics: frozenset[str]
    version: int
    time_ms: int


NO_PARTITIONS: Final[Partitions] = {}


class ConsumerGroup:
    __slots__ = (
        "_budget",
        "checked",
        "epoch",
        "expression_users",
        "expressions",
        "has_partition_metadata",
        "id",
        "members",
        "metadata_hash",
        "owners",
        "scanned_topics",
        "static_ids",
        "target_epoch",
        "target_time_ms",
        "targets",
    )

    def __init__(self, group_id: str, budget: Budget) -> None:
        self.id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        self.members: dict[str, ConsumerMember] = {}
        self.static_ids: dict[str, str] = {}
        """Member ids of static members, by instance id."""
        self.target_epoch = 0
        self.target_time_ms = 0
        """When the target was made; 0 where there is none."""
        self.targets: dict[str, Partitions] = {}
        self.owners: dict[tuple[Uuid, int], str] = {}
        """Who has a partition, or has not given it back yet."""
        self.expressions: dict[str, Resolved] = {}
        self.expression_users: dict[str, int] = {}
        """How many members subscribe by an expression."""
        self.has_partition_metadata = False
        """A record of Kafka 4.0 is there that nobody needs any more."""
        self.checked: tuple[object, object] = None, None
        """Topics and brokers of the image for which `metadata_hash` was last looked at."""
        self.scanned_topics: object = None
        """Those over which its expressions were last matched."""
        self._budget = budget

    # -- what it is

    @property
    def state(self) -> ConsumerGroupState:
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(each.is_reconciled_to(self.target_epoch) for each in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def member(self, member_id: str) -> ConsumerMember:
        """KafkaError UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"Member {member_id[:200]} is not a member of group {self.id[:200]}.",
            )
        return member

    def at_place(self, member_id: str, instance_id: str | None) -> ConsumerMember | None:
        """The member, or the one whose place a static member takes that comes with a new id."""
        known_id = self.static_ids.get(instance_id or "", member_id)
        return self.members.get(member_id) or self.members.get(known_id)

    def check_member(self, member_id: str, instance_id: str | None) -> ConsumerMember:
        """The member that a request names; UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
        if instance_id is None:
            return self.member(member_id)
        known = self.static_ids.get(instance_id)
        if known is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id[:200]} is unknown."
            )
        if known != member_id:
            raise KafkaError(
                ErrorCode.FENCED_INSTANCE_ID,
                f"Static member {member_id[:200]} with instance id {instance_id[:200]} was fenced "
                f"by member {known}.",
            )
        return self.members[known]

    def assignor(self, members: Mapping[str, ConsumerMember], default: str) -> str:
        """The one that most members ask for, of those that are known here: another broker may have
        written the log. Of equals the first by name."""
        wishes = (each.assignor or "" for each in members.values())
        votes = Counter(wish for wish in wishes if wish in ASSIGNORS)
        if not votes:
            return default
        return min(votes, key=lambda name: (-votes[name], name))

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        """The names it subscribes to, those its expression matched included."""
        found = self.expressions.get(member.regex)
        return frozenset(member.topics) if found is None else found.topics.union(member.topics)

    def subscribed_topics(self, members: Mapping[str, ConsumerMember] | None = None) -> set[str]:
        """What its members, or these, read."""
        chosen = self.members if members is None else members
        names: set[str] = set()
        for topics in dict.fromkeys(member.topics for member in chosen.values()):
            names.update(topics)
        if self.expressions:
            for regex in dict.fromkeys(member.regex for member in chosen.values()):
                if regex in self.expressions:
                    names |= self.expressions[regex].topics
        return names

    def is_subscribed_to(self, topic: str) -> bool:
        return topic in self.subscribed_topics()

    def has_checked(self, image: ClusterImage) -> bool:
        """Whether `metadata_hash` was looked at since topics or their racks changed."""
        topics, brokers = self.checked
        return topics is image.topics and brokers is image.brokers

    def note_checked(self, image: ClusterImage) -> None:
        self.checked = image.topics, image.brokers

    def is_waiting(self, member: ConsumerMember) -> bool:
        """Whether some partition that it shall get is another member's still."""
        target = self.targets.get(member.id, NO_PARTITIONS)
        return any(
            self.owners.get((topic, index), member.id) != member.id
            for topic, indexes in target.items()
            for index in indexes - member.assigned.get(topic, {}).keys()
        )

    def all_classic_but(self, member_ids: Iterable[str]) -> bool:
        """Whether all members but these, who do not, speak the classic protocol."""
        leaving = set(member_ids)
        return all(
            member.is_classic != (member_id in leaving)
            for member_id, member in self.members.items()
        )

    def supports_classic(self, names: Iterable[str]) -> bool:
        """Whether all members that speak the classic protocol know one of these."""
        known = [
            {each.name for each in member.classic.supported_protocols}
            for member in self.members.values()
            if member.classic is not None
        ]
        return any(all(name in each for each in known) for name in names)

    def tombstones(self) -> list[ConsumerRecord]:
        """Of all its records."""
        records: list[ConsumerRecord] = []
        for member_id in dict.fromkeys((*self.members, *self.targets)):
            records += member_gone(self.id, member_id)
        records += [expression_gone(self.id, regex) for regex in self.expressions]
        records.append(target_gone(self.id))
        if self.has_partition_metadata:
            records.append(partition_metadata_gone(self.id))
        records.append(group_gone(self.id))
        return records

    # -- replay

    def replay(self, record: ConsumerRecord) -> None:
        """Any record but the one that ends the group."""
        key, value = record
        _REPLAY[type(key)](self, key, value)

    def _replay_epoch(self, key: ConsumerGroupKey, value: Any) -> None:
        self.epoch = value.epoch
        self.metadata_hash = value.metadata_hash

    def _replay_partition_metadata(self, key: PartitionMetadataKey, value: Any) -> None:
        self.has_partition_metadata = value is not None

    def _replay_member(self, key: ConsumerMemberKey, value: Any) -> None:
        if value is None:
            self._remove(key.member_id)
            return
        member = self.members.get(key.member_id, ConsumerMember(key.member_id))
        self._put(member.with_metadata(value))

    def _replay_current(self, key: CurrentKey, value: Any) -> None:
        member = self.members.get(key.member_id)
        if member is None and value is None:
            return
        self._put((member or ConsumerMember(key.member_id)).with_current(value))

    def _replay_target(self, key: TargetKey, value: Any) -> None:
        self.target_epoch = -1 if value is None else value.assignment_epoch
        self.target_time_ms = 0 if value is None else value.assignment_timestamp

    def _replay_target_member(self, key: TargetMemberKey, value: Any) -> None:
        if value is None:
            self.targets.pop(key.member_id, None)
        else:
            self.targets[key.member_id] = partitions_of(value.topic_partitions)

    def _replay_expression(self, key: RegularExpressionKey, value: Any) -> None:
        if value is None:
            self.expressions.pop(key.regular_expression, None)
        else:
            self.expressions[key.regular_expression] = Resolved(
                frozenset(value.topics), value.version, value.timestamp
            )

    def _put(self, member: ConsumerMember) -> None:
        old = self.members.get(member.id)
        if old is None:
            self._budget.take(member.size_bytes)
        else:
            self._budget.bytes += member.size_bytes - old.size_bytes
            self._disown(old)
            self._use_expression(old.regex, -1)
            if old.instance_id != member.instance_id:
                self._give_up_instance(old)
        self._use_expression(member.regex, 1)
        self.members[member.id] = member
        if member.instance_id is not None:
            self.static_ids[member.instance_id] = member.id
        for held in (member.assigned, member.revoking):
            for topic, indexes in held.items():
                for index in indexes:
                    self.owners[topic, index] = member.id

    def _disown(self, member: ConsumerMember) -> None:
        for held in (member.assigned, member.revoking):
            for topic, indexes in held.items():
                for index in indexes:
                    if self.owners.get((topic, index)) == member.id:
                        del self.owners[topic, index]

    def _use_expression(self, regex: str, change: int) -> None:
        if not regex:
            return
        count = self.expression_users.get(regex, 0) + change
        if count:
            self.expression_users[regex] = count
        else:
            self.expression_users.pop(regex, None)

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._disown(member)
        self._use_expression(member.regex, -1)
        self._budget.give(member.size_bytes)
        self._give_up_instance(member)

    def _give_up_instance(self, member: ConsumerMember) -> None:
        instance_id = member.instance_id
        if instance_id is not None and self.static_ids.get(instance_id) == member.id:
            del self.static_ids[instance_id]

    def forget_members(self) -> None:
        """The group is unloaded or gone."""
        for member_id in list(self.members):
            self._remove(member_id)


_REPLAY: Final[Mapping[type, Any]] = {
    ConsumerGroupKey: ConsumerGroup._replay_epoch,
    PartitionMetadataKey: ConsumerGroup._replay_partition_metadata,
    ConsumerMemberKey: ConsumerGroup._replay_member,
    CurrentKey: ConsumerGroup._replay_current,
    TargetKey: ConsumerGroup._replay_target,
    TargetMemberKey: ConsumerGroup._replay_target_member,
    RegularExpressionKey: ConsumerGroup._replay_expression,
}


def metadata_hash(names: Iterable[str], image: ClusterImage) -> int:
    """A number that changes when one of these topics comes, goes, grows, or moves to other racks;
    0 where none of them is there."""
    digest = hashlib.blake2b(digest_size=8)
    is_empty = True
    for name in sorted(names):
        topic = image.topics.get(name)
        if topic is not None:
            is_empty = False
            digest.update(_topic_digest(_Same(topic, image.brokers)))
    return 0 if is_empty else int.from_bytes(digest.digest(), "big", signed=True)


class _Same:
    """A topic on the brokers of an image: the same one only if it is the same object."""

    __slots__ = ("brokers", "topic")

    def __init__(self, topic: TopicImage, brokers: Mapping[NodeId, BrokerImage]) -> None:
        self.topic = topic
        self.brokers = brokers

    def __hash__(self) -> int:
        return int.from_bytes(self.topic.id[:8], "big")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return NotImplemented
        return self.topic is other.topic and self.brokers is other.brokers


@lru_cache(maxsize=4_096)
def _topic_digest(same: _Same) -> bytes:
    """Remembered: a group of thousands joins member by member, and its topics stay as they are."""
    topic, brokers = same.topic, same.brokers
    digest = hashlib.blake2b(topic.id, digest_size=16)
    digest.update(f"{topic.name}:{len(topic.partitions)}".encode())
    for partition in topic.partitions:
        found = (brokers.get(node) for node in partition.replicas)
        racks = dict.fromkeys(each.rack for each in found if each is not None and each.rack)
        digest.update(repr(sorted(racks)).encode())
    return digest.digest()

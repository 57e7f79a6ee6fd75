"""One member of a consumer group (KIP-848), and the step from what it has to what it shall have.

    STABLE                 it has its target, and is in the target's epoch
    UNREVOKED_PARTITIONS   it has to give partitions back first, and stays in its epoch till then
    UNRELEASED_PARTITIONS  it is in the target's epoch; others have not given back all it shall get

A member is a value: replaying its records makes the next one. `assigned` is what it may read,
`revoking` what it was told to stop reading and has not said it did. Both are its own until then:
nobody else gets a partition that is in one of them.
Source: KIP-848, KIP-1251 (the epoch in which each partition was got).
"""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ottla.base.ids import Uuid
from ottla.coordinator.group.consumer_records import (
    ClassicMemberMetadata,
    ConsumerMemberValue,
    ConsumerRecord,
    CurrentValue,
    Epochs,
    Partitions,
    current_of_member,
    epochs_of,
    member_record,
)
from ottla.coordinator.group.member import Protocol, size_of, size_of_texts

LEAVE_EPOCH: Final = -1
"""A member leaves."""
STATIC_LEAVE_EPOCH: Final = -2
"""A static member leaves and means to come back: what it has waits for it."""
MEMBER_BYTES: Final = 1_500
"""What a member takes beside its texts and partitions."""
PARTITION_BYTES: Final = 200
"""A partition as part of an assignment, of a target and of the owners."""
NOTHING: Final[Mapping[Uuid, Any]] = {}


class MemberState(IntEnum):
    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127
    """A later version wrote it."""


STABLE, UNREVOKED_PARTITIONS, UNRELEASED_PARTITIONS, UNKNOWN = MemberState


class ConsumerMember(NamedTuple):
    id: str
    epoch: int = 0
    previous_epoch: int = -1
    """Of its last step: the answer that told it of the new epoch may be lost."""
    state: MemberState = STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] = ()
    """The names that it subscribes to, in order."""
    regex: str = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMemberMetadata | None = None
    """It speaks the classic protocol, in a group that others have upgraded."""
    assigned: Epochs = NOTHING
    revoking: Epochs = NOTHING

    @property
    def is_classic(self) -> bool:
        return self.classic is not None

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Those of a member that speaks the classic protocol, the one it likes best first."""
        known = () if self.classic is None else self.classic.supported_protocols
        return tuple(Protocol(each.name, each.metadata) for each in known)

    @property
    def size_bytes(self) -> int:
        """About what it makes the node keep."""
        texts = len(self.id) + len(self.instance_id or "") + len(self.client_id) + len(self.regex)
        texts += size_of_texts(self.topics) + size_of(self.protocols)
        partitions = sum(map(len, self.assigned.values())) + sum(map(len, self.revoking.values()))
        return MEMBER_BYTES + texts + PARTITION_BYTES * partitions

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state is STABLE and self.epoch == target_epoch

    def has_same_metadata(self, other: "ConsumerMember") -> bool:
        """Whether the record of what it asks for would be the same."""
        return self[_METADATA] == other[_METADATA]

    def has_same_assignment(self, other: "ConsumerMember") -> bool:
        """Whether the record of what it has would be the same."""
        return self[_STATE] == other[_STATE] and self[_CURRENT] == other[_CURRENT]

    # -- records

    def record(self, group_id: str) -> ConsumerRecord:
        """What it asks for."""
        value = ConsumerMemberValue(
            instance_id=self.instance_id,
            rack_id=self.rack_id,
            client_id=self.client_id,
            client_host=self.client_host,
            subscribed_topic_names=list(self.topics),
            subscribed_topic_regex=self.regex,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            server_assignor=self.assignor,
            classic_member_metadata=self.classic,
        )
        return member_record(group_id, self.id, value)

    def current_record(self, group_id: str) -> ConsumerRecord:
        """What it has."""
        return current_of_member(
            group_id,
            self.id,
            epoch=self.epoch,
            previous_epoch=self.previous_epoch,
            state=self.state,
            assigned=self.assigned,
            revoking=self.revoking,
        )

    def with_metadata(self, value: ConsumerMemberValue) -> "ConsumerMember":
        return self._replace(
            instance_id=value.instance_id,
            rack_id=value.rack_id,
            client_id=value.client_id,
            client_host=value.client_host,
            topics=tuple(sorted(set(value.subscribed_topic_names))),
            regex=value.subscribed_topic_regex or "",
            rebalance_timeout_ms=value.rebalance_timeout_ms,
            assignor=value.server_assignor,
            classic=value.classic_member_metadata,
        )

    def with_current(self, value: CurrentValue | None) -> "ConsumerMember":
        """None: it has nothing, and is on its way out."""
        if value is None:
            return self._replace(
                epoch=LEAVE_EPOCH, previous_epoch=LEAVE_EPOCH, assigned=NOTHING, revoking=NOTHING
            )
        is_known = value.state in MemberState.__members__.values()
        return self._replace(
            epoch=value.member_epoch,
            previous_epoch=value.previous_member_epoch,
            state=MemberState(value.state) if is_known else UNKNOWN,
            assigned=epochs_of(value.assigned_partitions, value.member_epoch),
            revoking=epochs_of(value.partitions_pending_revocation, value.member_epoch),
        )

    def in_epoch(self, epoch: int) -> "ConsumerMember":
        return self._replace(epoch=epoch, previous_epoch=self.epoch)


_FIELDS: Final = ConsumerMember._fields
_METADATA: Final = slice(_FIELDS.index("instance_id"), _FIELDS.index("assigned"))
_STATE: Final = slice(_FIELDS.index("epoch"), _FIELDS.index("instance_id"))
_CURRENT: Final = slice(_FIELDS.index("assigned"), len(_FIELDS))


class Target(NamedTuple):
    """What a member shall have."""

    epoch: int
    partitions: Partitions
    topics: frozenset[Uuid]
    """What it subscribes to, among the topics that are there."""
    has_new_topics: bool
    """It subscribes to other ones than it did: what it reads no more, it gives back at once,
    whatever the target says, which may be older."""


Owned = Partitions | None
"""What a member says that it has; None where it does not say."""


def reconciled(
    member: ConsumerMember, target: Target, is_free: Callable[[Uuid, int], bool], owned: Owned
) -> ConsumerMember:
    """The member after its next step towards its target, or as it is where it cannot take one.

    `is_free` tells whether nobody else has a partition.
    """
    if member.state is UNREVOKED_PARTITIONS:
        if _owns(owned, member.revoking):
            return _without_topics(member, target, owned) if target.has_new_topics else member
        return _next(member, min(member.epoch + 1, target.epoch), target, is_free, owned)
    if member.state is UNKNOWN:
        return _next(member, target.epoch, target, is_free, owned)
    if member.epoch != target.epoch or member.state is UNRELEASED_PARTITIONS:
        return _next(member, member.epoch, target, is_free, owned)
    return _without_topics(member, target, owned) if target.has_new_topics else member


def _owns(owned: Owned, any_of: Mapping[Uuid, Iterable[int]]) -> bool:
    """Whether it has one of these still; yes, as long as it does not say."""
    if owned is None:
        return True
    return any(not owned.get(topic, frozenset()).isdisjoint(any_of[topic]) for topic in any_of)


def _without_topics(member: ConsumerMember, target: Target, owned: Owned) -> ConsumerMember:
    """Take what is of topics that it reads no more."""
    revoking = {topic: dict(epochs) for topic, epochs in member.revoking.items()}
    assigned = dict(member.assigned)
    for topic in member.assigned:
        if topic not in target.topics:
            revoking.setdefault(topic, {}).update(assigned.pop(topic))
    if len(assigned) == len(member.assigned):
        return member
    member = member.in_epoch(member.epoch)._replace(assigned=assigned)
    if _owns(owned, revoking):
        return member._replace(state=UNREVOKED_PARTITIONS, revoking=revoking)
    return member


def _next(
    member: ConsumerMember,
    epoch: int,
    target: Target,
    is_free: Callable[[Uuid, int], bool],
    owned: Owned,
) -> ConsumerMember:
    assigned: dict[Uuid, dict[int, int]] = {}
    revoking: dict[Uuid, dict[int, int]] = {}
    for topic, epochs in member.assigned.items():
        stays = target.partitions.get(topic, frozenset()) if topic in target.topics else ()
        for index, since in epochs.items():
            kept = assigned if index in stays else revoking
            kept.setdefault(topic, {})[index] = since
    if revoking and _owns(owned, revoking):
        return member.in_epoch(epoch)._replace(
            state=UNREVOKED_PARTITIONS, assigned=assigned, revoking=revoking
        )
    state = STABLE
    for topic, indexes in target.partitions.items():
        if topic not in target.topics:
            continue
        for index in indexes - assigned.get(topic, {}).keys():
            if is_free(topic, index):
                assigned.setdefault(topic, {})[index] = target.epoch
            else:
                state = UNRELEASED_PARTITIONS
    return member.in_epoch(target.epoch)._replace(state=state, assigned=assigned, revoking=NOTHING)

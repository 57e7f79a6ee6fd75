"""One request about one member of a consumer group, on its way to records.

The group stays as it is until the records are replayed; what the request would make of it is seen
through a `Step`. What must happen in memory besides, and only if nothing is refused after all, is
put off as an effect.
"""

from collections.abc import Callable

from ottla.base.ids import Uuid
from ottla.coordinator.group.consumer_group import NO_PARTITIONS, ConsumerGroup
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.coordinator.group.consumer_records import Partitions
from ottla.coordinator.group.member import everything
from ottla.coordinator.group.records import GroupLogRecord
from ottla.coordinator.machine import Outcome


class Step:
    __slots__ = (
        "effects",
        "former",
        "group",
        "may_see",
        "member",
        "now_ms",
        "records",
        "replaced_id",
    )

    def __init__(self, group: ConsumerGroup, now_ms: int, records: list[GroupLogRecord]) -> None:
        """`records` are those that made `group`, where it is not in the log yet."""
        self.group = group
        self.now_ms = now_ms
        self.records = records
        self.effects: list[Callable[[], object]] = []
        self.former = self.member = ConsumerMember("")
        """The member as it was, or as one that is new; and as it will be."""
        self.may_see: Callable[[str], bool] = everything
        """Which topics the request's sender may know of."""
        self.replaced_id: str | None = None
        """The static member whose place it takes."""

    @property
    def is_new(self) -> bool:
        return self.member.id not in self.group.members and self.replaced_id is None

    def begin(self, member: ConsumerMember) -> None:
        self.former = self.member = member

    def members(self) -> dict[str, ConsumerMember]:
        """The group's members, with this one as it will be."""
        members = dict(self.group.members)
        if self.replaced_id is not None:
            members.pop(self.replaced_id, None)
        members[self.member.id] = self.member
        return members

    def target_of(self, member_id: str) -> Partitions:
        targets = self.group.targets
        if member_id == self.member.id and self.replaced_id is not None:
            return targets.get(self.replaced_id, NO_PARTITIONS)
        return targets.get(member_id, NO_PARTITIONS)

    def is_free(self, topic: Uuid, index: int) -> bool:
        """Whether no other member has a partition, or has it to give back still."""
        return self.group.owners.get((topic, index), self.member.id) == self.member.id

    def outcome(self, response: object) -> Outcome:
        return Outcome(self.records, response, effects=self.effects)

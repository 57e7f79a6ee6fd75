"""All groups of a shard, and the offsets that they committed: what the log replays into.

A group is a classic one or a consumer group, and may become the other: an id is never both.
A group whose offsets were committed by consumers that never join (a simple group) has offsets
and nothing else: `find` makes a group of it when somebody asks. A group without a record, members
and offsets is forgotten as soon as nobody is joining it.
"""

from collections.abc import Iterator
from sys import intern
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.group.classic import ClassicGroup
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_records import ConsumerGroupKey, ConsumerRecord
from ottla.coordinator.group.member import Budget
from ottla.coordinator.group.pending_offsets import PendingOffsets
from ottla.coordinator.group.records import GroupLogRecord, OffsetRecord, OffsetValue

Offsets = dict[tuple[str, int], OffsetValue]
"""By topic and partition."""
NO_OFFSETS: Final[Offsets] = {}


class Groups:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._groups: dict[str, ClassicGroup] = {}
        self._consumer: dict[str, ConsumerGroup] = {}
        self._offsets: dict[str, Offsets] = {}
        self.pending = PendingOffsets()

    # -- finding

    def find(self, group_id: str) -> ClassicGroup | None:
        """None where it is a consumer group, too."""
        group = self._groups.get(group_id)
        if group is None and group_id not in self._consumer and self.has_offsets(group_id):
            return ClassicGroup(group_id, self.budget)
        return group

    def has_offsets(self, group_id: str) -> bool:
        """Committed, or in a transaction that has not ended."""
        return group_id in self._offsets or self.pending.has_group(group_id)

    def known(self, group_id: str) -> ClassicGroup:
        group = self.find(group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id[:200]} not found.")
        return group

    def find_or_make(self, group_id: str, now_ms: int) -> ClassicGroup:
        """The group that somebody joins."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = ClassicGroup(group_id, self.budget, now_ms)
        return group

    def find_consumer(self, group_id: str) -> ConsumerGroup | None:
        return self._consumer.get(group_id)

    def joined(self) -> Iterator[ClassicGroup]:
        """Classic groups that more than offsets are known of."""
        return iter(self._groups.values())

    def consumer_groups(self) -> Iterator[ConsumerGroup]:
        return iter(self._consumer.values())

    def ids(self) -> list[str]:
        pending = self.pending.group_ids()
        return list(dict.fromkeys((*self._groups, *self._consumer, *self._offsets, *pending)))

    def offsets(self, group_id: str) -> Offsets:
        """Not to be written to."""
        return self._offsets.get(group_id, NO_OFFSETS)

    def has_record(self, group: ClassicGroup) -> bool:
        """Whether its id is in the log."""
        return group.is_durable or group.id in self._offsets

    # -- changing

    def forget_if_worthless(self, group: ClassicGroup) -> None:
        if group.is_worthless:
            self._groups.pop(group.id, None)

    def forget(self, group: ClassicGroup) -> None:
        """What of it is in memory alone."""
        group.forget_members()
        self._groups.pop(group.id, None)

    def close(self) -> None:
        for group in self._groups.values():
            group.forget_members()
        for consumer_group in self._consumer.values():
            consumer_group.forget_members()

    def replay(self, record: GroupLogRecord) -> None:
        if isinstance(record, OffsetRecord):
            self._replay_offset(record)
            return
        if isinstance(record, ConsumerRecord):
            self._replay_consumer(record)
            return
        group_id, value = record.key.group, record.value
        if value is not None:
            group = self._groups.get(group_id)
            if group is None:
                group = self._groups[group_id] = ClassicGroup(group_id, self.budget)
            group.replay(value)
            return
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.forget_members()

    def _replay_consumer(self, record: ConsumerRecord) -> None:
        group_id = record.key.group_id
        group = self._consumer.get(group_id)
        if record.value is not None:
            if group is None:
                group = self._consumer[group_id] = ConsumerGroup(group_id, self.budget)
            group.replay(record)
        elif group is not None and isinstance(record.key, ConsumerGroupKey):
            group.forget_members()
            del self._consumer[group_id]
        elif group is not None:
            group.replay(record)

    def replay_pending(self, record: GroupLogRecord, producer_id: int) -> None:
        """One of a transaction that has not ended."""
        if isinstance(record, OffsetRecord):
            self.pending.add(producer_id, record)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        for record in list(self.pending.end(producer_id, committed=committed)):
            self._put_offset(record)

    def _replay_offset(self, record: OffsetRecord) -> None:
        if record.value is None:
            self.pending.forget(record.key)
        else:
            self.pending.supersede(record.key)
        self._put_offset(record)

    def _put_offset(self, record: OffsetRecord) -> None:
        key, value = record.key, record.value
        place = (intern(key.topic), key.partition)
        if value is not None:
            self._offsets.setdefault(key.group, {})[place] = value
            return
        offsets = self._offsets.get(key.group)
        if offsets is not None:
            offsets.pop(place, None)
            if not offsets:
                del self._offsets[key.group]

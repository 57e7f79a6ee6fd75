"""Offsets that groups committed in transactions which have not ended.

Each counts when its transaction commits, unless the group committed the same partition otherwise
meanwhile: what is later in the log stands. Until then whoever asks for a stable offset of that
partition waits (KIP-447).
"""

from collections.abc import Iterator

from ottla.coordinator.group.records import OffsetRecord

Place = tuple[str, str, int]
"""Group, topic, partition."""


class PendingOffsets:
    def __init__(self) -> None:
        self._by_producer: dict[int, dict[Place, OffsetRecord | None]] = {}
        # None: something later was committed.
        self._producers: dict[str, dict[tuple[str, int], dict[int, None]]] = {}
        # By group and partition, who has an offset pending.

    def add(self, producer_id: int, record: OffsetRecord) -> None:
        key = record.key
        place = (key.group, key.topic, key.partition)
        self._by_producer.setdefault(producer_id, {})[place] = record
        group = self._producers.setdefault(key.group, {})
        group.setdefault(place[1:], {})[producer_id] = None

    def supersede(self, record: OffsetRecord) -> None:
        """Something was committed, or forgotten, that is later than what is pending."""
        key = record.key
        for producer_id in self._producers.get(key.group, {}).get((key.topic, key.partition), ()):
            self._by_producer[producer_id][key.group, key.topic, key.partition] = None

    def end(self, producer_id: int) -> Iterator[OffsetRecord]:
        """No longer pending is what this producer committed: the records that stand."""
        for place, record in self._by_producer.pop(producer_id, {}).items():
            group_id = place[0]
            group = self._producers[group_id]
            producers = group[place[1:]]
            del producers[producer_id]
            if not producers:
                del group[place[1:]]
            if not group:
                del self._producers[group_id]
            if record is not None:
                yield record

    def has(self, group_id: str, topic: str, partition: int) -> bool:
        return (topic, partition) in self._producers.get(group_id, ())

    def has_group(self, group_id: str) -> bool:
        return group_id in self._producers

    def places(self, group_id: str) -> list[tuple[str, int]]:
        return list(self._producers.get(group_id, ()))

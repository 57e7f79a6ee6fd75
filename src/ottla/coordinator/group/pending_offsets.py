"""Offsets that groups committed in transactions which have not ended.

Each counts when its transaction commits, unless the group committed the same partition otherwise
meanwhile: what is later in the log stands, in whatever order the transactions end. Until then
whoever asks for a stable offset of that partition waits (KIP-447). An offset that is forgotten
takes along what is pending of its partition.
"""

from collections.abc import Iterator

from ottla.coordinator.group.records import OffsetKey, OffsetRecord, OffsetValue

Place = tuple[str, str, int]
"""Group, topic, partition."""


class PendingOffsets:
    def __init__(self) -> None:
        self._by_producer: dict[int, dict[Place, tuple[int, OffsetRecord] | None]] = {}
        # With its number in the order of the log. None: something later was committed.
        self._producers: dict[str, dict[tuple[str, int], dict[int, None]]] = {}
        # By group and partition, who has an offset pending.
        self._count = 0

    def add(self, producer_id: int, record: OffsetRecord) -> None:
        place = _place(record.key)
        self._count += 1
        self._by_producer.setdefault(producer_id, {})[place] = self._count, record
        group = self._producers.setdefault(place[0], {})
        group.setdefault(place[1:], {})[producer_id] = None

    def supersede(self, key: OffsetKey) -> None:
        """Something was committed that is later than all that is pending."""
        self._drop_older(_place(key), self._count + 1)

    def forget(self, key: OffsetKey) -> None:
        """Of that partition nothing counts any more, and nobody has to wait for it."""
        place = _place(key)
        for producer_id in list(self._producers.get(place[0], {}).get(place[1:], ())):
            self._settle(producer_id, place)
            del self._by_producer[producer_id][place]

    def _drop_older(self, place: Place, number: int) -> None:
        for producer_id in self._producers.get(place[0], {}).get(place[1:], ()):
            pending = self._by_producer[producer_id]
            known = pending[place]
            if known is not None and known[0] < number:
                pending[place] = None

    def end(self, producer_id: int, *, committed: bool) -> Iterator[OffsetRecord]:
        """No longer pending is what this producer committed: the records that count now."""
        for place, known in self._by_producer.pop(producer_id, {}).items():
            self._settle(producer_id, place)
            if committed and known is not None:
                number, record = known
                self._drop_older(place, number)
                yield record

    def _settle(self, producer_id: int, place: Place) -> None:
        """That producer has nothing pending there."""
        group = self._producers[place[0]]
        producers = group[place[1:]]
        del producers[producer_id]
        if not producers:
            del group[place[1:]]
        if not group:
            del self._producers[place[0]]

    def has(self, group_id: str, topic: str, partition: int) -> bool:
        return (topic, partition) in self._producers.get(group_id, ())

    def has_group(self, group_id: str) -> bool:
        return group_id in self._producers

    def places(self, group_id: str) -> list[tuple[str, int]]:
        return list(self._producers.get(group_id, ()))

    def latest(self, group_id: str) -> dict[tuple[str, int], OffsetValue]:
        """Of each partition, what stands if all transactions commit."""
        known = [
            self._by_producer[producer_id][(group_id, *place)]
            for place, producers in self._producers.get(group_id, {}).items()
            for producer_id in producers
        ]
        standing = sorted((each for each in known if each is not None), key=lambda each: each[0])
        return {
            (key.topic, key.partition): value for _, (key, value) in standing if value is not None
        }

    def group_ids(self) -> list[str]:
        return list(self._producers)


def _place(key: OffsetKey) -> Place:
    return key.group, key.topic, key.partition

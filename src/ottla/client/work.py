"""Records to be processed, in lanes: what stands in one lane is processed one after another.

    order       a lane is
    "key"       the records of one key in one partition (those without a key are not ordered)
    "partition" a partition
    "none"      a record

A lane is ready, at work, or put off until its first record is to be tried again; only the first
record of a lane is ever at work. Beside the lanes stands the progress of each partition: the
records of it that are not done yet, by offset, so that the first of them is the position that
may be committed. What is kept is what is not done: no record that is done costs memory, however
long one in front of it takes.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from ottla.base.ids import TopicPartition
from ottla.client.outlet import Output
from ottla.client.records import ConsumerRecord

ORDERS: Final = ("key", "partition", "none")


@dataclass(slots=True, eq=False)
class Item:
    """A record on its way."""

    record: ConsumerRecord
    key: TopicPartition
    lane: "Lane"
    outputs: Sequence[Output] | None = None
    """What came of it, from when its handler was through with it until it is done."""
    attempts: int = 0
    first_failed_ms: int = -1


@dataclass(slots=True, eq=False)
class Lane:
    id: object
    items: deque[Item]
    is_dropped: bool = False


class Work:
    def __init__(self, order: str) -> None:
        self._order = order
        self._lanes: dict[object, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._undone: dict[TopicPartition, OrderedDict[int, Item]] = {}

    def add(self, key: TopicPartition, record: ConsumerRecord) -> None:
        """Records of a partition come in the order of their offsets."""
        lane_id = self._lane_id(key, record)
        lane = self._lanes.get(lane_id)
        if lane is None:
            lane = self._lanes[lane_id] = Lane(lane_id, deque())
            self._ready.append(lane)
        item = Item(record, key, lane)
        lane.items.append(item)
        self._undone.setdefault(key, OrderedDict())[record.offset] = item

    def _lane_id(self, key: TopicPartition, record: ConsumerRecord) -> object:
        if self._order == "partition":
            return key
        if self._order == "none" or record.key is None:
            return key, record.offset
        return key, record.key

    def next(self) -> Item | None:
        """The first record of a lane that is ready; the lane is at work from then on."""
        while self._ready:
            lane = self._ready.popleft()
            if lane.items:
                return lane.items[0]
        return None

    def done(self, item: Item) -> None:
        """It is done for good, and the next of its lane may follow."""
        self.finish(item)
        self.forget(item)

    def forget(self, item: Item) -> None:
        """What was finished is done for good."""
        undone = self._undone.get(item.key)
        if undone is not None and undone.get(item.record.offset) is item:
            del undone[item.record.offset]

    def finished(self) -> list[Item]:
        """Of each partition, what is finished and has nothing unfinished in front of it."""
        found: list[Item] = []
        for undone in self._undone.values():
            found += takewhile(lambda item: item.outputs is not None, undone.values())
        return found

    def finish(self, item: Item) -> None:
        """The next of its lane may follow."""
        if item.lane.is_dropped:
            return
        item.lane.items.popleft()
        if item.lane.items:
            self._ready.append(item.lane)
        else:
            del self._lanes[item.lane.id]

    def again(self, item: Item) -> None:
        """It is to be tried again, now."""
        if not item.lane.is_dropped:
            self._ready.append(item.lane)

    def undone_count(self, key: TopicPartition) -> int:
        return len(self._undone.get(key, ()))

    def first_undone(self, key: TopicPartition) -> int | None:
        """Offset of the first record that is not done; None where all are."""
        undone = self._undone.get(key)
        return next(iter(undone)) if undone else None

    def drop(self, keys: Iterable[TopicPartition]) -> None:
        """Forget all of these partitions. What is at work may end; it is asked for no more."""
        for key in keys:
            for item in self._undone.pop(key, OrderedDict()).values():
                item.lane.is_dropped = True
                item.lane.items.clear()
                self._lanes.pop(item.lane.id, None)

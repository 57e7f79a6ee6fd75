"""The sticky way to share partitions: first as even as may be, then as much kept as may be.

    1. Each keeps what it had and still reads.
    2. What nobody has goes to the one with the least, of those who read its topic; partitions
       that few may read go first.
    3. While one has at least two more than another who may read one of its partitions, that
       partition moves. Every move makes the loads more even, so this ends.

Where all read the same topics, no two loads differ by more than one in the end, and no more
moves than it takes. Kafka's own algorithm promises as much; the shares themselves may differ,
which nobody but the leader of a generation ever computes.
"""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from ottla.base.ids import PartitionIndex, TopicPartition

Shares = dict[str, list[TopicPartition]]


class StickyMember(NamedTuple):
    topics: frozenset[str]
    kept: tuple[TopicPartition, ...]
    """What it had before: each partition with at most one member."""


def kept_shares(
    claims: Mapping[str, tuple[Iterable[TopicPartition], int]],
) -> dict[str, list[TopicPartition]]:
    """Who is believed: of several that claim a partition the one of the latest generation, and
    nobody where two claim it of the same."""
    best: dict[TopicPartition, tuple[int, str | None]] = {}
    for member_id, (keys, generation) in claims.items():
        for key in keys:
            other = best.get(key)
            if other is None or generation > other[0]:
                best[key] = generation, member_id
            elif generation == other[0] and other[1] != member_id:
                best[key] = generation, None
    kept: dict[str, list[TopicPartition]] = {member_id: [] for member_id in claims}
    for key, (_, believed) in best.items():
        if believed is not None:
            kept[believed].append(key)
    return kept


def sticky_shares(members: Mapping[str, StickyMember], counts: Mapping[str, int]) -> Shares:
    """`members` in the order in which they come first where loads are equal."""
    table = _Table(members, counts)
    table.keep()
    table.fill()
    table.even_out()
    return {member_id: sorted(share) for member_id, share in table.shares.items()}


class _Table:
    """Shares in the making. For each set of readers a heap of (load, rank, member) gives the one
    with the least; entries that are not true any more are passed over."""

    def __init__(self, members: Mapping[str, StickyMember], counts: Mapping[str, int]) -> None:
        self.members = members
        self.counts = counts
        self.shares: dict[str, dict[TopicPartition, None]] = {each: {} for each in members}
        self._rank = {member_id: rank for rank, member_id in enumerate(members)}
        self._readers: dict[str, tuple[str, ...]] = {
            topic: tuple(each for each, member in members.items() if topic in member.topics)
            for topic in sorted(counts)
        }
        self._heaps: dict[tuple[str, ...], list[tuple[int, int, str]]] = {}
        self._heaps_of: dict[str, list[list[tuple[int, int, str]]]] = {each: [] for each in members}

    def keep(self) -> None:
        for member_id, member in self.members.items():
            for key in member.kept:
                if key.topic in member.topics and key.partition < self.counts.get(key.topic, 0):
                    self.shares[member_id][key] = None
        for readers in self._readers.values():
            if readers not in self._heaps:
                heap = [(len(self.shares[each]), self._rank[each], each) for each in readers]
                heapify(heap)
                self._heaps[readers] = heap
                for each in readers:
                    self._heaps_of[each].append(heap)

    def fill(self) -> None:
        taken = {key for share in self.shares.values() for key in share}
        for topic in sorted(self._readers, key=lambda name: (len(self._readers[name]), name)):
            for index in range(self.counts[topic] if self._readers[topic] else 0):
                key = TopicPartition(topic, PartitionIndex(index))
                if key not in taken:
                    self._give(key, self._least(topic))

    def even_out(self) -> None:
        has_moved = True
        while has_moved:
            has_moved = False
            for member_id in sorted(self.shares, key=lambda each: -len(self.shares[each])):
                for key in list(self.shares[member_id]):
                    least = self._least(key.topic)
                    if len(self.shares[member_id]) - len(self.shares[least]) >= 2:
                        del self.shares[member_id][key]
                        self._note(member_id)
                        self._give(key, least)
                        has_moved = True

    def _give(self, key: TopicPartition, member_id: str) -> None:
        self.shares[member_id][key] = None
        self._note(member_id)

    def _note(self, member_id: str) -> None:
        entry = len(self.shares[member_id]), self._rank[member_id], member_id
        for heap in self._heaps_of[member_id]:
            heappush(heap, entry)

    def _least(self, topic: str) -> str:
        heap = self._heaps[self._readers[topic]]
        while heap[0][0] != len(self.shares[heap[0][2]]):
            heappop(heap)
        return heap[0][2]

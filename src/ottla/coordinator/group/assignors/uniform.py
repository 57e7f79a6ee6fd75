"""The uniform assignor: shares of equal size, and as few partitions moved as that allows.

Where all members read the same topics, shares differ by one at most, and nothing moves but what
has to: a member keeps what it has up to its share, the larger shares go to those who would have
to give something up otherwise.

Where they read different topics, nobody can be given what he does not read. First everybody
keeps what he has; what is free goes to the reader with the smallest share, topics with few
readers first; then single partitions move from large shares to small ones for as long as a
topic has two readers whose shares differ by two or more. Every such move makes the sum of the
squares of the shares smaller, so it ends. What a member has got only now is moved before what it
had.
Rejected: moves over several members in between (A gives to B what B then gives to C). They even
out a little more, and move much more.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from ottla.base.ids import Uuid
from ottla.coordinator.group.assignors.model import GroupSpec, Place, Shares, shares_of


def assign_uniform(spec: GroupSpec) -> Shares:
    order = sorted(spec.members)
    if not order:
        return {}
    topics = spec.members[order[0]].topics
    if all(member.topics == topics for member in spec.members.values()):
        return _even(spec, order, topics)
    return _Uneven(spec, order).shares()


# -- all members read the same


def _even(spec: GroupSpec, order: Sequence[str], topics: frozenset[Uuid]) -> Shares:
    everything = [
        (topic, index)
        for topic in sorted(topics)
        for index in range(spec.partition_counts.get(topic, 0))
    ]
    size, larger = divmod(len(everything), len(order))
    taken: set[Place] = set()
    places: dict[str, list[Place]] = {}
    for member_id in order:
        held = [place for place in spec.held(spec.members[member_id]) if place not in taken]
        room = size
        if len(held) > size and larger:
            room += 1
            larger -= 1
        places[member_id] = held[:room]
        taken.update(places[member_id])
    free = [place for place in everything if place not in taken]
    free.reverse()
    for member_id in order:
        mine = places[member_id]
        room = size - len(mine)
        if room >= 0 and larger:
            room += 1
            larger -= 1
        for _ in range(room):
            mine.append(free.pop())
    return shares_of(places)


# -- members read different topics


class _Uneven:
    def __init__(self, spec: GroupSpec, order: Sequence[str]) -> None:
        self._spec = spec
        self._order = order
        self._size = dict.fromkeys(order, 0)
        self._has: dict[Uuid, dict[str, list[int]]] = {}
        """Of each topic, who has which partitions; those that were got now at the end."""
        self._readers: dict[Uuid, list[str]] = {topic: [] for topic in spec.partition_counts}
        for member_id in order:
            for topic in spec.members[member_id].topics:
                self._readers[topic].append(member_id)

    def shares(self) -> Shares:
        topics = [topic for topic, readers in self._readers.items() if readers]
        topics.sort(key=lambda topic: (len(self._readers[topic]), topic))
        free = self._keep(topics)
        for topic in topics:
            self._give(topic, free[topic])
        while any([self._level(topic) for topic in topics]):
            pass
        places: dict[str, list[Place]] = {member_id: [] for member_id in self._order}
        for topic, owners in self._has.items():
            for member_id, indexes in owners.items():
                places[member_id] += [(topic, index) for index in indexes]
        return shares_of(places)

    def _keep(self, topics: Sequence[Uuid]) -> dict[Uuid, list[int]]:
        """Everybody keeps what he has; the partitions that nobody has."""
        taken: dict[Uuid, set[int]] = {topic: set() for topic in topics}
        self._has = {topic: {} for topic in topics}
        for member_id in self._order:
            for topic, index in self._spec.held(self._spec.members[member_id]):
                if index not in taken[topic]:
                    taken[topic].add(index)
                    self._add(topic, member_id, index)
        counts = self._spec.partition_counts
        return {
            topic: [index for index in range(counts[topic]) if index not in taken[topic]]
            for topic in topics
        }

    def _add(self, topic: Uuid, member_id: str, index: int) -> None:
        self._has[topic].setdefault(member_id, []).append(index)
        self._size[member_id] += 1

    def _give(self, topic: Uuid, free: Sequence[int]) -> None:
        heap = [(self._size[member_id], member_id) for member_id in self._readers[topic]]
        heapify(heap)
        for index in free:
            size, member_id = heappop(heap)
            self._add(topic, member_id, index)
            heappush(heap, (size + 1, member_id))

    def _level(self, topic: Uuid) -> bool:
        """Move partitions of a topic between its readers; whether any was moved."""
        size, owners = self._size, self._has[topic]
        large = [(-size[member_id], member_id) for member_id, has in owners.items() if has]
        small = [(size[member_id], member_id) for member_id in self._readers[topic]]
        heapify(large)
        heapify(small)
        has_moved = False
        while large:
            # Entries of a size that has changed since are skipped: a newer one is there.
            most, giver = heappop(large)
            if -most != size[giver] or not owners[giver]:
                continue
            least, taker = small[0]
            while least != size[taker]:
                heappop(small)
                least, taker = small[0]
            if -most - least < 2:
                break
            self._add(topic, taker, owners[giver].pop())
            size[giver] -= 1
            has_moved = True
            for member_id in (giver, taker):
                heappush(large, (-size[member_id], member_id))
                heappush(small, (size[member_id], member_id))
        return has_moved

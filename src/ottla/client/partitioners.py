"""Which partition a record goes to, when its sender does not say.

A partitioner is called once for each record, `partitioner(choice, key, value)`, and returns the
index of a partition; any function will do. It never waits: what it needs to know of the topic
and its leaders is in the `Choice`. What it returns is checked.

    Default()       the sender's default: KeyHash for records with a key, Sticky without
    KeyHash()       one partition for one key: order per key. Equal to Java's and librdkafka's
                    murmur2_random; the partition of a key changes when partitions are added
    Sticky()        stays with a partition for a batch's worth of bytes, then takes another by
                    chance: the fullest batches, and all partitions alike (KIP-480, KIP-794)
    RoundRobin()    strictly in turn: the most even spread of records, the smallest batches
    Random()        by chance: an even spread without memory. For few, large records
    Geographic()    partitions whose leader stands in a region, while it has any: short ways,
                    no traffic between regions. Order per key within the region alone

Records without a key are placed on partitions that have a leader; if none has, on any, to wait
there. A key's partition does not depend on leaders.

`send_many` asks some of those here for many records at once (`IN_BULK`; a subclass may place
records its own way, so it is asked for each): `stay(choice)`, the partition for what comes next
without a key, and `stayed(choice, size)`, so many bytes went there; `among(choice)`, the
partitions over which keys are spread by their hash alone.
Rejected: Kafka's `partitioner.adaptive.partitioning` (KIP-794: fewer records for slow brokers);
it measures queues, and a broker that is slow for a second keeps its share smaller for minutes.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from ottla.base.world import Rng
from ottla.client.murmur2 import partition_of
from ottla.client.topology import NodeView, TopicView

STICKY_BYTES: Final = 16_384
RECORD_OVERHEAD_BYTES: Final = 12
"""What a record takes besides key and value, as Sticky counts."""


class Choice:
    """What a partitioner may look at: one topic as it is known now."""

    __slots__ = ("rng", "topic")

    def __init__(self, topic: TopicView, rng: Rng) -> None:
        self.topic = topic
        self.rng = rng

    @property
    def count(self) -> int:
        return len(self.topic.partitions)

    @property
    def candidates(self) -> Sequence[int]:
        """Partitions that have a leader; all, where none has."""
        return self.topic.available or range(len(self.topic.partitions))

    def leader(self, index: int) -> NodeView | None:
        """The node that leads a partition, if it is known."""
        return self.topic.nodes.get(self.topic.partitions[index].leader)

    def draw(self, among: Sequence[int]) -> int:
        """One of them by chance."""
        return among[self.rng.randrange(0, len(among))]


class KeyHash:
    """By murmur2 of the key; a record without one goes by chance.

    Use it where the order of a key's records matters and every record has a key.
    """

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        if key is None:
            return choice.draw(choice.candidates)
        return partition_of(key, len(choice.topic.partitions))

    def among(self, choice: Choice) -> Sequence[int]:
        return range(len(choice.topic.partitions))


class RoundRobin:
    """In turn over the partitions that have a leader, for each topic; keys are not looked at.

    Use it where consumers should get the same number of records each.
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        name = choice.topic.name
        turn = self._next.get(name, 0)
        self._next[name] = turn + 1
        candidates = choice.candidates
        return candidates[turn % len(candidates)]


class Random:
    """By chance, record by record; keys are not looked at."""

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        return choice.draw(choice.candidates)


class Sticky:
    """One partition for `bytes` of records (a batch's worth), then another by chance.

    Use it for records without a key, where throughput counts. `among` narrows the candidates.
    """

    def __init__(
        self,
        bytes: int = STICKY_BYTES,
        *,
        among: Callable[[Choice], Sequence[int]] = lambda choice: choice.candidates,
    ) -> None:
        self._bytes = bytes
        self._among = among
        self._stays: dict[str, _Stay] = {}

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        # hot: client produce
        stay = self._stays.get(choice.topic.name)
        if stay is None or stay.bytes_left <= 0 or stay.topic is not choice.topic:
            stay = self._looked_at(choice)
        size = RECORD_OVERHEAD_BYTES if value is None else RECORD_OVERHEAD_BYTES + len(value)
        stay.bytes_left -= size if key is None else size + len(key)
        return stay.partition

    def stay(self, choice: Choice) -> int:
        return self._looked_at(choice).partition

    def stayed(self, choice: Choice, size: int) -> None:
        self._stays[choice.topic.name].bytes_left -= size

    def _looked_at(self, choice: Choice) -> "_Stay":
        """The stay: a new one where it is over, or its partition is none to choose any more."""
        name, candidates = choice.topic.name, self._among(choice)
        stay = self._stays.get(name)
        if stay is None or stay.bytes_left <= 0 or stay.partition not in candidates:
            others = [each for each in candidates if stay is None or each != stay.partition]
            stay = self._stays[name] = _Stay(choice.draw(others or candidates), self._bytes)
        stay.topic = choice.topic
        return stay


class _Stay:
    """With one partition of a topic."""

    __slots__ = ("bytes_left", "partition", "topic")

    def __init__(self, partition: int, bytes_left: int) -> None:
        self.partition = partition
        self.bytes_left = bytes_left
        self.topic: TopicView | None = None
        """As it was when the partition was last among those to choose from."""


class Default:
    """KeyHash for records that have a key, Sticky for those that have none, as in Kafka."""

    def __init__(self, sticky_bytes: int = STICKY_BYTES) -> None:
        self._sticky = Sticky(sticky_bytes)
        self.stay, self.stayed = self._sticky.stay, self._sticky.stayed

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        # hot: client produce
        if key is None:
            return self._sticky(choice, None, value)
        return partition_of(key, len(choice.topic.partitions))

    def among(self, choice: Choice) -> Sequence[int]:
        return range(len(choice.topic.partitions))


class Geographic:
    """Prefers partitions whose leader stands in a region, in the order the regions are given.

    A region is a `broker.rack`, or a pattern of racks or host names (`eu-*`, `*.fra.example.org`).
    The first region that has a leader now is used; where none of them has, all partitions are.
    So it never waits for a region that is gone, and comes back to it by itself when metadata
    shows it again. Within the region records are placed by key hash, or stick without a key:
    a key moves when leaders move, so use it where the place counts more than order per key.

        Producer(partitioner=Geographic("eu-central", "eu-*"))
    """

    def __init__(self, *regions: str, sticky_bytes: int = STICKY_BYTES) -> None:
        if not regions:
            raise ValueError("Geographic needs at least one region")
        self.regions: Final = regions
        self._sticky = Sticky(sticky_bytes, among=self.preferred)
        self.stay, self.stayed = self._sticky.stay, self._sticky.stayed
        self.among = self.preferred
        self._known: dict[str, tuple[TopicView, Sequence[int]]] = {}

    def __call__(self, choice: Choice, key: bytes | None, value: bytes | None) -> int:
        if key is None:
            return self._sticky(choice, None, value)
        preferred = self.preferred(choice)
        return preferred[partition_of(key, len(preferred))]

    def preferred(self, choice: Choice) -> Sequence[int]:
        """The partitions to choose from now; looked up once for each state of the metadata."""
        topic = choice.topic
        known = self._known.get(topic.name)
        if known is None or known[0] is not topic:
            known = self._known[topic.name] = topic, self._find(choice)
        return known[1]

    def _find(self, choice: Choice) -> Sequence[int]:
        candidates = choice.candidates
        for region in self.regions:
            near = [each for each in candidates if is_in(choice.leader(each), region)]
            if near:
                return near
        return candidates


IN_BULK: Final = (KeyHash, Sticky, Default, Geographic)


def is_in(node: NodeView | None, region: str) -> bool:
    """Whether a node's rack or host fits a region's name or pattern."""
    if node is None:
        return False
    return fnmatchcase(node.host, region) or (
        node.rack is not None and fnmatchcase(node.rack, region)
    )

"""The partition of a key, as Kafka's Java client chooses it: a key must land where every other
client puts it, so this also takes Java's way of losing the hash's sign."""

from ottla.records.kernel import murmur2


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key among `count`, as Kafka's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFF_FFFF) % count

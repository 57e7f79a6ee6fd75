"""Partitioners: murmur2 against Java's values and an independent client, the spread of each."""

import random
import warnings
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.ids import ZERO_UUID
from ottla.client.murmur2 import murmur2, partition_of
from ottla.client.partitioners import (
    Choice,
    Default,
    Geographic,
    KeyHash,
    Random,
    RoundRobin,
    Sticky,
    is_in,
)
from ottla.client.topology import NodeView, PartitionView, TopicView

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own use of importlib.resources
    from kafka.partitioner.default import murmur2 as peers_murmur2

NODES = {
    1: NodeView(1, "a.fra.example.org", 9092, "eu-central"),
    2: NodeView(2, "b.dub.example.org", 9092, "eu-west"),
    3: NodeView(3, "c.iad.example.org", 9092, "us-east"),
}


def choice(leaders, seed=1, name="t"):
    partitions = tuple(PartitionView(index, leader) for index, leader in enumerate(leaders))
    available = tuple(index for index, leader in enumerate(leaders) if leader >= 0)
    topic = TopicView(name, ZERO_UUID, partitions, nodes=NODES, available=available)
    return Choice(topic, random.Random(seed))


@pytest.mark.parametrize(
    "key, signed",
    [
        # From Kafka's own UtilsTest.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key, signed):
    assert murmur2(key) == signed & 0xFFFF_FFFF


@given(st.binary(max_size=100), st.integers(1, 1_000))
def test_murmur2_is_that_of_another_client(key, count):
    assert murmur2(key) == peers_murmur2(key) & 0xFFFF_FFFF
    assert partition_of(key, count) == (peers_murmur2(key) & 0x7FFF_FFFF) % count


def test_a_key_has_one_partition_whoever_leads():
    for partitioner in (KeyHash(), Default()):
        before = [partitioner(choice([1, 2, 3]), b"%d" % n, b"") for n in range(50)]
        after = [partitioner(choice([-1, 2, -1]), b"%d" % n, b"") for n in range(50)]
        assert before == after and len(set(before)) == 3


def test_round_robin_takes_turns_for_each_topic():
    partitioner = RoundRobin()
    taken = [partitioner(choice([1, -1, 3]), None, b"") for _ in range(6)]
    assert taken == [0, 2, 0, 2, 0, 2]
    assert partitioner(choice([1, 2], name="other"), b"key", b"") == 0


def test_random_is_even():
    partitioner, chosen = Random(), choice([1, 2, 3, -1])
    counts = Counter(partitioner(chosen, b"key", b"") for _ in range(3_000))
    assert sorted(counts) == [0, 1, 2] and min(counts.values()) > 900


def test_sticky_stays_for_its_bytes_and_then_goes_elsewhere():
    partitioner, chosen = Sticky(1_000), choice([1, 2, 3])
    taken = [partitioner(chosen, None, bytes(88)) for _ in range(1_000)]
    runs = [taken[at : at + 10] for at in range(0, 1_000, 10)]
    assert all(len(set(run)) == 1 for run in runs)
    assert all(a[0] != b[0] for a, b in pairwise(runs))
    assert min(Counter(taken).values()) > 200


def test_sticky_leaves_a_partition_that_lost_its_leader():
    partitioner = Sticky()
    first = partitioner(choice([1, 2]), None, b"x")
    leaders = [1, 2]
    leaders[first] = -1
    assert partitioner(choice(leaders), None, b"x") == 1 - first
    assert partitioner(choice([-1, -1]), None, b"x") in (0, 1)


def test_geographic_prefers_its_regions_in_order_and_never_waits():
    partitioner = Geographic("eu-central", "eu-*")
    leaders = [1, 2, 3, 1]
    assert {partitioner(choice(leaders), b"%d" % n, b"") for n in range(50)} == {0, 3}
    assert {partitioner(choice([-1, 2, 3, -1]), b"%d" % n, b"") for n in range(50)} == {1}
    assert {partitioner(choice([3, 3, 3, 3]), b"%d" % n, b"") for n in range(50)} == {0, 1, 2, 3}
    assert partitioner(choice([-1] * 4), None, b"") in range(4)
    back = {partitioner(choice(leaders, seed), None, bytes(20_000)) for seed in range(20)}
    assert back == {0, 3}


def test_geographic_by_host():
    assert is_in(NODES[2], "*.dub.example.org") and not is_in(NODES[1], "*.dub.example.org")
    assert not is_in(None, "*") and not is_in(NodeView(1, "h", 1), "eu-*")
    with pytest.raises(ValueError, match="region"):
        Geographic()

"""Placement: spread evenly, over racks first, the same for the same start."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.metadata.image import BrokerImage
from ottla.metadata.placement import check_assignments, place

racks = st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=9)


def brokers_of(racks):
    return {node: BrokerImage(node, "h", 1, rack, 1) for node, rack in enumerate(racks)}


@given(racks, st.integers(1, 9), st.integers(0, 40), st.integers(1, 60), st.integers(0, 99))
def test_replicas_are_different_brokers_over_as_many_racks_as_can_be(
    racks, factor, first, count, start
):
    factor = min(factor, len(racks))
    brokers = brokers_of(racks)
    placed = place(brokers, first=first, count=count, replication_factor=factor, start=start)
    assert len(placed) == count
    for replicas in placed:
        assert len(set(replicas)) == len(replicas) == factor
        assert len({racks[node] for node in replicas}) == min(factor, len(set(racks)))
    leaders = Counter(replicas[0] for replicas in placed)
    counts = [leaders[node] for node in brokers]
    assert max(counts) - min(counts) <= 1


def test_partitions_that_come_later_go_on_where_the_first_ended():
    brokers = brokers_of([None] * 5)
    arguments = {"replication_factor": 3, "start": 2}
    whole = place(brokers, first=0, count=12, **arguments)
    assert whole[:7] == place(brokers, first=0, count=7, **arguments)
    assert whole[7:] == place(brokers, first=7, count=5, **arguments)


def test_followers_of_a_leader_change_from_round_to_round():
    placed = place(brokers_of([None] * 4), first=0, count=12, replication_factor=2, start=0)
    assert {replicas for replicas in placed if replicas[0] == 0} == {(0, 1), (0, 2), (0, 3)}


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_brokers(count):
    with pytest.raises(KafkaError) as caught:
        place(brokers_of([None] * count), first=0, count=1, replication_factor=3, start=0)
    assert caught.value.code is ErrorCode.INVALID_REPLICATION_FACTOR


@pytest.mark.parametrize("lists", [[[]], [[0, 0]], [[7]], [[0], [0, 1]], [[-1]]])
def test_assignments_that_cannot_stand(lists):
    with pytest.raises(KafkaError) as caught:
        check_assignments(lists, brokers_of([None] * 3))
    assert caught.value.code is ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_assignments_that_stand():
    assert check_assignments([[2, 0], [0, 1]], brokers_of([None] * 3)) == [(2, 0), (0, 1)]

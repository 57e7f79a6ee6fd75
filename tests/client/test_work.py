"""Lanes and progress: which record may be at work, and what may be committed."""

import random

import pytest

from ottla.base.ids import TopicPartition
from ottla.client.records import ConsumerRecord
from ottla.client.work import ORDERS, Work

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def record(offset, key=None, place=P0):
    return ConsumerRecord(*place, offset, 0, key, b"", ())


def offsets(items):
    return [item.record.offset for item in items]


def everything_ready(work):
    found = []
    while (item := work.next()) is not None:
        found.append(item)
    return found


def test_of_one_key_one_at_a_time_and_those_without_a_key_all_at_once():
    work = Work("key")
    for offset, key in enumerate([b"a", b"a", b"b", None, None, b"a"]):
        work.add(P0, record(offset, key))
    work.add(P1, record(0, b"a", P1))
    ready = everything_ready(work)
    assert offsets(ready) == [0, 2, 3, 4, 0]
    work.done(ready[0])
    (second,) = everything_ready(work)
    assert second.record.offset == 1
    work.done(ready[1])
    assert everything_ready(work) == []
    work.again(second)
    assert everything_ready(work) == [second]
    work.done(second)
    assert offsets(everything_ready(work)) == [5]


def test_a_partition_at_a_time():
    work = Work("partition")
    for offset in range(3):
        work.add(P0, record(offset))
        work.add(P1, record(offset, place=P1))
    assert [(item.key, item.record.offset) for item in everything_ready(work)] == [(P0, 0), (P1, 0)]


def test_the_position_is_the_first_that_is_not_done():
    work = Work("none")
    for offset in (3, 5, 9):
        work.add(P0, record(offset))
    first, second, third = everything_ready(work)
    assert work.first_undone(P0) == 3
    work.done(second)
    work.done(third)
    assert (work.first_undone(P0), work.undone_count(P0)) == (3, 1)
    work.done(first)
    assert (work.first_undone(P0), work.undone_count(P0)) == (None, 0)


def test_what_was_dropped_is_neither_ready_nor_done_nor_tried_again():
    work = Work("key")
    for offset in range(4):
        work.add(P0, record(offset, b"k"))
        work.add(P1, record(offset, b"k", P1))
    first, _ = everything_ready(work)
    work.drop([P0])
    work.add(P0, record(0, b"k"))  # it came back
    work.done(first)
    work.again(first)
    (again,) = everything_ready(work)
    assert again is not first and work.first_undone(P0) == 0
    assert work.undone_count(P0) == 1 and work.undone_count(P1) == 4


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_order_is_kept_and_nothing_is_passed_over(order, seed):
    rng = random.Random(seed)
    work, at_work, put_off = Work(order), [], []
    next_offset, finished = {P0: 0, P1: 0}, {P0: [], P1: []}
    for _ in range(2_000):
        place = rng.choice([P0, P1])
        match rng.randrange(5):
            case 0 | 1:
                key = rng.choice([None, b"a", b"b", b"c"])
                work.add(place, record(next_offset[place], key, place))
                next_offset[place] += rng.choice([1, 1, 3])
            case 2 if (item := work.next()) is not None:
                at_work.append(item)
            case 3 if at_work:
                item = at_work.pop(rng.randrange(len(at_work)))
                if rng.random() < 0.3:
                    put_off.append(item)
                else:
                    work.done(item)
                    finished[item.key].append(item.record)
            case 4 if put_off:
                work.again(put_off.pop(rng.randrange(len(put_off))))
        lanes = [item.lane for item in (*at_work, *put_off)]
        assert len(lanes) == len({id(lane) for lane in lanes}), "two of one lane at work"
        for key, done in finished.items():
            first = work.first_undone(key)
            done_offsets = {each.offset for each in done}
            assert first not in done_offsets
    for done in finished.values():
        for key in (None, b"a", b"b", b"c"):
            found = [each.offset for each in done if each.key == key]
            if order == "partition" or (order == "key" and key is not None):
                assert found == sorted(found)

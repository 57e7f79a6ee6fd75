"""Batches as a producer builds them are what the broker's own reader reads."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from ottla.client.batch import Batch
from ottla.records.builder import build_batch
from ottla.records.compression import compress
from ottla.records.record import Record, iterate_records

CONTENT = st.none() | st.binary(max_size=300) | st.just(bytes(3_000))
HEADERS = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=9)), max_size=3)
RECORDS = st.lists(
    st.tuples(st.integers(0, 1 << 42), CONTENT, CONTENT, HEADERS), min_size=1, max_size=20
)


def gathered(records):
    batch = Batch("t", 0, 1, 0.0, 1.0)
    for timestamp, key, value, headers in records:
        batch.append(timestamp, key, value, headers)
    batch.payload = batch.body
    return batch


def as_records(records):
    return [
        Record(offset, timestamp, key, value, tuple(headers))
        for offset, (timestamp, key, value, headers) in enumerate(records)
    ]


@given(RECORDS)
def test_a_batch_is_what_the_builder_builds(records):
    batch = gathered(records)
    batch.give_sequence(5, 3, 77)
    wanted = build_batch(as_records(records), producer_id=5, producer_epoch=3, base_sequence=77)
    assert batch.sealed() == wanted
    assert batch.sent_bytes == len(wanted)


@given(RECORDS, st.sampled_from([1, 2, 3, 4]))
def test_a_packed_batch_is_read_again(records, codec):
    batch = gathered(records)
    batch.codec, batch.payload = codec, compress(codec, batch.body)
    assert list(iterate_records(batch.sealed(), 1 << 20)) == as_records(records)


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=200),
    st.lists(st.binary(max_size=300), max_size=5),
    st.integers(0, 5_000),
)
def test_values_in_one_go_are_as_one_by_one(values, before, later):
    one_by_one, in_one_go = gathered([(0, None, b"x", ())]), gathered([(0, None, b"x", ())])
    for value in before + values:
        one_by_one.append(later, None, value, ())
    for value in before:
        in_one_go.append(later, None, value, ())
    whole = in_one_go.extend(later, None, [b"left", *values], 1, 1 << 30)
    assert whole == 1 + len(values) and in_one_go.count == one_by_one.count
    assert in_one_go.extend(later + 1, None, [b"no room"], 0, 5) == 0
    assert in_one_go.sealed() == one_by_one.sealed()


def test_many_records_and_long_ones_need_longer_numbers():
    records = [(n * 7, None, b"v", ()) for n in range(5_000)] + [(1, b"k" * 5_000, None, ())]
    batch = gathered(records)
    assert list(iterate_records(batch.sealed(), 1 << 20)) == as_records(records)
    assert batch.max_timestamp == 4_999 * 7


def test_what_is_no_bytes_changes_nothing():
    batch = gathered([(0, None, b"x", ())])
    before = bytes(batch.sealed())
    for wrong in ("text", 5, ["x"]):
        with suppress(TypeError):
            batch.append(0, None, wrong, ())
        assert batch.sealed() == before


def test_sealing_again_makes_new_bytes():
    batch = gathered([(0, None, b"x" * 1_000, ())])
    first = batch.sealed()
    batch.give_sequence(1, 2, 3)
    assert batch.sealed() is not first and first == gathered([(0, None, b"x" * 1_000, ())]).sealed()

"""Fetched bytes as columns: the same as the strict reader gives, and damage is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.records import Columns, add_columns, split_batches
from ottla.records.batch import seal_batch
from ottla.records.builder import build_batch
from ottla.records.record import Record, iterate_records

CONTENT = st.none() | st.binary(max_size=200) | st.just(bytes(9_000))
HEADERS = st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=99)), max_size=3)
ROWS = st.lists(
    st.tuples(st.integers(1, 90), st.integers(0, 1 << 42), CONTENT, CONTENT, HEADERS),
    min_size=1,
    max_size=20,
)


def as_records(rows, first=0):
    records, offset = [], first
    for gap, timestamp, key, value, headers in rows:
        records.append(Record(offset, timestamp, key, value, tuple(headers)))
        offset += gap
    return records


def columns_of(data, first=0):
    columns = Columns("t", 0)
    for batch in split_batches(memoryview(data), check_crcs=True):
        add_columns(batch, first, columns)
    return columns


def rows_of(columns):
    return [
        Record(*row)
        for row in zip(
            columns.offsets,
            columns.timestamps_ms,
            columns.keys,
            columns.values,
            columns.headers,
            strict=True,
        )
    ]


@given(ROWS, st.sampled_from(range(5)), st.none() | st.integers(0, 1 << 40), st.integers(0, 50))
def test_columns_are_what_the_strict_reader_reads(rows, codec, append_time, first):
    records = as_records(rows, 5)
    batch = build_batch(records, base_offset=5, codec=codec, log_append_time=append_time)
    wanted = [each for each in iterate_records(batch, 1 << 20) if each.offset >= first]
    assert rows_of(columns_of(bytes(batch), first)) == wanted


@given(ROWS, st.data())
def test_a_damaged_body_is_told_or_reads_as_the_strict_reader_reads_it(rows, data):
    batch = build_batch(as_records(rows))
    at = data.draw(st.integers(61, len(batch) - 1))
    batch[at] = data.draw(st.integers(0, 255))
    seal_batch(batch)
    try:
        wanted = list(iterate_records(batch, 1 << 20))
    except KafkaError as error:
        with pytest.raises(KafkaError) as told:
            columns_of(bytes(batch))
        assert told.value.code is error.code
    else:
        assert rows_of(columns_of(bytes(batch))) == wanted


def test_batches_are_cut_out_and_a_torn_one_at_the_end_is_left():
    first = build_batch(as_records([(1, 1, None, b"a", [])]))
    second = build_batch(as_records([(1, 1, None, b"b", [])], 1), base_offset=1)
    data = bytes(first + second)
    assert columns_of(data).values == [b"a", b"b"]
    for cut in (1, 30, len(second) - 1):
        assert columns_of(data[:-cut]).values == [b"a"]
    assert columns_of(b"").values == []


@pytest.mark.parametrize("at, told", [(16, "format"), (17, "CRC"), (8, "header"), (70, "CRC")])
def test_a_batch_that_is_not_what_it_says_is_told(at, told):
    batch = build_batch(as_records([(1, 1, None, b"abcdefgh", [])]))
    batch[at] ^= 0x81
    with pytest.raises(KafkaError, match=told) as found:
        columns_of(bytes(batch))
    assert found.value.code is ErrorCode.CORRUPT_MESSAGE


def test_without_numpy_or_arrow_it_says_so_and_with_them_it_gives_arrays():
    columns = columns_of(bytes(build_batch(as_records([(1, 7, b"k", b"v", [])]))))
    assert len(columns) == 1
    for name, method in (("numpy", columns.to_numpy), ("pyarrow", columns.to_arrow)):
        try:
            __import__(name)
        except ImportError:
            with pytest.raises(ImportError, match=name):
                method()
        else:
            assert len(method()) in (1, 4)

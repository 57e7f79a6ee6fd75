"""Fetched bytes as columns: the same as the strict reader gives, and damage is told."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.records import ConsumerRecord, columns_of, split_batches
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


def read_all(data, first=0):
    return [
        row
        for batch in split_batches(memoryview(data), check_crcs=True)
        for row in rows_of(columns_of(batch, "t", 3, first))
    ]


def rows_of(columns):
    """By its columns, which are the same as its rows."""
    columns_wise = [
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
    assert columns.rows() == [ConsumerRecord("t", 3, *row) for row in columns_wise]
    assert len(columns) == len(columns_wise)
    return columns_wise


@given(ROWS, st.sampled_from(range(5)), st.none() | st.integers(0, 1 << 40), st.integers(0, 50))
def test_columns_are_what_the_strict_reader_reads(rows, codec, append_time, first):
    records = as_records(rows, 5)
    batch = build_batch(records, base_offset=5, codec=codec, log_append_time=append_time)
    wanted = [each for each in iterate_records(batch, 1 << 20) if each.offset >= first]
    assert read_all(bytes(batch), first) == wanted


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
            read_all(bytes(batch))
        assert told.value.code is error.code
    else:
        assert read_all(bytes(batch)) == wanted


def test_batches_are_cut_out_and_a_torn_one_at_the_end_is_left():
    first = build_batch(as_records([(1, 1, None, b"a", [])]))
    second = build_batch(as_records([(1, 1, None, b"b", [])], 1), base_offset=1)
    data = bytes(first + second)
    assert [each.value for each in read_all(data)] == [b"a", b"b"]
    for cut in (1, 30, len(second) - 1):
        assert [each.value for each in read_all(data[:-cut])] == [b"a"]
    assert read_all(b"") == []


@pytest.mark.parametrize("at, told", [(16, "format"), (17, "CRC"), (8, "header"), (70, "CRC")])
def test_a_batch_that_is_not_what_it_says_is_told(at, told):
    batch = build_batch(as_records([(1, 1, None, b"abcdefgh", [])]))
    batch[at] ^= 0x81
    with pytest.raises(KafkaError, match=told) as found:
        read_all(bytes(batch))
    assert found.value.code is ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("size", [34, 100])
def test_a_message_of_an_old_format_is_told_however_short(magic, size):
    message = bytes(8) + (size - 12).to_bytes(4, "big") + bytes(4) + bytes([magic])
    with pytest.raises(KafkaError, match=f"format {magic}") as found:
        read_all(message.ljust(size, b"\0"))
    assert found.value.code is ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT


def columns_with_gaps():
    rows = [(1, 7, b"k", b"", []), (5, 9, None, b"abc", []), (1, 8, b"kk", None, [("h", b"x")])]
    batch = bytes(build_batch(as_records(rows, 20), base_offset=20))
    (fetched,) = split_batches(memoryview(batch), check_crcs=True)
    return columns_of(fetched, "t", 3, 0)


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_columns_from_an_index_on(index):
    columns = columns_with_gaps()
    behind = columns.behind(index)
    assert rows_of(behind) == rows_of(columns)[index:]
    assert columns.rows(index, 3) == behind.rows()
    assert len(behind.behind(len(behind))) == 0


@pytest.mark.parametrize("index", [0, 1, 3])
def test_columns_as_numpy_arrays(index):
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    columns = columns_with_gaps().behind(index)
    arrays = columns.to_numpy()
    assert arrays["offset"].dtype == arrays["timestamp"].dtype == numpy.int64
    found = [tuple(arrays[name]) for name in ("offset", "timestamp", "key", "value")]
    wanted = [columns.offsets, columns.timestamps_ms, columns.keys, columns.values]
    assert found == [tuple(each) for each in wanted]
    assert not arrays["offset"].flags.owndata


@pytest.mark.parametrize("index", [0, 1, 3])
def test_columns_as_an_arrow_batch(index):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    columns = columns_with_gaps().behind(index)
    batch = columns.to_arrow()
    batch.validate(full=True)
    assert batch.schema.names == ["offset", "timestamp", "key", "value"]
    assert batch.column("offset").to_pylist() == columns.offsets
    times = batch.column("timestamp").cast(pyarrow.int64())
    assert times.to_pylist() == columns.timestamps_ms
    assert batch.column("key").to_pylist() == columns.keys
    assert batch.column("value").to_pylist() == columns.values


@pytest.mark.parametrize("name", ["numpy", "pyarrow"])
def test_without_the_library_it_says_which(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    columns = columns_with_gaps()
    with pytest.raises(ImportError, match=name):
        columns.to_numpy() if name == "numpy" else columns.to_arrow()

"""The header view: its fields, places, CRC, and walking over batches that stand in a row."""

import struct

import pytest

from ottla.records.batch import (
    HEADER_BYTES,
    PLACE,
    batch_crc,
    iterate_headers,
    read_header,
    seal_batch,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record, iterate_records


def batch_of(count: int, **options: object) -> bytearray:
    return build_batch([Record(n, 1_000 + n, b"k", b"v") for n in range(count)], **options)


def test_fields_and_flags() -> None:
    batch = batch_of(
        3,
        codec=1,
        producer_id=7,
        producer_epoch=2,
        base_sequence=2**31 - 1,
        transactional=True,
        leader_epoch=5,
    )
    header = read_header(batch)
    assert header.size_bytes == len(batch)
    assert (header.base_offset, header.last_offset, header.record_count) == (0, 2, 3)
    assert (header.producer_id, header.producer_epoch) == (7, 2)
    assert (header.base_sequence, header.last_sequence) == (2**31 - 1, 1)
    assert (header.base_timestamp, header.max_timestamp) == (1_000, 1_002)
    assert header.codec == 1 and header.is_transactional and header.partition_leader_epoch == 5
    assert not (header.is_control or header.is_log_append_time or header.has_delete_horizon)
    assert read_header(batch_of(1)).last_sequence == -1


def test_a_placed_batch_keeps_its_crc_and_everything_else() -> None:
    row = bytearray(b"head") + batch_of(2) + batch_of(3)
    at = 4 + len(batch_of(2))
    header = read_header(row, at)
    PLACE.pack_into(row, at, 1 << 40, header.batch_length, 9)
    placed = read_header(row, at)
    assert placed == header._replace(base_offset=1 << 40, partition_leader_epoch=9)
    assert batch_crc(row, at, placed.size_bytes) == placed.crc
    assert row[:at] == bytearray(b"head") + batch_of(2)
    assert [r.offset for r in iterate_records(row[at:], 1_000)] == [(1 << 40) + n for n in range(3)]


def test_a_seal_covers_everything_from_the_attributes_on() -> None:
    batch = batch_of(1)
    for at in range(21, len(batch)):
        batch[at] ^= 1
        assert batch_crc(batch, 0, len(batch)) != read_header(batch).crc
        batch[at] ^= 1
    batch[-1] ^= 1
    seal_batch(batch)
    assert batch_crc(memoryview(batch), 0, len(batch)) == read_header(batch).crc


def test_headers_in_a_row_until_a_torn_tail() -> None:
    first, second = batch_of(1), batch_of(2)
    row = first + second
    assert [at for at, _ in iterate_headers(row)] == [0, len(first)]
    for cut in range(len(first), len(row)):
        assert [at for at, _ in iterate_headers(memoryview(row)[:cut])] == [0]
    struct.pack_into(">i", row, len(first) + 8, HEADER_BYTES - 13)
    assert [at for at, _ in iterate_headers(row)] == [0]


def test_too_few_bytes_are_an_error_of_struct() -> None:
    with pytest.raises(struct.error):
        read_header(bytes(HEADER_BYTES - 1))

"""The layout of a record batch, and a view of its header.

    offset  bytes  field                     big-endian
       0      8    base offset               set by the broker
       8      4    batch length              bytes after this field
      12      4    partition leader epoch    set by the broker
      16      1    magic                     2
      17      4    CRC-32C                   of byte 21 to the end
      21      2    attributes                bits 0-2 codec, 3 log-append time, 4 transactional,
                                             5 control, 6 delete horizon
      23      4    last offset delta
      27      8    base timestamp            ms; the delete horizon where bit 6 is set
      35      8    max timestamp             ms
      43      8    producer id               -1 none
      51      2    producer epoch            -1 none
      53      4    base sequence             -1 none
      57      4    record count
      61           records, compressed as a whole where a codec is set

Base offset and leader epoch lie before the CRC and outside it, so that a broker places a batch
without touching the rest. A batch stays bytes: what is read of it is this header.
Source: Kafka's documentation, "Record Batch"; KIP-98 (producer fields), KIP-534 (bit 6).
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from ottla.base.world import Bytes

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = 61
PLACE: Final = struct.Struct(">qii")
"""What a broker writes of a header: base offset, length (unchanged), leader epoch. The CRC, which
covers none of it, stays true."""
CRC: Final = struct.Struct(">I")
CRC_AT: Final = 17
LENGTH_OVERHEAD: Final = 12
"""Bytes of a batch that its length field does not count."""
CRC_START: Final = 21
MAGIC: Final = 2

CODEC_MASK: Final = 0b111
LOG_APPEND_TIME: Final = 1 << 3
TRANSACTIONAL: Final = 1 << 4
CONTROL: Final = 1 << 5
DELETE_HORIZON: Final = 1 << 6


class BatchHeader(NamedTuple):
    """The 13 fields of a header, in the order of the bytes."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        return self.batch_length + LENGTH_OVERHEAD

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        return bool(self.attributes & DELETE_HORIZON)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31-1 to 0."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


def read_header(view: Bytes, at: int = 0) -> BatchHeader:
    """The header that starts at `at`; struct.error if fewer than 61 bytes are there."""
    return BatchHeader._make(HEADER.unpack_from(view, at))


def iterate_headers(view: Bytes) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch in `view`, in order; stops at a torn tail.

    For bytes that were checked when they were written: lengths are held to the view, nothing
    else is checked.
    """
    at, end = 0, len(view)
    while end - at >= HEADER_BYTES:
        header = read_header(view, at)
        size = header.size_bytes
        if size < HEADER_BYTES or at + size > end:
            return
        yield at, header
        at += size


def batch_crc(view: Bytes, at: int, size_bytes: int) -> int:
    """CRC-32C of the batch of that size at `at`, to compare with its header's."""
    return crc32c(memoryview(view)[at + CRC_START : at + size_bytes])


def seal_batch(view: bytearray | memoryview) -> None:
    """Write the CRC that one whole batch, which fills `view`, must have."""
    CRC.pack_into(view, CRC_AT, batch_crc(view, 0, len(view)))

"""One record, and reading the records out of a batch.

    record, in the unpacked records section      v = varint, V = varlong (see varint.py)
    v length of what follows | i8 attributes | V timestamp - base timestamp | v offset - base
    v key length, -1 null | key | v value length, -1 null | value
    v header count | for each: v name length | name | v value length, -1 null | value

A broker makes no records on its data path: this is for compaction, coordinators, clients, and
the topics whose records are checked one by one. Every length is held to the bytes of its own
record; a record that is longer or shorter than it says, more or fewer records than the batch
counts, and bytes behind the last one are INVALID_RECORD. The attributes byte has no meaning and
is not looked at, as in Kafka. The CRC is not looked at either: whoever hands in a batch has.

Header names are UTF-8 by convention only; bytes that are not come back as lone surrogates, so
that what is read and written again stays the same bytes.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Bytes
from ottla.records.batch import HEADER_BYTES, MAGIC, BatchHeader, read_header
from ottla.records.compression import decompress
from ottla.records.varint import decode_varint

TIMESTAMP_MIN: Final = -(1 << 63)
TIMESTAMP_MAX: Final = (1 << 63) - 1

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[Header, ...] = ()


def iterate_records(batch: Bytes, max_bytes: int) -> Iterator[Record]:
    """The records of one whole batch that fills `batch`, unpacked to at most `max_bytes`.

    KafkaError: CORRUPT_MESSAGE where the header is not that of such a batch, INVALID_RECORD
    where its records are not what they say, MESSAGE_TOO_LARGE past `max_bytes`.
    """
    header = _whole_header(batch)
    body = decompress(header.codec, memoryview(batch)[HEADER_BYTES:], max_bytes)
    return iterate_body(header, body)


def iterate_body(header: BatchHeader, body: bytes) -> Iterator[Record]:
    """The records in `body`, the unpacked records section of the batch with this header."""
    base_offset, base_timestamp = header.base_offset, header.base_timestamp
    append_time = header.max_timestamp if header.is_log_append_time else None
    at, end = 0, len(body)
    for _ in range(header.record_count):
        if at >= end:
            raise _invalid("Batch holds fewer records than it counts")
        size, at = _varint(body, at)
        stop = at + size
        if size <= 0 or stop > end:
            raise _invalid("Record is longer than its batch")
        delta, at = decode_varint(body, at + 1, bits=64)
        timestamp = base_timestamp + delta if append_time is None else append_time
        if not TIMESTAMP_MIN <= timestamp <= TIMESTAMP_MAX:
            raise _invalid("Record has a timestamp out of range")
        offset_delta, at = _varint(body, at)
        key, at = _nullable(body, at, stop)
        value, at = _nullable(body, at, stop)
        headers, at = _headers(body, at, stop)
        if at != stop:
            raise _invalid("Record does not end where it says")
        yield Record(base_offset + offset_delta, timestamp, key, value, headers)
    if at != end:
        raise _invalid("Bytes are left behind the last record of the batch")


def _whole_header(batch: Bytes) -> BatchHeader:
    size = len(batch)
    if size < HEADER_BYTES:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "Batch is shorter than its header")
    header = read_header(batch)
    if header.size_bytes != size or header.magic != MAGIC or header.record_count < 0:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "Batch has a header that is not its own")
    return header


def _invalid(cause: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, cause)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """As decode_varint, quick for the one byte that most take. `at` may be past the end."""
    first = body[at] if at < len(body) else 0x80
    if first < 0x80:
        return first >> 1 ^ -(first & 1), at + 1
    return decode_varint(body, at)


def _nullable(body: bytes, at: int, stop: int) -> tuple[bytes | None, int]:
    size, at = _varint(body, at)
    end = at + size
    if size < -1 or end > stop:
        raise _invalid("Record holds a length that does not fit it")
    return (None, at) if size < 0 else (body[at:end], end)


def _headers(body: bytes, at: int, stop: int) -> tuple[tuple[Header, ...], int]:
    count, at = _varint(body, at)
    if not count:
        return (), at
    if not 0 < count <= stop - at:
        raise _invalid("Record holds a count of headers that does not fit it")
    headers = []
    for _ in range(count):
        name, at = _nullable(body, at, stop)
        if name is None:
            raise _invalid("Record holds a header without a name")
        value, at = _nullable(body, at, stop)
        headers.append((name.decode("utf-8", "surrogateescape"), value))
    return tuple(headers), at

"""Records as a consumer gives them: one by one, as batches, or as columns.

A fetched batch is decoded when it is looked at, not when it arrives: `poll_batch` hands out
columns without ever making an object for a record, and a consumer that seeks away has decoded
nothing in vain. The CRC is checked before anything is believed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.records.batch import (
    HEADER_BYTES,
    MAGIC,
    BatchHeader,
    batch_crc,
    read_header,
)
from ottla.records.compression import decompress
from ottla.records.record import Header, Record, iterate_body
from ottla.records.varint import decode_varint

CORRUPT: Final = ErrorCode.CORRUPT_MESSAGE


class ConsumerRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@dataclass(slots=True)
class Columns:
    """Records of one partition as columns of equal length, in the order of their offsets."""

    topic: str
    partition: int
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[tuple[Header, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def to_arrow(self) -> Any:
        """A `pyarrow.RecordBatch` with columns offset, timestamp, key and value; ImportError
        where pyarrow is not installed."""
        pyarrow = import_module("pyarrow")
        return pyarrow.RecordBatch.from_arrays(
            [
                pyarrow.array(self.offsets, pyarrow.int64()),
                pyarrow.array(self.timestamps_ms, pyarrow.timestamp("ms")),
                pyarrow.array(self.keys, pyarrow.binary()),
                pyarrow.array(self.values, pyarrow.binary()),
            ],
            names=["offset", "timestamp", "key", "value"],
        )

    def to_numpy(self) -> dict[str, Any]:
        """Arrays by column: offset and timestamp of int64, key and value of objects."""
        numpy = import_module("numpy")
        return {
            "offset": numpy.array(self.offsets, numpy.int64),
            "timestamp": numpy.array(self.timestamps_ms, numpy.int64),
            "key": numpy.array(self.keys, object),
            "value": numpy.array(self.values, object),
        }


class FetchedBatch(NamedTuple):
    """One batch as it was fetched: its header, and its bytes."""

    header: BatchHeader
    data: memoryview

    def body(self) -> bytes:
        """The unpacked records section; KafkaError where it cannot be unpacked."""
        return decompress(self.header.codec, self.data[HEADER_BYTES:], DECOMPRESSED_BYTES)

    def records(self) -> Iterator[Record]:
        return iterate_body(self.header, self.body())


def split_batches(data: memoryview, *, check_crcs: bool) -> Iterator[FetchedBatch]:
    """The whole batches in fetched bytes. The last one may be cut short, and is left out.

    KafkaError (CORRUPT_MESSAGE) where a batch is not what its header says.
    """
    # hot: client consume
    at, end = 0, len(data)
    while end - at >= HEADER_BYTES:
        header = read_header(data, at)
        size = header.size_bytes
        if header.magic != MAGIC:
            raise KafkaError(CORRUPT, f"a batch of format {header.magic} is not read")
        if size < HEADER_BYTES or header.record_count < 0 or header.last_offset_delta < 0:
            raise KafkaError(CORRUPT, f"batch at offset {header.base_offset}: bad header")
        if at + size > end:
            return
        if check_crcs and batch_crc(data, at, size) != header.crc:
            raise KafkaError(CORRUPT, f"batch at offset {header.base_offset}: bad CRC")
        yield FetchedBatch(header, data[at : at + size])
        at += size


def add_columns(batch: FetchedBatch, first_offset: int, columns: Columns) -> None:
    """Append the records of a batch from `first_offset` on; KafkaError where it is damaged.

    One pass without an object for each record. Every length moves forward and a record has to
    end where it says, within its batch: so none can reach outside it. What does not fit is given
    to the strict reader, which says what is wrong.
    """
    # hot: client consume
    header, body = batch.header, batch.body()
    try:
        offsets, times, keys, values, headers = _read(header, body)
    except (IndexError, ValueError, KafkaError):
        for _ in iterate_body(header, body):
            pass
        raise KafkaError(ErrorCode.INVALID_RECORD, "Record does not fit its batch") from None
    skip = 0
    while skip < len(offsets) and offsets[skip] < first_offset:
        skip += 1
    if skip:
        offsets, times, keys = offsets[skip:], times[skip:], keys[skip:]
        values, headers = values[skip:], headers[skip:]
    columns.offsets += offsets
    columns.timestamps_ms += times
    columns.keys += keys
    columns.values += values
    columns.headers += headers


_Read = tuple[
    list[int], list[int], list[bytes | None], list[bytes | None], list[tuple[Header, ...]]
]


def _read(header: BatchHeader, body: bytes) -> _Read:
    # hot: client consume
    offsets: list[int] = []
    times: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[tuple[Header, ...]] = []
    base_offset, base_time = header.base_offset, header.base_timestamp
    append_time = header.max_timestamp if header.is_log_append_time else None
    at, end = 0, len(body)
    for _ in range(header.record_count):
        size, at = _number(body, at)
        stop = at + size
        if size <= 0 or stop > end:
            raise ValueError
        at += 1
        number = body[at]
        if number < 0x80:
            delta = number >> 1 ^ -(number & 1)
            at += 1
        else:
            delta, at = decode_varint(body, at, bits=64)
        times.append(base_time + delta if append_time is None else append_time)
        number, at = _number(body, at)
        offsets.append(base_offset + number)
        size, at = _number(body, at)
        if size < 0:
            keys.append(None)
        else:
            keys.append(body[at : at + size])
            at += size
        size, at = _number(body, at)
        if size < 0:
            values.append(None)
        else:
            values.append(body[at : at + size])
            at += size
        if body[at] == 0:
            at += 1
            headers.append(())
        else:
            found, at = _headers(body, at, stop)
            headers.append(found)
        if at != stop:
            raise ValueError
    if at != end:
        raise ValueError
    return offsets, times, keys, values, headers


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A varint of at least -1, quick for one and two bytes."""
    # hot: client consume
    first = body[at]
    if first < 0x80:
        if first & 1 and first != 1:
            raise ValueError
        return first >> 1 ^ -(first & 1), at + 1
    second = body[at + 1]
    if second < 0x80 and not first & 1:
        return (first & 0x7F | second << 7) >> 1, at + 2
    number, at = decode_varint(body, at)
    if number < -1:
        raise ValueError
    return number, at


def _headers(body: bytes, at: int, stop: int) -> tuple[tuple[Header, ...], int]:
    count, at = _number(body, at)
    if not 0 < count <= stop - at:
        raise ValueError
    found: list[Header] = []
    for _ in range(count):
        size, at = _number(body, at)
        if size < 0:
            raise ValueError
        name = body[at : at + size].decode("utf-8", "surrogateescape")
        at += size
        size, at = _number(body, at)
        if size < 0:
            found.append((name, None))
        else:
            found.append((name, body[at : at + size]))
            at += size
    return tuple(found), at

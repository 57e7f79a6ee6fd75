"""Records as a consumer gives them: one by one, as batches, or as columns.

A fetched batch is read when its turn comes, not when it arrives, and a column of it is made when
it is looked at: `poll_batch` hands out columns without ever making an object for a record, and
a consumer that seeks away has read nothing in vain. The loops are the record kernel's
(records/kernel.py). The CRC is checked before anything is believed.
"""

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any, Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.base.world import Bytes
from ottla.records.batch import (
    HEADER_BYTES,
    MAGIC,
    BatchHeader,
    batch_crc,
    read_header,
)
from ottla.records.compression import decompress
from ottla.records.kernel import Block, read
from ottla.records.record import Header, Record, iterate_body

CORRUPT: Final = ErrorCode.CORRUPT_MESSAGE


MAGIC_AT: Final = 16
"""Where each format has its number."""


class ConsumerRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


class Columns:
    """Records of one partition as columns of equal length, in the order of their offsets.

    A column is made when it is first looked at: who reads values alone pays for them alone.
    Until then the bytes as they were fetched are kept.
    """

    def __init__(self, topic: str, partition: int, block: Block, start: int = 0) -> None:
        """The records of `block` from index `start` on."""
        self.topic = topic
        self.partition = partition
        self._block = block
        self._start = start
        self._stop = len(block)

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"Columns({self.topic!r}, {self.partition}, {len(self)} records)"

    @cached_property
    def offsets(self) -> list[int]:
        return self._block.offsets(self._start, self._stop)

    @cached_property
    def timestamps_ms(self) -> list[int]:
        return self._block.timestamps(self._start, self._stop)

    @cached_property
    def keys(self) -> list[bytes | None]:
        return self._block.keys(self._start, self._stop)

    @cached_property
    def values(self) -> list[bytes | None]:
        return self._block.values(self._start, self._stop)

    @cached_property
    def headers(self) -> list[tuple[Header, ...]]:
        return self._block.headers(self._start, self._stop)

    def rows(self, start: int = 0, stop: int | None = None) -> list[ConsumerRecord]:
        """The same one by one, from index `start` to below `stop`."""
        # hot: client consume
        first, last = self._start + start, self._stop if stop is None else self._start + stop
        return self._block.rows(ConsumerRecord, (self.topic, self.partition), first, last)

    def behind(self, index: int) -> "Columns":
        """Those from an index on."""
        return Columns(self.topic, self.partition, self._block, self._start + index)

    def to_arrow(self) -> Any:
        """A `pyarrow.RecordBatch` with columns offset, timestamp (ms), key and value (binary);
        no object is made for a record. ImportError where pyarrow is not installed."""
        pyarrow = import_module("pyarrow")
        offsets, timestamps = map(pyarrow.py_buffer, self._numbers())
        columns = [
            pyarrow.Array.from_buffers(pyarrow.int64(), len(self), [None, offsets]),
            pyarrow.Array.from_buffers(pyarrow.timestamp("ms"), len(self), [None, timestamps]),
        ]
        for packed in (self._block.packed_keys, self._block.packed_values):
            data, ends, bits = map(pyarrow.py_buffer, packed(self._start, self._stop))
            columns.append(
                pyarrow.Array.from_buffers(pyarrow.binary(), len(self), [bits, ends, data])
            )
        names = ["offset", "timestamp", "key", "value"]
        return pyarrow.RecordBatch.from_arrays(columns, names=names)

    def to_numpy(self) -> dict[str, Any]:
        """Arrays by column: offset and timestamp of int64 (read-only views, no copies), key and
        value of objects. ImportError where numpy is not installed."""
        numpy = import_module("numpy")
        offsets, timestamps = self._numbers()
        return {
            "offset": numpy.frombuffer(offsets, numpy.int64),
            "timestamp": numpy.frombuffer(timestamps, numpy.int64),
            "key": numpy.array(self.keys, object),
            "value": numpy.array(self.values, object),
        }

    def _numbers(self) -> tuple[memoryview, memoryview]:
        """Offsets and timestamps as int64 of this machine."""
        held = slice(self._start * 8, self._stop * 8)
        block = self._block
        return memoryview(block.offset_bytes())[held], memoryview(block.timestamp_bytes())[held]


class FetchedBatch(NamedTuple):
    """One batch as it was fetched: its header, and its bytes."""

    header: BatchHeader
    data: memoryview

    def body(self) -> Bytes:
        """The unpacked records section; KafkaError where it cannot be unpacked."""
        section, codec = self.data[HEADER_BYTES:], self.header.codec
        return decompress(codec, section, DECOMPRESSED_BYTES) if codec else section

    def records(self) -> Iterator[Record]:
        return iterate_body(self.header, bytes(self.body()))


def split_batches(data: memoryview, *, check_crcs: bool) -> Iterator[FetchedBatch]:
    """The whole batches in fetched bytes. The last one may be cut short, and is left out.

    KafkaError where a batch is not what its header says (CORRUPT_MESSAGE), or of a format before
    Kafka 0.11 (UNSUPPORTED_FOR_MESSAGE_FORMAT).
    """
    # hot: client consume
    at, end = 0, len(data)
    while end - at >= HEADER_BYTES:
        header = read_header(data, at)
        size = header.size_bytes
        if header.magic != MAGIC:
            raise _of_format(header.magic)
        if size < HEADER_BYTES or header.record_count < 0 or header.last_offset_delta < 0:
            raise KafkaError(CORRUPT, f"batch at offset {header.base_offset}: bad header")
        if at + size > end:
            return
        if check_crcs and batch_crc(data, at, size) != header.crc:
            raise KafkaError(CORRUPT, f"batch at offset {header.base_offset}: bad CRC")
        yield FetchedBatch(header, data[at : at + size])
        at += size
    if end - at > MAGIC_AT and data[at + MAGIC_AT] != MAGIC:  # a whole one may be as short as this
        raise _of_format(data[at + MAGIC_AT])


def _of_format(magic: int) -> KafkaError:
    code = ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT if magic in (0, 1) else CORRUPT
    return KafkaError(code, f"a batch of format {magic} is not read")


def columns_of(batch: FetchedBatch, topic: str, partition: int, first_offset: int) -> Columns:
    """The records of a batch from `first_offset` on; KafkaError where it is damaged."""
    # hot: client consume
    header, body = batch.header, batch.body()
    append_time = header.max_timestamp if header.is_log_append_time else None
    try:
        block = read(
            body, header.record_count, header.base_offset, header.base_timestamp, append_time
        )
    except ValueError:
        for _ in iterate_body(header, bytes(body)):
            pass  # it says what is wrong
        raise KafkaError(ErrorCode.INVALID_RECORD, "Record does not fit its batch") from None
    return Columns(topic, partition, block, block.find(first_offset))

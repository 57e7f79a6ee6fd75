"""The batches of a sealed segment, by a descriptor of one's own, believed only with their CRC.

For compaction, on helper threads: nothing here is shared with who serves the segment. Whatever is
not sound is a CorruptionError with path, position and bytes.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.base.world import Disk
from ottla.records.batch import HEADER_BYTES, MAGIC, BatchHeader, batch_crc, read_header
from ottla.records.compression import decompress
from ottla.records.sieve import RawRecord, raw_records

READ_BYTES_MIN: Final = 1 << 12


class Batch(NamedTuple):
    path: str
    position: int
    header: BatchHeader
    view: memoryview


def sealed_batches(disk: Disk, path: str, size_bytes: int, read_bytes: int) -> Iterator[Batch]:
    """All batches of the `.log` file at `path`, which holds so many bytes of them; `read_bytes`
    are read at once."""
    read_bytes = max(read_bytes, READ_BYTES_MIN)
    file = disk.open(path, read_only=True)
    try:
        position, next_offset = 0, 0
        chunk, chunk_at = b"", 0
        while position < size_bytes:
            at, left = position - chunk_at, size_bytes - position
            wanted = _batch_bytes(chunk, at)
            if len(chunk) - at < wanted <= left:
                chunk, chunk_at, at = file.pread(min(read_bytes, left), position), position, 0
                wanted = _batch_bytes(chunk, 0)
                if len(chunk) < wanted <= left:
                    chunk = file.pread(wanted, position)
            view = memoryview(chunk)[at : at + wanted]
            fault = _fault(view, wanted, next_offset)
            if fault:
                raise CorruptionError(fault, path=path, position=position, size_bytes=left)
            header = read_header(view)
            yield Batch(path, position, header, view)
            position += wanted
            next_offset = header.last_offset + 1
    finally:
        file.close()


def _batch_bytes(chunk: bytes, at: int) -> int:
    """Size of the batch that begins there, by its header; that of a header where it is cut."""
    if len(chunk) - at < HEADER_BYTES:
        return HEADER_BYTES
    return read_header(chunk, at).size_bytes


def _fault(batch: memoryview, wanted: int, next_offset: int) -> str:
    """What is wrong with a batch; empty where it is sound."""
    if wanted < HEADER_BYTES or len(batch) < wanted:
        return "torn batch"
    header = read_header(batch)
    if header.magic != MAGIC:
        return f"magic {header.magic}"
    if header.crc != batch_crc(batch, 0, wanted):
        return "CRC"
    if header.base_offset < next_offset or header.last_offset_delta < 0:
        return f"offset {header.base_offset} where {next_offset} was due"
    return "" if header.record_count >= 0 else f"{header.record_count} records"


def records_of(batch: Batch) -> tuple[bytes, Iterator[RawRecord]]:
    """The unpacked records section of a batch, and the records in it."""
    try:
        body = decompress(batch.header.codec, batch.view[HEADER_BYTES:], DECOMPRESSED_BYTES)
    except KafkaError as error:
        raise _corrupt(batch, error) from error
    return body, _walked(batch, body)


def _walked(batch: Batch, body: bytes) -> Iterator[RawRecord]:
    try:
        yield from raw_records(batch.header, body)
    except KafkaError as error:
        raise _corrupt(batch, error) from error


def control_key(batch: Batch) -> bytes | None:
    """Key of the record in a control batch; None where it has no record any more."""
    if not batch.header.record_count:
        return None
    return next(records_of(batch)[1]).key or b""


def _corrupt(batch: Batch, error: KafkaError) -> CorruptionError:
    return CorruptionError(
        error.message, path=batch.path, position=batch.position, size_bytes=len(batch.view)
    )

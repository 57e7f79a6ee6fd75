"""The headers of a `.log` one after another, by small reads: the cheapest way along it.

Records are not read, so no CRC is checked. A header is believed where its bytes fit the file and
its offsets ascend, within what the indexes of a segment can name. Whatever is not so is a
CorruptionError with path, position and bytes. Who must know that a batch is sound reads it whole
(`sound`, `batch_walk`).
"""

from collections.abc import Iterator
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.world import File
from ottla.records.batch import HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, BatchHeader, read_header

SCAN_BYTES: Final = 8192
"""How much is read at once: two index intervals."""
OFFSET_DELTA_MAX: Final = (1 << 31) - 1


def scan_headers(
    file: File, base_offset: int, position: int, end: int
) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each batch from `position` to `end`, in a segment of that base."""
    chunk, chunk_at = b"", position
    next_offset = base_offset
    while position < end:
        if position + HEADER_BYTES > chunk_at + len(chunk):
            chunk, chunk_at = file.pread(SCAN_BYTES, position), position
        at = position - chunk_at
        header = read_header(chunk, at) if at + HEADER_BYTES <= len(chunk) else None
        if header is None or not _is_plausible(header, position, end, next_offset, base_offset):
            raise CorruptionError(
                "no batch header", path=file.path, position=position, size_bytes=end - position
            )
        yield position, header
        position += header.batch_length + LENGTH_OVERHEAD
        next_offset = header.base_offset + header.last_offset_delta + 1


def _is_plausible(
    header: BatchHeader, position: int, end: int, next_offset: int, base_offset: int
) -> bool:
    behind = position + header.batch_length + LENGTH_OVERHEAD
    return (
        header.magic == MAGIC
        and position + HEADER_BYTES <= behind <= end
        and header.base_offset >= next_offset
        and header.last_offset_delta >= 0
        and header.base_offset + header.last_offset_delta - base_offset <= OFFSET_DELTA_MAX
    )

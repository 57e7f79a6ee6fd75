"""A segment's batches one after another, sound or not: how damage is found, shown and passed by.

Recovery and readers stop at the first batch that is not sound. Who looks for damage wants to know
what stands behind it, so this walk goes on: where the length of an unsound batch leads to another
header, from there; else from the next place at which a batch with a true CRC stands.

What the CRC does not cover is held to its neighbours (`sound.Due`). Which of two neighbours was
damaged cannot be told then: the second is named.

Memory: a piece of the file at a time, whatever a length field claims.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from ottla.base.world import File
from ottla.records.batch import CRC_START, HEADER_BYTES, MAGIC, BatchHeader, read_header
from ottla.storage.sound import OFFSET_MAX, Due

PIECE_BYTES: Final = 1 << 20
_MAGIC_AT: Final = 16
_MAGIC_BYTE: Final = bytes((MAGIC,))


class Stretch(NamedTuple):
    """One batch, or bytes that are none."""

    position: int
    size_bytes: int
    header: BatchHeader | None
    """None where no header can be read."""
    fault: str
    """What is wrong; empty where the batch is sound."""


def walk(
    file: File, base_offset: int, size: int, *, end_offset: int = OFFSET_MAX
) -> Iterator[Stretch]:
    """All of a `.log` file of `size` bytes, in stretches that follow each other without a gap.
    Its offsets are at least `base_offset` and below `end_offset`."""
    position, due = 0, Due(base_offset, end_offset)
    while position < size:
        header = header_at(file, position)
        fault = _frame_fault(header, position, size)
        if header is None or fault:
            behind = find_batch(file, position + 1, size, base_offset, end_offset)
            yield Stretch(position, behind - position, header, fault)
            position = behind
            continue
        length = header.size_bytes
        if header.crc != crc_at(file, position, length):
            fault = "CRC"
            if not _leads_on(file, position + length, size, due.offset):
                length = find_batch(file, position + 1, size, base_offset, end_offset) - position
        else:
            fault = due.fault(header)
            due.follow(header)
        yield Stretch(position, length, header, fault)
        position += length


def header_at(file: File, position: int) -> BatchHeader | None:
    data = file.pread(HEADER_BYTES, position)
    return read_header(data) if len(data) == HEADER_BYTES else None


def crc_at(file: File, position: int, length: int) -> int:
    """The CRC that the batch there has by its bytes."""
    crc, at, end = 0, position + CRC_START, position + length
    while at < end:
        piece = file.pread(min(PIECE_BYTES, end - at), at)
        if not piece:
            break
        crc = crc32c(piece, crc)
        at += len(piece)
    return crc


def find_batch(file: File, start: int, size: int, base_offset: int, end_offset: int) -> int:
    """Where from `start` on the next batch with a true CRC stands; `size` where none does."""
    at = start
    while at + HEADER_BYTES <= size:
        piece = file.pread(PIECE_BYTES, at + _MAGIC_AT)
        hit = piece.find(_MAGIC_BYTE)
        while hit >= 0:
            place = at + hit
            if _is_sound(file, place, size, base_offset, end_offset):
                return place
            hit = piece.find(_MAGIC_BYTE, hit + 1)
        at += max(len(piece), 1)
    return size


def _is_sound(file: File, position: int, size: int, base_offset: int, end_offset: int) -> bool:
    header = header_at(file, position)
    return (
        header is not None
        and not _frame_fault(header, position, size)
        and not Due(base_offset, end_offset).fault(header)
        and header.record_count >= 0
        and header.crc == crc_at(file, position, header.size_bytes)
    )


def _frame_fault(header: BatchHeader | None, position: int, size: int) -> str:
    if header is None:
        return "torn header"
    if header.magic != MAGIC:
        return f"magic {header.magic}"
    if header.size_bytes < HEADER_BYTES:
        return f"length {header.batch_length}"
    if header.size_bytes > size - position:
        return f"a batch of {header.size_bytes} bytes where {size - position} are left"
    return ""


def _leads_on(file: File, position: int, size: int, next_offset: int) -> bool:
    """Whether what ends there is followed by a batch, or by nothing."""
    if position == size:
        return True
    header = header_at(file, position)
    return (
        header is not None
        and not _frame_fault(header, position, size)
        and header.base_offset >= next_offset
    )

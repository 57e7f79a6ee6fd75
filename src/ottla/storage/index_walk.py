"""The entries of an index file one after another, and what else stands there: the room for more,
which is zeros, and part of an entry at the end. A piece of the file at a time."""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from ottla.base.world import File

PIECE_ENTRIES: Final = 4096


class IndexPart(NamedTuple):
    at: int
    """Where in the file."""
    size_bytes: int
    fields: tuple[int, ...]
    """Of one entry; none for zeros and for part of an entry."""

    def is_entry(self) -> bool:
        return bool(self.fields)


def walk_index(
    file: File, entry: Struct, *, may_start_with_zeros: bool = False
) -> Iterator[IndexPart]:
    """All of an index file. Zeros come as one part, unless the first entry may be of zeros."""
    size, width = file.size(), entry.size
    end = size - size % width
    zeros_at = -1
    for start in range(0, end, PIECE_ENTRIES * width):
        piece = file.pread(min(PIECE_ENTRIES * width, end - start), start)
        if zeros_at >= 0 and not any(piece):
            continue
        for at in range(0, len(piece) - len(piece) % width, width):
            fields = entry.unpack_from(piece, at)
            place = start + at
            if not any(fields) and (place or not may_start_with_zeros):
                zeros_at = place if zeros_at < 0 else zeros_at
                continue
            if zeros_at >= 0:
                yield IndexPart(zeros_at, place - zeros_at, ())
                zeros_at = -1
            yield IndexPart(place, width, fields)
    if zeros_at >= 0:
        yield IndexPart(zeros_at, size - zeros_at, ())
    elif size > end:
        yield IndexPart(end, size - end, ())

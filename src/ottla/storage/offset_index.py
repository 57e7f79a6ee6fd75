"""The offset index of one segment: from an offset to a position near it.

    entry (8 bytes, big-endian)
    +---------------------------+---------------------------+
    | offset - base   i32       | position in .log   i32    |
    +---------------------------+---------------------------+

Sparse: when more than `index.interval.bytes` of log were written since the last entry, the next
batch gets one: its *last* offset and the position of its first byte. The first batch of a
segment gets none. Both columns ascend, so the index answers either way.
"""

import struct
from bisect import bisect_right
from typing import Final

from ottla.base.world import Disk
from ottla.storage.index_file import IndexFile

ENTRY: Final = struct.Struct(">ii")
_I32: Final = struct.Struct(">i")
ENTRY_BYTES: Final = 8


class OffsetIndex(IndexFile):
    __slots__ = ("base_offset",)

    def __init__(self, disk: Disk, path: str, base_offset: int, max_bytes: int) -> None:
        super().__init__(disk, path, ENTRY_BYTES, max_bytes)
        self.base_offset = base_offset

    def add(self, last_offset: int, position: int) -> None:
        self.append(ENTRY.pack(last_offset - self.base_offset, position))

    def floor(self, offset: int) -> int:
        """Position of the last entry at or below `offset`; 0 where there is none."""
        relative = offset - self.base_offset

        def search(view: memoryview, count: int) -> int:
            at = _I32.unpack_from
            slot = bisect_right(range(count), relative, key=lambda each: at(view, each << 3)[0])
            return _position(view, slot)

        return self.look_up(search, 0)

    def floor_position(self, position: int) -> int:
        """Start of the last indexed batch that starts at or before `position`; 0 without one."""

        def search(view: memoryview, count: int) -> int:
            at = _I32.unpack_from
            slot = bisect_right(
                range(count), position, key=lambda each: at(view, (each << 3) + 4)[0]
            )
            return _position(view, slot)

        return self.look_up(search, 0)

    def last_position(self) -> int:
        """Start of the last indexed batch; 0 where there is none."""
        return self.look_up(_position, 0)

    def position_back(self, entries: int) -> int:
        """Start of the batch that was indexed so many entries before the end; 0 without one."""
        return self.look_up(lambda view, count: _position(view, max(count - entries, 0)), 0)

    def truncate_to(self, offset: int) -> None:
        """Keep the entries of batches that lie wholly below `offset`."""
        relative = offset - self.base_offset

        def search(view: memoryview, count: int) -> int:
            at = _I32.unpack_from
            return bisect_right(range(count), relative - 1, key=lambda each: at(view, each << 3)[0])

        self.truncate(self.look_up(search, 0))


def _position(view: memoryview, slot: int) -> int:
    """Position column of the entry before `slot`."""
    if not slot:
        return 0
    position: int = _I32.unpack_from(view, (slot << 3) - 4)[0]
    return position

"""The time index of one segment: from a timestamp to an offset near it.

    entry (12 bytes, big-endian)
    +---------------------------------+---------------------------+
    | largest timestamp so far   i64  | offset - base   i32       |
    +---------------------------------+---------------------------+

The offset is the last one of the batch that brought the timestamp. An entry is written with each
entry of the offset index, if the timestamp grew since the last one, and once more when the
segment rolls or closes; the last slot is kept free for that one. Both columns ascend strictly:
whatever is younger than an entry's timestamp lies behind its offset.
"""

import struct
from bisect import bisect_right
from typing import Final, NamedTuple

from ottla.base.world import Disk
from ottla.storage.index_file import IndexFile

ENTRY: Final = struct.Struct(">qi")
_TIMESTAMP: Final = struct.Struct(">q")
ENTRY_BYTES: Final = ENTRY.size


class TimeEntry(NamedTuple):
    timestamp: int
    offset: int


class TimeIndex(IndexFile):
    __slots__ = ("_last", "base_offset")

    def __init__(self, disk: Disk, path: str, base_offset: int, max_bytes: int) -> None:
        super().__init__(disk, path, ENTRY_BYTES, max_bytes)
        self.base_offset = base_offset
        self._last: TimeEntry | None = None

    @property
    def last(self) -> TimeEntry:
        """The last entry; timestamp -1 where there is none."""
        if self._last is None:
            self._last = self.look_up(self._entry_before, TimeEntry(-1, self.base_offset))
        return self._last

    def maybe_add(self, timestamp: int, offset: int) -> None:
        if timestamp > self.last.timestamp:
            self.append(ENTRY.pack(timestamp, offset - self.base_offset))
            self._last = TimeEntry(timestamp, offset)

    def floor(self, timestamp: int) -> TimeEntry:
        """The last entry at or below `timestamp`; (-1, base offset) where there is none."""

        def search(view: memoryview, count: int) -> TimeEntry:
            at = _TIMESTAMP.unpack_from
            slot = bisect_right(
                range(count), timestamp, key=lambda each: at(view, each * ENTRY_BYTES)[0]
            )
            return self._entry_before(view, slot)

        return self.look_up(search, TimeEntry(-1, self.base_offset))

    def truncate_to(self, offset: int) -> None:
        """Keep the entries whose offset lies below `offset`."""
        relative = offset - self.base_offset

        def search(view: memoryview, count: int) -> int:
            at = ENTRY.unpack_from
            return bisect_right(
                range(count), relative - 1, key=lambda each: at(view, each * ENTRY_BYTES)[1]
            )

        self._last = None
        self.truncate(self.look_up(search, 0))

    def reset(self) -> None:
        super().reset()
        self._last = None

    def _entry_before(self, view: memoryview, slot: int) -> TimeEntry:
        if not slot:
            return TimeEntry(-1, self.base_offset)
        timestamp, relative = ENTRY.unpack_from(view, (slot - 1) * ENTRY_BYTES)
        return TimeEntry(timestamp, self.base_offset + relative)

"""Which segments of a node hold descriptors: as many as its limit allows, the others open theirs
again when they are used.

A segment that opens its file is put on the shelf; where there are more than `capacity`, one that
was not used since the last look is closed (second chance, which costs the hot path one store).
One with bytes that no flush covered stays open, whatever the count: a write-back that failed is
told to descriptors that were open then. Its log is handed to `on_pressure`, to be flushed soon.
All of this is on the node's thread. What a reply still sends of a segment names the segment
(`LogFile`), which opens its file anew; a helper thread has descriptors of its own, or those of a
flush that is under way, which counts as unflushed.

Rejected: to close what was used longest ago (the order of every use costs each append more than
a file that is opened once too often).
"""

from collections.abc import Callable
from typing import Final, Protocol

DESCRIPTORS: Final = 6
"""Of those that a node may have, one segment of so many may be open: it holds three (`.log`, both
indexes), five while both indexes are mapped; connections need some as well."""
LOOKS: Final = 8
"""Segments that are looked at before one too many stays open for now."""


class Shelved(Protocol):
    """What is asked of a segment."""

    is_used: bool
    is_written: bool

    def close(self) -> None: ...


class OpenSegments:
    def __init__(
        self,
        capacity: int = 1 << 20,
        on_pressure: Callable[[object], None] = lambda _: None,
    ) -> None:
        """`on_pressure(log)`: flush that log, its descriptor is wanted."""
        self.capacity = capacity
        self._on_pressure = on_pressure
        self._segments: dict[Shelved, object] = {}

    def __len__(self) -> int:
        return len(self._segments)

    def opened(self, segment: Shelved, log: object) -> None:
        segments = self._segments
        segments[segment] = log
        if len(segments) <= self.capacity:
            return
        for _ in range(LOOKS):
            oldest = next(iter(segments))
            if oldest is not segment and not oldest.is_used and not oldest.is_written:
                oldest.close()
                return
            segments[oldest] = owner = segments.pop(oldest)
            oldest.is_used = False
            if oldest.is_written:
                self._on_pressure(owner)

    def closed(self, segment: Shelved) -> None:
        self._segments.pop(segment, None)


def capacity_for(open_files_max: int) -> int:
    """How many segments may be open where a process may have so many descriptors."""
    return max(open_files_max // DESCRIPTORS, 1)

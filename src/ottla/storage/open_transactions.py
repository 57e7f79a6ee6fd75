"""The transactions of one log that a read_committed consumer must not see yet.

    open     begun, and no marker in the log: known by producer, in the order of their first offsets
    ended    a marker is in the log, at or past the high watermark: a power cut may still take it

The first unstable offset is where the oldest of both begins. What lies below it is settled: each
batch there belongs to no transaction, or to one whose end is known and safe.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

NONE_OPEN: Final = (1 << 63) - 1
"""The first unstable offset of a log whose transactions have all ended."""


class OpenTransactions:
    __slots__ = ("_ended", "_ended_first", "_open", "first_open", "first_unstable")

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        self._ended: deque[tuple[int, int]] = deque()
        # (offset of the marker, first offset), in the order of the markers.
        self._ended_first = NONE_OPEN
        self.first_open = NONE_OPEN
        self.first_unstable = NONE_OPEN

    def __contains__(self, producer_id: int) -> bool:
        """Whether one of this producer is open."""
        return producer_id in self._open

    def take(self, starts: Iterable[tuple[int, int]]) -> None:
        """Open are those of a snapshot: (producer id, first offset)."""
        self._open = dict(sorted(starts, key=lambda each: each[1]))
        self._find_first()

    def begin(self, producer_id: int, offset: int) -> None:
        self._open[producer_id] = offset
        if offset < self.first_open:
            self.first_open = offset
            self.first_unstable = min(offset, self._ended_first)

    def first_without(self, producer_id: int) -> int:
        """Where the oldest open one of the other producers begins."""
        others = (each for at, each in self._open.items() if at != producer_id)
        return next(others, NONE_OPEN)

    def end(self, producer_id: int, marker_offset: int) -> None:
        start = self._open.pop(producer_id, None)
        if start is None:
            return
        self._ended.append((marker_offset, start))
        self._ended_first = min(self._ended_first, start)
        if start == self.first_open:
            self._find_first()

    def drop(self, producer_id: int) -> None:
        """Its producer is forgotten."""
        if self._open.pop(producer_id, None) is not None:
            self._find_first()

    def settle(self, high_watermark: int) -> None:
        """Markers below `high_watermark` are safe."""
        ended = self._ended
        before = len(ended)
        while ended and ended[0][0] < high_watermark:
            ended.popleft()
        if len(ended) < before:
            self._ended_first = min((start for _, start in ended), default=NONE_OPEN)
            self.first_unstable = min(self.first_open, self._ended_first)

    def _find_first(self) -> None:
        self.first_open = next(iter(self._open.values()), NONE_OPEN)
        self.first_unstable = min(self.first_open, self._ended_first)

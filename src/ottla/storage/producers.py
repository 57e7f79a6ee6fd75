"""The producers of a log at its end, and its aborted transactions, as a start or a cut finds them.

A snapshot, if a sound one is there, and the headers behind it. Of a control batch its record is
read too: it tells how the transaction ended, and under which coordinator.

What was not flushed is not believed of a transaction index either: for the segments that a start
scanned it is made anew from the log alone. Where no snapshot is left, the whole log is walked, and
an abort that an older segment's index does not know is added to it.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.records.batch import BatchHeader
from ottla.storage import reader
from ottla.storage.markers import marker_at
from ottla.storage.producer_state import ProducerState
from ottla.storage.segment import Segment
from ottla.storage.snapshots import Snapshots
from ottla.storage.transaction_index import AbortedTransaction

logger = logging.getLogger(__name__)

RESEND_ENTRIES: Final = 256
"""Index entries, hence at least batches, that may lie between the first and the last batch that a
client had in flight: five of each producer."""

Aborts = dict[int, AbortedTransaction]
"""By the offset of the marker."""


class ProducersLoading:
    """One look at the segments of a log."""

    def __init__(self, segments: Sequence[Segment], snapshots: Snapshots, end_offset: int) -> None:
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self._snapshots = snapshots
        self._end_offset = end_offset
        self._has_all = False
        self._aborts: Aborts = {}

    def load(self, *, is_clean: bool) -> ProducerState:
        """The producers as of the end. Unless all was answered when the log was closed, their
        windows hold what clients may still send again."""
        # Records below the log start are gone for readers, not for who sends them again.
        state, offset = self._snapshots.newest(self._bases[0], self._end_offset)
        self._has_all = offset == self._bases[0]
        if not is_clean and len(state):
            with suppress(CorruptionError):  # in what was flushed long ago: a reader will meet it
                state.widen(self._walk(self._resend_start(), offset, ProducerState(), {}))
        return self._walk(offset, self._end_offset, state, self._aborts)

    def mend_indexes(self, scanned: int | None, changed: Callable[[Segment], None]) -> None:
        """See that the transaction indexes tell of each abort: of those from the segment that
        begins at `scanned` on nothing is believed. `changed` is told of each that is made anew."""
        aborts = self._aborts
        if scanned is not None and not self._has_all:
            aborts = self._aborts_from(scanned)
        for segment, end in zip(self._segments, (*self._bases[1:], self._end_offset), strict=True):
            is_scanned = scanned is not None and segment.base_offset >= scanned
            if not (is_scanned or self._has_all):
                continue
            wanted = [each for at, each in aborts.items() if segment.base_offset <= at < end]
            if not wanted and not segment.transaction_index.exists:
                continue
            try:
                known = segment.transaction_index.entries()
            except CorruptionError as error:
                logger.warning("transaction index passed over: %s", error)
                known = []
            if not is_scanned:
                told = {each.last_offset: each for each in (*wanted, *known)}
                wanted = sorted(told.values(), key=lambda each: each.last_offset)
            if wanted != known:
                logger.warning("%s: transaction index built anew", segment.path)
                segment.transaction_index.reset()
                for each in wanted:
                    segment.transaction_index.append(each)
            if is_scanned or wanted != known:
                changed(segment)

    def _aborts_from(self, base_offset: int) -> Aborts:
        """The aborts whose markers stand there or behind: who began what they end is told by an
        earlier snapshot, or by all headers."""
        found: Aborts = {}
        has_markers = any(header.is_control for _, _, header in self._headers(base_offset))
        if has_markers:
            state, offset = self._snapshots.at_most(base_offset)
            self._walk(max(offset, self._bases[0]), self._end_offset, state, found)
        return found

    def _walk(self, start: int, end: int, state: ProducerState, aborts: Aborts) -> ProducerState:
        """`state` after the batches from the one that holds `start` on to the last below `end`."""
        for segment, position, header in self._headers(start) if start < end else ():
            if header.base_offset >= end:
                break
            if header.producer_id < 0:
                continue
            marker = marker_at(segment.file, position, header) if header.is_control else None
            if marker is not None and not marker.committed:
                aborted = state.aborted_by(header.producer_id, header.base_offset)
                if aborted is not None:
                    aborts[header.base_offset] = aborted
            state.update(header, header.base_offset, marker)
        return state

    def _headers(self, start: int) -> Iterator[tuple[Segment, int, BatchHeader]]:
        slot = max(bisect_right(self._bases, start) - 1, 0)
        for segment in self._segments[slot:]:
            for position, header in reader.batches_from(segment, start):
                yield segment, position, header

    def _resend_start(self) -> int:
        """An offset so far before the end that no client sends again what is below it."""
        left = RESEND_ENTRIES
        for segment in reversed(self._segments):
            if segment.index.count >= left:
                return reader.offset_back(segment, left)
            left -= segment.index.count
        return self._bases[0]

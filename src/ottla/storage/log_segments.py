"""The segments of one log: which there are, where an offset is, and those on their way out.

    bases      0         1200       4711
    segments   [sealed]  [sealed]   [active]     one is added behind, dropped from either end,
                                                 or takes the place of neighbours (compaction)
    leaving    .deleted files, each until its moment comes

Offsets that compaction took belong to the next batch that is there, if need be to that of a later
segment. A `ReadHint` is where a read ended. It spares the next sequential read the search, and is
worth nothing once the log was cut or lost segments (`generation`).
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ottla.base.errors import check
from ottla.base.world import FileRange
from ottla.storage import reader, segment_files
from ottla.storage.names import DELETED
from ottla.storage.segment import Segment
from ottla.storage.transaction_index import AbortedTransaction


class ReadHint(NamedTuple):
    generation: int
    offset: int
    segment: Segment
    position: int


class LogRead(NamedTuple):
    range: FileRange
    hint: ReadHint
    """For the read that goes on behind this one."""


class Place(NamedTuple):
    segment: Segment
    position: int
    base_offset: int
    """Of the batch that starts there."""


class LogSegments:
    __slots__ = ("_end_mark", "_leaving", "all", "bases", "generation")

    def __init__(self) -> None:
        self.all: list[Segment] = []
        """In ascending order; the last is the active one."""
        self.bases: list[int] = []
        self.generation = 0
        self._leaving: list[tuple[int, Segment]] = []
        # Where in the segment the end is that was flushed last: mostly the high watermark.
        self._end_mark: dict[tuple[int, Segment], int] = {}

    # -- which there are

    def add(self, segment: Segment) -> None:
        self.all.append(segment)
        self.bases.append(segment.base_offset)

    def remove(self, segment: Segment) -> None:
        """It is no longer one of them; its files are the caller's."""
        at = self.all.index(segment)
        del self.all[at], self.bases[at]

    def drop(self, segment: Segment, due_ms: int) -> None:
        """It goes, and its files, as `.deleted`, when that time has come."""
        segment_files.rename(segment, DELETED)
        segment.leave()
        self._leaving.append((due_ms, segment))
        self.remove(segment)
        self.generation += 1

    def replace(self, gone: Sequence[Segment], segment: Segment, due_ms: int) -> None:
        """One takes the place of neighbours. Their files are the caller's business until they are
        named `.deleted`."""
        at = self.all.index(gone[0])
        check(self.all[at : at + len(gone)] == list(gone), "neighbours are replaced")
        self.all[at : at + len(gone)] = [segment]
        self.bases[at : at + len(gone)] = [segment.base_offset]
        self._leaving += [(due_ms, each) for each in gone]
        for each in gone:
            each.leave()
        self.forget_places()

    def take_deleted(self, now_ms: int) -> list[str]:
        """Close those whose moment has come; their files, to be removed."""
        paths: list[str] = []
        while self._leaving and self._leaving[0][0] <= now_ms:
            _, segment = self._leaving.pop(0)
            segment.close()
            paths += segment_files.paths(segment, DELETED)
        return paths

    def move(self, directory: str) -> None:
        for segment in self._with_leaving():
            segment_files.move(segment, directory)

    def close(self) -> None:
        for segment in self._with_leaving():
            segment.close()

    def _with_leaving(self) -> list[Segment]:
        return [*self.all, *(segment for _, segment in self._leaving)]

    # -- where an offset is

    def slot(self, offset: int) -> int:
        """Of the segment in whose range `offset` lies; the first where it lies before all."""
        return max(bisect_right(self.bases, offset) - 1, 0)

    def forget_places(self) -> None:
        """Batches are not where they were, or are gone."""
        self.generation += 1
        self._end_mark = {}

    def note_end(self, end_offset: int, segment: Segment, position: int) -> None:
        """What lies below `end_offset` ends at `position`; readers will ask for it."""
        self._end_mark = {(end_offset, segment): position}

    def find(self, offset: int, hint: ReadHint | None) -> Place:
        """The batch that holds `offset`, or the first behind it; the end where there is none."""
        if (
            hint is not None
            and hint.offset == offset
            and hint.generation == self.generation
            and hint.position < hint.segment.size_bytes
        ):
            return Place(hint.segment, hint.position, offset)
        for segment in self.all[self.slot(offset) :]:
            if segment.base_offset == offset and segment.size_bytes:
                return Place(segment, 0, offset)
            found = reader.find(segment, offset)
            if found is not None:
                return Place(segment, found[0], found[1].base_offset)
        return Place(segment, segment.size_bytes, offset)

    def position_of(self, segment: Segment, end_offset: int) -> int:
        """Where in the segment the batches below `end_offset` end."""
        known = self._end_mark.get((end_offset, segment))
        if known is not None:
            return known
        slot = bisect_right(self.bases, segment.base_offset)
        if slot < len(self.bases) and self.bases[slot] <= end_offset:
            return segment.size_bytes
        found = reader.find(segment, end_offset)
        position = found[0] if found else segment.size_bytes
        self._end_mark = {(end_offset, segment): position}
        return position

    def read(
        self, place: Place, behind: int, end_offset: int, max_bytes: int, *, at_least_one: bool
    ) -> LogRead | None:
        """Whole batches from `place` on, none past the position `behind`, which `end_offset` is
        at, and at most `max_bytes` of them, though the first may be larger with `at_least_one`."""
        # hot: fetch
        segment, position, _ = place
        length, next_offset = behind - position, end_offset
        if length > max_bytes:
            cut = reader.boundary(segment, position, position + max_bytes)
            length, next_offset = cut.position - position, cut.next_offset
            if not length and at_least_one:
                header = segment.header_at(position)
                length, next_offset = header.size_bytes, header.last_offset + 1
        elif segment is not self.all[-1]:
            slot = bisect_right(self.bases, segment.base_offset)
            next_offset = min(end_offset, self.bases[slot])
        if length <= 0:
            return None
        return LogRead(
            FileRange(segment.reader(), position, length),
            ReadHint(self.generation, next_offset, segment, position + length),
        )

    def aborted_transactions(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Those that a reader from `start_offset` to below `end_offset` may meet."""
        found: list[AbortedTransaction] = []
        for segment in self.all[self.slot(start_offset) :]:
            transactions, is_complete = segment.transaction_index.collect(start_offset, end_offset)
            found += transactions
            if is_complete:
                break
        return found

"""A compacted segment on its way into its log, in steps that a power cut may fall between.

    begin     .log.cleaned becomes .log.swap           the node's thread; then sync the directory
    swap      the log reads the new segment; the files of those behind the first that it replaces
              become .deleted, its indexes get their names        then sync the directory
    finish    .log.swap becomes .log, over the first   then sync the directory

From the first sync on a start finds `.log.swap` and finishes the job (`leftovers`), before it the
old segments are as they were: none has gone before its heir is durable, and the heir's name is the
last that changes, so that it is known for what it is until then. A file system may keep some of
the changes between two syncs and not others: any of them will do.

Meanwhile the log drops no segments and is not truncated (`Log.is_replacing`). A step that failed
is taken again: it goes on where it was.
"""

from collections.abc import Sequence

from ottla.base.errors import check
from ottla.storage import segment_files
from ottla.storage.log import Log
from ottla.storage.names import DELETED, SWAP
from ottla.storage.segment import Segment


class Replacement:
    def __init__(self, log: Log, gone: Sequence[Segment], segment: Segment) -> None:
        """`segment` as `Compaction.clean` made it of `gone`."""
        self.log = log
        self.gone = gone
        self.segment = segment

    @property
    def is_possible(self) -> bool:
        """Whether the log still is what the segment was made of."""
        segments = self.log.segments
        if self.gone[0] not in segments or self.log.is_held:
            return False
        at = segments.index(self.gone[0])
        there = segments[at : at + len(self.gone)]
        return there == list(self.gone) and all(each.is_sealed for each in there)

    def begin(self) -> None:
        check(self.is_possible, "a log is replaced by what was made of it")
        segment_files.rename_log(self.segment, SWAP)
        self.log.is_replacing = True

    def swap(self, now_ms: int) -> None:
        if self.segment not in self.log.segments:
            last = self.gone[-1]
            self.segment.created_ms, self.segment.is_sealed = last.created_ms, True
            self.log.replace(self.gone, self.segment, now_ms)
        for each in self.gone[1:]:
            segment_files.rename(each, DELETED)
        segment_files.rename_indexes(self.segment, "")

    def finish(self) -> None:
        if self.segment.state == SWAP:
            segment_files.rename_log(self.segment, "")

    def end(self) -> None:
        """All of it is durable, or the log is gone."""
        self.log.is_replacing = False

"""The checkpoints of one log directory: what was flushed, where logs start, how far was answered,
how far was compacted.

A checkpoint says of a partition what was true of it once. A partition that is made anew under the
name of a deleted one must not meet the old one's lines, so they are written out of the
checkpoints before its log is made, and what is being written of them meanwhile is written anew.

What they hold is asked of the owner (`offsets`), in the order of CHECKPOINTS. Writing in the
background takes no room on the node's thread: a helper writes files beside them, which get their
names here.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition
from ottla.base.world import Disk, Offload
from ottla.storage.checkpoints import offsets_text, read_offsets, replace_whole, write_whole
from ottla.storage.log import Log
from ottla.storage.names import (
    CLEANER_OFFSETS,
    HIGH_WATERMARKS,
    LOG_STARTS,
    RECOVERY_POINTS,
)

logger = logging.getLogger(__name__)

CHECKPOINTS: Final = (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_OFFSETS)
NEXT: Final = ".next"
"""Last name of a checkpoint that a helper thread writes."""
Offsets = dict[TopicPartition, int]
Contents = Sequence[tuple[str, bytes]]


class _Texts(NamedTuple):
    files: list[tuple[str, bytes]]
    partitions: dict[TopicPartition, None]
    """Of which they speak."""


class DirectoryCheckpoints:
    def __init__(
        self,
        disk: Disk,
        directory: str,
        offsets: Callable[[Mapping[TopicPartition, int]], Sequence[Offsets]],
    ) -> None:
        """`offsets(high watermarks)` gives the lines of each of CHECKPOINTS."""
        self.disk = disk
        self.directory = directory
        self.found: list[Offsets] = [{} for _ in CHECKPOINTS]
        """As the last start found them."""
        self.high_watermarks: Offsets = {}
        """As the last that was written had them."""
        self._offsets = offsets
        self._lines: dict[TopicPartition, None] = {}
        """Partitions of which the checkpoints on the disk speak."""
        self._writing: _Texts | None = None
        self._is_stale = False
        """Lines were forgotten since that began to be written."""
        self._writes: deque[Callable[[], None]] = deque()

    @property
    def cleaner_offsets(self) -> Mapping[TopicPartition, int]:
        """As the last start found them."""
        return self.found[CHECKPOINTS.index(CLEANER_OFFSETS)]

    def read(self) -> None:
        """Take what is there; nothing of one that cannot be read, which costs a scan, or a step
        back of the log start, but no record."""
        self.found = [self._read(name) for name in CHECKPOINTS]
        self.high_watermarks = dict(self.found[CHECKPOINTS.index(HIGH_WATERMARKS)])
        self._lines = dict.fromkeys(each for offsets in self.found for each in offsets)

    def _read(self, name: str) -> Offsets:
        try:
            return read_offsets(self.disk, f"{self.directory}/{name}")
        except CorruptionError as error:
            logger.warning("checkpoint passed over: %s", error)
            return {}

    def write(
        self,
        high_watermarks: Mapping[TopicPartition, int],
        offload: Offload,
        done: Callable[[OSError | None], None],
    ) -> None:
        """Write all on a helper thread, as things stand now; then `done`, with the error if
        there was one. Writes follow one another.

        The files get their names on this thread: a partition that is made meanwhile must not
        find lines of its namesake under them later."""
        if self._writing is not None:
            self._writes.append(partial(self.write, high_watermarks, offload, done))
            return
        self.high_watermarks = dict(high_watermarks)
        writing = self._writing = self._texts()
        self._is_stale = False

        def written(_: None, error: BaseException | None) -> None:
            if error is None and self._is_stale:
                self._writing = None
                self.write(self.high_watermarks, offload, done)
                return
            error = error or _name_next(self.disk, writing.files)
            if error is not None:
                ended(None, error)
            else:
                offload.submit(partial(self.disk.sync_directory, self.directory), ended)

        def ended(_: None, error: BaseException | None) -> None:
            self._writing = None
            if error is not None and not isinstance(error, OSError):
                raise error
            if error is None and not self._is_stale:
                self._lines = writing.partitions
            done(error)
            if self._writes and self._writing is None:
                self._writes.popleft()()

        offload.submit(partial(_write_next, self.disk, writing.files), written)

    def write_now(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        """On this very thread: for the clean stop, when no write is under way."""
        self.high_watermarks = dict(high_watermarks)
        self._replace()

    def forget(self, topic_partition: TopicPartition) -> None:
        """No checkpoint may speak of a partition that is about to be made: neither those that
        are there nor those that are being written."""
        writing = self._writing.partitions if self._writing is not None else {}
        if topic_partition in self._lines or topic_partition in writing:
            self.write_over()

    def write_over(self) -> None:
        """As things stand now, on this very thread; what is being written is written anew."""
        self._replace()
        self._is_stale = True

    def _replace(self) -> None:
        texts = self._texts()
        for path, data in texts.files:
            replace_whole(self.disk, path, data)
        self._lines = texts.partitions

    def _texts(self) -> _Texts:
        offsets = self._offsets(self.high_watermarks)
        files = [
            (f"{self.directory}/{name}", offsets_text(each))
            for name, each in zip(CHECKPOINTS, offsets, strict=True)
        ]
        return _Texts(files, dict.fromkeys(each for lines in offsets for each in lines))


def offsets_of(
    logs: Mapping[TopicPartition, Log],
    futures: Mapping[TopicPartition, int],
    high_watermarks: Mapping[TopicPartition, int],
) -> tuple[Offsets, ...]:
    """The lines of each of CHECKPOINTS for these logs; `futures` are log starts of what is being
    moved here."""
    points = {each: log.flushed_end_offset for each, log in logs.items()}
    # Kafka leaves out a start that the first segment tells by its name: but a power cut may
    # bring segments back that were dropped a moment ago.
    starts = {each: start for each, start in futures.items() if start > 0}
    starts |= {each: log.log_start_offset for each, log in logs.items() if log.log_start_offset > 0}
    marks = {each: high_watermarks[each] for each in logs if each in high_watermarks}
    cleaned = {
        each: log.cleaner_offset for each, log in logs.items() if log.cleaner_offset is not None
    }
    return points, starts, marks, cleaned


def _write_next(disk: Disk, contents: Contents) -> None:
    for path, data in contents:
        write_whole(disk, path + NEXT, data, sync=True)


def _name_next(disk: Disk, contents: Contents) -> OSError | None:
    try:
        for path, _ in contents:
            disk.rename(path + NEXT, path)
    except OSError as error:
        return error
    return None

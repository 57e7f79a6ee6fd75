"""Group commit: one round of syncs at a time makes durable whatever was appended before it.

    mark_dirty ... kick          round 1 runs on helper threads          its logs are flushed
                   mark_dirty ... mark_dirty (waits for its end)    kick  round 2 ...

A round takes every dirty log as it stands (`Log.begin_flush`), syncs contents first and names
second (renamed checkpoints, new segments and directories), and only then tells the logs
(`Log.finish_flush`) and the owner, once (`on_flushed`). The next round, if anything became dirty
meanwhile, is under way before the owner is told.

Two ways to sync contents: fdatasync on each file, or one syncfs for all of them, which also
waits for what other programs wrote to that file system. `SyncCosts` remembers what each cost
lately; a way that was not used is slowly believed to get cheaper, so that it is tried again.

A sync that failed is never repeated: the kernel may have dropped the pages and would report
success. `on_offline` is called once, and nothing is acknowledged any more.
"""

import errno
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from ottla.base.world import Clock, Disk, File, Offload
from ottla.storage.checkpoints import directory_of, write_whole
from ottla.storage.log import Log
from ottla.storage.names import TEMPORARY

JOB_FILES: Final = 4
"""Files that one job syncs at least: fewer do not pay for a thread of their own."""
JOBS_MAX: Final = 8
WHOLE_FILES: Final = 4
"""Fewer files than this are always synced one by one."""
_WEIGHT: Final = 0.2
_FORGET: Final = 0.98


Replacements = Sequence[tuple[str, bytes]]
Job = Callable[[], None]


class SyncCosts:
    """Seconds that syncing a file, and a whole file system, took lately."""

    __slots__ = ("each_seconds", "whole_seconds")

    def __init__(self) -> None:
        self.each_seconds = 0.000_2
        self.whole_seconds = 0.001

    def prefers_whole(self, file_count: int) -> bool:
        if file_count < WHOLE_FILES:
            return False
        return self.whole_seconds < self.each_seconds * file_count

    def saw_each(self, seconds: float, file_count: int) -> None:
        self.each_seconds += _WEIGHT * (seconds / file_count - self.each_seconds)
        self.whole_seconds *= _FORGET

    def saw_whole(self, seconds: float) -> None:
        self.whole_seconds += _WEIGHT * (seconds - self.whole_seconds)
        self.each_seconds *= _FORGET

    def has_no_whole(self) -> None:
        self.whole_seconds = math.inf


class Round:
    """What one round syncs, for all of its logs."""

    __slots__ = ("directories", "files", "replacements", "works")

    def __init__(self, logs: Iterable[Log]) -> None:
        self.works = [(log, log.begin_flush()) for log in logs]
        self.files = [file for _, work in self.works for file in work.files]
        self.replacements = [each for _, work in self.works for each in work.replacements]
        directories = [each for _, work in self.works for each in work.directories]
        directories += [directory_of(path) for path, _ in self.replacements]
        self.directories = list(dict.fromkeys(directories))

    def finish(self) -> list[Log]:
        for log, work in self.works:
            log.finish_flush(work)
        return [log for log, _ in self.works]


# What runs on helper threads. The directory of a log that was deleted meanwhile has another
# name: what was to be done in it is passed over.


def sync_files(files: Sequence[File]) -> None:
    for file in files:
        file.sync()


def write_replacements(disk: Disk, replacements: Replacements, *, sync: bool) -> None:
    for path, data in replacements:
        with suppress(FileNotFoundError):
            write_whole(disk, path + TEMPORARY, data, sync=sync)


def rename_replacements(disk: Disk, replacements: Replacements) -> None:
    for path, _ in replacements:
        with suppress(FileNotFoundError):
            disk.rename(path + TEMPORARY, path)


def sync_names(disk: Disk, replacements: Replacements, directories: Sequence[str]) -> None:
    rename_replacements(disk, replacements)
    for path in directories:
        with suppress(FileNotFoundError):
            disk.sync_directory(path)


def sync_whole(disk: Disk, file: File, replacements: Replacements) -> None:
    write_replacements(disk, replacements, sync=False)
    disk.sync_file_system(file)
    if replacements:
        rename_replacements(disk, replacements)
        disk.sync_file_system(file)


def flush_now(disk: Disk, logs: Sequence[Log]) -> None:
    """One round on this very thread: for start-up and for the clean stop."""
    if not logs:
        return
    this = Round(logs)
    try:
        sync_whole(disk, this.files[0], this.replacements)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        write_replacements(disk, this.replacements, sync=True)
        sync_files(this.files)
        sync_names(disk, this.replacements, this.directories)
    this.finish()


class Flusher:
    def __init__(
        self,
        disk: Disk,
        offload: Offload,
        clock: Clock,
        *,
        on_flushed: Callable[[list[Log]], None],
        on_offline: Callable[[OSError], None],
    ) -> None:
        self.disk = disk
        self.offload = offload
        self.clock = clock
        self.on_flushed = on_flushed
        self.on_offline = on_offline
        self.costs = SyncCosts()
        self.round_count = 0
        self.is_offline = False
        self._dirty: dict[Log, None] = {}
        self._round: Round | None = None
        self._started = 0.0
        self._unfinished = 0
        self._failure: BaseException | None = None
        self._when_idle: list[Callable[[], None]] = []

    @property
    def is_idle(self) -> bool:
        return self._round is None and (self.is_offline or not self._dirty)

    def mark_dirty(self, log: Log) -> None:
        # hot: produce
        self._dirty[log] = None

    def forget(self, log: Log) -> None:
        """Begin no flush of it any more; one that is running goes on."""
        self._dirty.pop(log, None)

    def kick(self) -> None:
        """The turn ends: start a round, if there is something to do and none is running."""
        if self._round is not None or not self._dirty or self.is_offline:
            return
        logs, self._dirty = self._dirty, {}
        try:
            self._round = Round(logs)
        except OSError as error:
            self._go_offline(error)
            return
        self.round_count += 1
        self._sync_contents(self._round)

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call back once nothing is dirty and no round is running; at once if that is so."""
        self._when_idle.append(call)
        self.kick()
        self._tell_idle()

    def _sync_contents(self, this: Round) -> None:
        self._started = self.clock.monotonic()
        disk, files, replacements = self.disk, this.files, this.replacements
        if self.costs.prefers_whole(len(files)):
            self._run([partial(sync_whole, disk, files[0], replacements)], self._whole_done)
            return
        count = min(max(len(files) // JOB_FILES, 1), JOBS_MAX)
        jobs: list[Job] = [partial(sync_files, files[start::count]) for start in range(count)]
        if replacements:
            jobs.append(partial(write_replacements, disk, replacements, sync=True))
        self._run(jobs, self._each_done)

    def _run(self, jobs: Sequence[Job], then: Callable[[], None]) -> None:
        """Run jobs side by side, and go on when the last has ended."""
        self._unfinished = len(jobs)

        def done(_: None, error: BaseException | None) -> None:
            self._unfinished -= 1
            self._failure = self._failure or error
            if not self._unfinished:
                then()

        for job in jobs:
            self.offload.submit(job, done)

    def _whole_done(self) -> None:
        failure, this = self._failure, self._round
        if isinstance(failure, OSError) and failure.errno == errno.ENOSYS and this is not None:
            # Nothing was synced and nothing failed: this disk has no such call.
            self._failure = None
            self.costs.has_no_whole()
            self._sync_contents(this)
            return
        if failure is None:
            self.costs.saw_whole(self.clock.monotonic() - self._started)
        self._finish()

    def _each_done(self) -> None:
        this = self._round
        if self._failure is None and this is not None:
            self.costs.saw_each(self.clock.monotonic() - self._started, len(this.files))
            if this.directories:
                job = partial(sync_names, self.disk, this.replacements, this.directories)
                self._run([job], self._finish)
                return
        self._finish()

    def _finish(self) -> None:
        this, self._round = self._round, None
        failure, self._failure = self._failure, None
        if failure is not None:
            self._go_offline(failure)
        elif this is not None:
            logs = this.finish()
            self.kick()
            self.on_flushed(logs)
        self._tell_idle()

    def _go_offline(self, failure: BaseException) -> None:
        if not isinstance(failure, OSError):
            raise failure
        self.is_offline = True
        self._dirty.clear()
        self.on_offline(failure)

    def _tell_idle(self) -> None:
        while self._when_idle and self.is_idle:
            self._when_idle.pop(0)()

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
success. `on_offline` is called once, and nothing is acknowledged any more. A shortage (no room, no
descriptor: `disk_errors`) is met before a sync: the step that met it is made again with `retry`,
for which `on_shortage` asks, and until then no later round begins.

New contents of small files are written beside them on a helper, and get their names here, on the
node's thread: the log may have been deleted meanwhile and its name given to another.
"""

import errno
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from ottla.base.disk_errors import is_shortage
from ottla.base.world import Clock, Disk, File, Offload
from ottla.storage.checkpoints import directory_of, write_whole
from ottla.storage.log import Log
from ottla.storage.names import TEMPORARY
from ottla.storage.unflushed import FlushWork

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
    """What one round syncs, for all of its logs but those in `refused`, for which there was no
    room to begin."""

    __slots__ = ("directories", "files", "refused", "replacements", "shortage", "works")

    def __init__(self, logs: Iterable[Log]) -> None:
        self.works: list[tuple[Log, FlushWork]] = []
        self.refused: list[Log] = []
        self.shortage: OSError | None = None
        for log in logs:
            try:
                self.works.append((log, log.begin_flush()))
            except OSError as error:
                if not is_shortage(error):
                    raise
                self.refused.append(log)
                self.shortage = error
        self.files = [file for _, work in self.works for file in work.files]
        self.replacements = [each for _, work in self.works for each in work.replacements]
        directories = [each for _, work in self.works for each in work.directories]
        directories += [directory_of(path) for path, _ in self.replacements]
        self.directories = list(dict.fromkeys(directories))

    def rename_replacements(self, disk: Disk) -> None:
        """What was written beside the small files takes their names, unless their log has
        another directory now. Those of a round that is tried again have theirs already."""
        for log, work in self.works:
            for path, _ in work.replacements:
                if directory_of(path) == log.directory:
                    with suppress(FileNotFoundError):
                        disk.rename(path + TEMPORARY, path)

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


def sync_names(disk: Disk, directories: Sequence[str]) -> None:
    for path in directories:
        with suppress(FileNotFoundError):
            disk.sync_directory(path)


def sync_whole(disk: Disk, file: File, replacements: Replacements) -> None:
    write_replacements(disk, replacements, sync=False)
    disk.sync_file_system(file)


def flush_now(disk: Disk, logs: Sequence[Log]) -> None:
    """One round on this very thread: for start-up and for the clean stop."""
    if not logs:
        return
    this = Round(logs)
    if this.shortage is not None:
        raise this.shortage
    try:
        sync_whole(disk, this.files[0], this.replacements)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        write_replacements(disk, this.replacements, sync=True)
        sync_files(this.files)
        this.rename_replacements(disk)
        sync_names(disk, this.directories)
    else:
        if this.replacements:
            this.rename_replacements(disk)
            disk.sync_file_system(this.files[0])
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
        on_shortage: Callable[[OSError], None] = lambda _: None,
    ) -> None:
        self.disk = disk
        self.offload = offload
        self.clock = clock
        self.on_flushed = on_flushed
        self.on_offline = on_offline
        self.on_shortage = on_shortage
        self.costs = SyncCosts()
        self.round_count = 0
        self.is_offline = False
        self.has_given_up = False
        """A round was left undone while the node stopped."""
        self._dirty: dict[Log, None] = {}
        self._refused: dict[Log, None] = {}
        """Dirty too: for these there was no room."""
        self._round: Round | None = None
        self._stalled: Callable[[], None] | None = None
        """The step of the round to be made again when there is room."""
        self._started = 0.0
        self._unfinished = 0
        self._failure: BaseException | None = None
        self._when_idle: list[Callable[[], None]] = []

    @property
    def is_idle(self) -> bool:
        is_done = self.is_offline or self.has_given_up or not (self._dirty or self._refused)
        return self._round is None and is_done

    def mark_dirty(self, log: Log) -> None:
        # hot: produce
        self._dirty[log] = None

    def forget(self, log: Log) -> None:
        """Begin no flush of it any more; one that is running goes on."""
        self._dirty.pop(log, None)
        self._refused.pop(log, None)

    def kick(self) -> None:
        """The turn ends: start a round, if there is something to do and none is running."""
        if self._round is not None or not self._dirty or self.is_offline:
            return
        logs, self._dirty = self._dirty, {}
        try:
            this = Round(logs)
        except OSError as error:
            self._go_offline(error)
            return
        if this.shortage is not None:
            self._refused.update(dict.fromkeys(this.refused))
            self.on_shortage(this.shortage)
        if this.works:
            self._round = this
            self.round_count += 1
            self._sync_contents()

    def retry(self) -> None:
        """There may be room again."""
        self._dirty = {**self._refused, **self._dirty}
        self._refused = {}
        step, self._stalled = self._stalled, None
        if step is not None:
            step()
        else:
            self.kick()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call back once nothing is dirty and no round is running; at once if that is so. What
        there is no room for now is given up then."""
        self._when_idle.append(call)
        self.retry()
        if self._stalled is not None or self._refused:
            self._give_up()
        self._tell_idle()

    def _give_up(self) -> None:
        self.has_given_up = True
        self._round = self._stalled = None
        self._tell_idle()

    def _sync_contents(self) -> None:
        this = self._round
        if this is None:
            return
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
            if self._failure is None or is_shortage(self._failure):
                self._failure = error or self._failure
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
            self._sync_contents()
            return
        if failure is None:
            self.costs.saw_whole(self.clock.monotonic() - self._started)
        self._contents_done(is_whole=True)

    def _each_done(self) -> None:
        this = self._round
        if self._failure is None and this is not None:
            self.costs.saw_each(self.clock.monotonic() - self._started, len(this.files))
        self._contents_done(is_whole=False)

    def _contents_done(self, *, is_whole: bool) -> None:
        if not self._has_failed(self._sync_contents):
            self._sync_names(is_whole=is_whole)

    def _sync_names(self, *, is_whole: bool) -> None:
        this = self._round
        if this is None:
            return
        again = partial(self._sync_names, is_whole=is_whole)
        try:
            this.rename_replacements(self.disk)
        except OSError as error:
            self._failure = error
        if self._has_failed(again):
            return
        job: Job | None = None
        if is_whole and this.replacements:
            job = partial(self.disk.sync_file_system, this.files[0])
        elif not is_whole and this.directories:
            job = partial(sync_names, self.disk, this.directories)
        if job is None:
            self._finish()
        else:
            self._run([job], partial(self._names_done, again))

    def _names_done(self, again: Callable[[], None]) -> None:
        if not self._has_failed(again):
            self._finish()

    def _finish(self) -> None:
        this, self._round = self._round, None
        if this is not None:
            logs = this.finish()
            self.kick()
            self.on_flushed(logs)
        self._tell_idle()

    def _has_failed(self, again: Callable[[], None]) -> bool:
        """Whether the step that ended has failed: for want of something, then `again` is what
        to do when there is some; or for good."""
        failure, self._failure = self._failure, None
        if failure is None:
            return False
        if isinstance(failure, OSError) and is_shortage(failure):
            if self._when_idle:
                self._give_up()
            else:
                self._stalled = again
                self.on_shortage(failure)
            return True
        self._round = None
        self._go_offline(failure)
        self._tell_idle()
        return True

    def _go_offline(self, failure: BaseException) -> None:
        if not isinstance(failure, OSError):
            raise failure
        self.is_offline = True
        self._dirty.clear()
        self._refused.clear()
        self.on_offline(failure)

    def _tell_idle(self) -> None:
        while self._when_idle and self.is_idle:
            self._when_idle.pop(0)()

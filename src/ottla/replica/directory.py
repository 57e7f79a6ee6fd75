"""A log directory, its flusher, and the partitions in it.

An append marks its log dirty; what became dirty in one turn of the loop is handed to the flusher
once, at the end of the turn; what nobody waits for (acks=1, and no consumer at the end of the
log), a few milliseconds later. After a round the high watermarks move, and with them whoever
waits.

Failures. A shortage (no room, no descriptor: `disk_errors`) is waited out: what needs room is
refused, reads go on, and what was put off is tried again every second; the log tells of its
beginning and of its end. Whatever else takes the directory offline, alone, until the next start.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from ottla.base.disk_errors import is_shortage
from ottla.base.errors import ErrorCode
from ottla.base.ids import TopicPartition
from ottla.base.world import World
from ottla.replica.partition import Partition
from ottla.storage.flusher import Flusher
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.removal import remove_directories, remove_files

logger = logging.getLogger(__name__)

SOON_S: Final = 0.005
"""How long an append that nobody waits for (acks=1, no consumer) may wait for others."""
RETRY_S: Final = 1.0
"""After a shortage."""
QUIET_S: Final = 10.0
"""Without one, until it is said to be over."""


class Directory:
    __slots__ = (
        "_clock",
        "_due",
        "_loop",
        "_offload",
        "_on_room",
        "_partitions",
        "_retry_timer",
        "_short_at",
        "_soon",
        "_soon_timer",
        "_when_flushed",
        "flusher",
        "is_kick_due",
        "log_dir",
        "removing",
    )

    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        log_dir: LogDir,
        on_room: Callable[["Directory"], None] = lambda _: None,
    ) -> None:
        """`on_room` is called while a shortage lasts, to try again what there was no room for."""
        self.log_dir = log_dir
        self.is_kick_due = False
        self.removing: asyncio.Future[None] | None = None
        """Until files are removed that are being removed."""
        self._loop = loop
        self._clock = world.clock
        self._offload = world.offload
        self._on_room = on_room
        self._partitions: dict[Log, Partition] = {}
        self._due: dict[Log, asyncio.TimerHandle] = {}
        self._soon: dict[Log, None] = {}
        self._soon_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._when_flushed: dict[Log, Callable[[], None]] = {}
        self._short_at: float | None = None
        """When the last shortage of those that are not over yet was met."""
        self.flusher = Flusher(
            world.disk,
            world.offload,
            world.clock,
            on_flushed=self._flushed,
            on_offline=self.go_offline,
            on_shortage=self.failed,
        )

    def add(self, partition: Partition) -> None:
        self._partitions[partition.log] = partition

    def remove(self, partition: Partition) -> None:
        """No flush of it may begin any more: its files are on their way out."""
        log = partition.log
        self._partitions.pop(log, None)
        self._soon.pop(log, None)
        timer = self._due.pop(log, None)
        if timer is not None:
            timer.cancel()
        self.flusher.forget(log)

    def has(self, log: Log) -> bool:
        return log in self._partitions

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    # hot: produce
    def mark_dirty(self, log: Log) -> None:
        """The log has more than was flushed: see to it at the end of this turn."""
        self.flusher.mark_dirty(log)
        if not self.is_kick_due:
            self.is_kick_due = True
            self._loop.call_soon(self._kick)

    # hot: produce
    def mark_dirty_soon(self, log: Log) -> None:
        """Nobody waits for it: it goes with the others of the next few milliseconds."""
        self._soon[log] = None
        if self._soon_timer is None:
            self._soon_timer = self._loop.call_later(SOON_S, self._soon_is_now)

    def _soon_is_now(self) -> None:
        self._soon_timer = None
        logs, self._soon = self._soon, {}
        for log in logs:
            self.flusher.mark_dirty(log)
        self.flusher.kick()

    def mark_dirty_within(self, log: Log, ms: int) -> None:
        if log not in self._due:
            self._due[log] = self._loop.call_later(ms / 1000, self._fall_due, log)

    def _fall_due(self, log: Log) -> None:
        del self._due[log]
        self.mark_dirty(log)

    def _kick(self) -> None:
        self.is_kick_due = False
        self.flusher.kick()

    def _flushed(self, logs: list[Log]) -> None:
        self.has_room()
        for log in logs:
            call = self._when_flushed.pop(log, None)
            if call is not None:
                call()
            partition = self._partitions.get(log)
            if partition is None:
                continue
            try:
                partition.advance_high_watermark()
            except Exception:  # who waits on the other partitions is told all the same
                logger.exception("%s: a waiter failed", log.topic_partition)

    def hurry(self) -> None:
        """The node stops: what was to be flushed later is flushed now."""
        if self._soon_timer is not None:
            self._soon_timer.cancel()
            self._soon_is_now()
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        for log, timer in self._due.items():
            timer.cancel()
            self.flusher.mark_dirty(log)
        self._due.clear()

    def when_flushed(self, log: Log, call: Callable[[], None]) -> None:
        """Call back, once, after the next round that takes the log up."""
        self._when_flushed[log] = call

    def high_watermarks(self) -> dict[TopicPartition, int]:
        return {
            partition.log.topic_partition: partition.high_watermark
            for partition in self._partitions.values()
        }

    # -- background

    def clean_up(self) -> None:
        """Retention, and files whose delay is over."""
        now_ms = self._clock.time_ms()
        self._remove_deleted(now_ms)
        try:
            for partition in self:
                if not partition.log.is_held:
                    partition.log.retire_old_segments(now_ms, partition.high_watermark)
        except OSError as error:
            self.failed(error)
        logs = [each.log for each in self if each.log.has_retired]
        retired = [(log, log.log_start_offset) for log in logs]
        if retired and not self.log_dir.is_offline:
            self.checkpoint(partial(self._drop_retired, retired))

    def _remove_deleted(self, now_ms: int) -> None:
        """On a helper thread: a file system takes a third of a second for a file of 1 GiB."""
        if self.removing is not None:
            return
        log_dir = self.log_dir
        logs = [each.log for each in self if not each.log.is_held]
        files = [path for log in logs for path in log.take_deleted(now_ms)]
        directories = log_dir.take_deleted()
        if not (files or directories):
            return
        removing = self.removing = self._loop.create_future()

        def remove() -> None:
            remove_files(log_dir.disk, files)
            remove_directories(log_dir.disk, log_dir.path, directories)

        def removed(_: None, error: BaseException | None) -> None:
            self.removing = None
            if not removing.done():
                removing.set_result(None)
            if error is None:
                log_dir.removed(directories)
            elif isinstance(error, OSError):
                self.failed(error)
            else:
                raise error

        self._offload.submit(remove, removed)

    def _drop_retired(self, retired: list[tuple[Log, int]], error: OSError | None) -> None:
        """Segments of which the disk knows that the log starts behind them. A full disk cannot
        be told: then one of each log goes, behind what went before, and makes room."""
        log_dir = self.log_dir
        now_ms = self._clock.time_ms()
        try:
            for log, end_offset in retired:
                if log_dir.is_offline or log_dir.logs.get(log.topic_partition) is not log:
                    continue
                if error is not None and log.has_retired:
                    log_dir.disk.sync_directory(log.directory)
                    end_offset = log.segments[1].base_offset
                log.drop_retired(now_ms, end_offset)
        except OSError as failure:
            self.failed(failure)

    def checkpoint(self, then: Callable[[OSError | None], None] = lambda _: None) -> None:
        """Make all offsets durable, then call back, with the error if that failed."""

        def done(error: OSError | None) -> None:
            if error is not None:
                self.failed(error)
            else:
                self.has_room()
            then(error)

        self.log_dir.write_checkpoints(self.high_watermarks(), self._offload, done)

    # -- failures

    def failed(self, error: OSError) -> None:
        """Something could not be done. A shortage is waited out, and what can be put off is
        tried again. Whatever else takes the directory offline."""
        if not is_shortage(error):
            self.go_offline(error)
            return
        if self._short_at is None:
            logger.warning(
                "log directory %s: %s; what needs it is refused or put off",
                self.log_dir.path,
                error,
            )
        self._short_at = self._loop.time()
        if self._retry_timer is None:
            self._retry_timer = self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        """Try again what was put off. Where that, too, fails, `failed` is called anew."""
        self._retry_timer = None
        if self.log_dir.is_offline:
            return
        self.flusher.retry()
        self._on_room(self)

    def has_room(self) -> None:
        """Something that needs room was done."""
        if self._short_at is not None and self._loop.time() > self._short_at + QUIET_S:
            self._short_at = None
            logger.warning("log directory %s: there is room again", self.log_dir.path)

    def go_offline(self, error: OSError) -> None:
        """Its disk failed: nothing in it is served until the next start."""
        if self.log_dir.is_offline:
            return
        logger.error("log directory %s goes offline: %s", self.log_dir.path, error)
        self.log_dir.go_offline()
        for partition in self._partitions.values():
            partition.close(ErrorCode.KAFKA_STORAGE_ERROR)

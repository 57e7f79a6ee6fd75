"""Compaction in the background: one cleaner for each log directory, one log at a time.

A cleaner looks for the log with the largest dirty part of those that are due, compacts it, and
looks again; finding none it sleeps for `log.cleaner.backoff.ms`. The plan of a pass and its swaps
are made on the node's thread; reading, sifting and writing are done by helper threads in steps of
about a millisecond (`storage.compaction`), and after each step the cleaner sleeps at least as long
as the step took: so that producers and consumers have the interpreter and the disk for half of
the time whatever there is to compact, and more where a step had to wait for them. On top of it
come `log.cleaner.io.max.bytes.per.second`, shared among the directories as is the memory of
`log.cleaner.dedupe.buffer.size`. `log.cleaner.threads` is accepted, but for 0, with which nothing
is compacted: more than one cleaner of a directory would only compete for the interpreter.

Before it reads anything a pass makes the recovery point durable: a start must not look for the
end of a segment where compaction left it short. A log that is deleted, truncated or loses
segments meanwhile ends the pass without harm. One whose bytes are not sound is not compacted
again until the next start, with one line in the log; the others go on. A shortage of room ends
the pass too, and the next one is tried after the backoff; any other failure of the disk takes the
directory offline.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from ottla.base.disk_errors import is_shortage
from ottla.base.errors import CorruptionError
from ottla.base.options import BrokerSettings
from ottla.base.world import World
from ottla.replica.directory import Directory
from ottla.replica.manager import ReplicaManager
from ottla.replica.partition import Partition
from ottla.storage.cleanable import Cleanable, cleanable, plan_of
from ottla.storage.compaction import Compaction
from ottla.storage.log import Log
from ottla.storage.replacement import Replacement
from ottla.storage.segment import Segment

logger = logging.getLogger(__name__)

T = TypeVar("T")

DUTY: Final = 0.5
"""Share of the time that a cleaner works."""
TURN_LOGS: Final = 100
"""Logs that are looked at in one turn of the loop."""
SHORT_S: Final = 0.05
RETRY_S: Final = 1.0
"""After a shortage in the middle of a swap."""


class GivenUpError(Exception):
    """The log is not what it was, or the node stops: the pass ends, and nothing is wrong."""


class Cleaner:
    """Of one log directory."""

    def __init__(
        self,
        world: World,
        directory: Directory,
        *,
        settings: Callable[[], BrokerSettings],
        share: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`settings` gives the broker's options as they are; `share` is the number of cleaners
        that share memory and rate; `on_failure` is told of what the node cannot go on after."""
        self._world = world
        self._directory = directory
        self._settings = settings
        self._share = share
        self._on_failure = on_failure
        self._uncleanable: dict[Log, None] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End after the step that is under way."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not await self.clean_filthiest():
                    await self._sleep(self._settings().log_cleaner_backoff_ms / 1000)
        except Exception as error:
            self._on_failure(error)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not much longer than until the node stops."""
        if seconds < SHORT_S:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    # -- which log

    async def clean_filthiest(self) -> bool:
        """One pass over the log that needs it most; whether there was one and it succeeded."""
        if self._directory.log_dir.is_offline:
            return False
        found = await self._filthiest()
        if found is None:
            return False
        partition, parts = found
        try:
            await self._clean(partition, parts)
        except GivenUpError:
            return False
        except CorruptionError as error:
            logger.error("%s is not compacted any more: %s", partition.log.topic_partition, error)
            self._uncleanable[partition.log] = None
            return False
        except OSError as error:
            if self._is_here(partition.log):
                self._directory.failed(error)
            return False
        return True

    async def _filthiest(self) -> tuple[Partition, Cleanable] | None:
        now_ms = self._world.clock.time_ms()
        partitions = list(self._directory)
        there = {each.log: None for each in partitions}
        self._uncleanable = {log: None for log in self._uncleanable if log in there}
        best: tuple[Partition, Cleanable] | None = None
        for count, partition in enumerate(partitions):
            if count % TURN_LOGS == TURN_LOGS - 1:
                await asyncio.sleep(0)
            log = partition.log
            if log in self._uncleanable or not self._is_here(log):
                continue
            try:
                found = cleanable(log, now_ms, partition.high_watermark)
            except CorruptionError as error:
                logger.error("%s is not compacted any more: %s", log.topic_partition, error)
                self._uncleanable[log] = None
                continue
            except OSError as error:
                self._directory.failed(error)
                return None
            if found is not None and (best is None or found.dirty_ratio > best[1].dirty_ratio):
                best = partition, found
        return best

    def _is_here(self, log: Log) -> bool:
        log_dir = self._directory.log_dir
        return not log_dir.is_offline and log_dir.logs.get(log.topic_partition) is log

    # -- one pass

    async def _clean(self, partition: Partition, parts: Cleanable) -> None:
        log = partition.log
        await self._write_checkpoint()
        self._check_here(log)
        broker = self._settings()
        plan, segments = plan_of(
            log,
            parts,
            self._world.clock.time_ms(),
            map_bytes=broker.log_cleaner_dedupe_buffer_size // self._share,
            load_factor=broker.log_cleaner_io_buffer_load_factor,
            read_bytes=broker.log_cleaner_io_buffer_size // 2,
        )
        compaction = Compaction(self._world.disk, plan)
        by_base = {each.base_offset: each for each in segments}  # but for those replaced already
        before = sum(each.size_bytes for each in segments)
        try:
            await self._drive(log, compaction.survey())
            while compaction.has_more:
                await self._replace_group(log, compaction, by_base)
        except Exception as error:
            if self._is_here(log) and not log.is_replacing:
                with suppress(OSError):
                    await self._offload(compaction.remove_leftovers)
            has_lost = any(each not in log.segments for each in by_base.values())
            if isinstance(error, FileNotFoundError) and has_lost:
                raise GivenUpError from error
            raise
        log.cleaner_offset = compaction.next_dirty_offset
        logger.info(
            "%s: compacted up to offset %d, %d bytes, %d of %d records stay",
            log.topic_partition,
            compaction.next_dirty_offset,
            before,
            compaction.kept_count,
            compaction.record_count,
        )
        await self._write_checkpoint()

    async def _replace_group(
        self,
        log: Log,
        compaction: Compaction,
        by_base: dict[int, Segment],
    ) -> None:
        await self._drive(log, compaction.clean())
        segment = compaction.cleaned
        if segment is None:
            return
        gone = [by_base[each.base_offset] for each in compaction.group]
        replacement = Replacement(log, gone, segment)
        if not replacement.is_possible:
            raise GivenUpError
        replacement.begin()
        # From here on a failure leaves the log as one in which segments are replaced: no pass
        # will touch what the next start needs.
        await self._settled(log, lambda: None)
        await self._settled(log, lambda: replacement.swap(self._world.clock.time_ms()))
        await self._settled(log, replacement.finish)
        replacement.end()
        for each in gone:
            del by_base[each.base_offset]

    async def _settled(self, log: Log, step: Callable[[], None]) -> None:
        """Take a step of a swap and make its names durable. A shortage is waited out: what is
        begun is brought to its end, or left to the next start."""
        while True:
            self._check_here(log)
            try:
                step()
                await self._offload(partial(self._world.disk.sync_directory, log.directory))
                return
            except OSError as error:
                if not is_shortage(error) or self._stopping.is_set():
                    raise
                self._directory.failed(error)
            await self._sleep(RETRY_S)

    async def _drive(self, log: Log, steps: Iterator[int]) -> None:
        """Take all steps, one after another, with pauses between them."""
        clock = self._world.clock
        while True:
            started = clock.monotonic()
            taken = await self._offload(partial(next, steps, None))
            if taken is None:
                return
            elapsed = clock.monotonic() - started
            rate = self._settings().log_cleaner_io_max_bytes_per_second / self._share
            due = taken / rate if rate > 0 else 0.0
            await self._sleep(max(elapsed * (1 / DUTY - 1), due - elapsed))
            if self._stopping.is_set() or not self._is_here(log):
                await self._offload(partial(_close, steps))
                raise GivenUpError

    def _check_here(self, log: Log) -> None:
        if not self._is_here(log):
            raise GivenUpError

    # -- waiting

    def _offload(self, call: Callable[[], T]) -> Awaitable[T]:
        """The outcome of a call on a helper thread."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self._world.offload.submit(call, done)
        return future

    async def _write_checkpoint(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: OSError | None) -> None:
            if future.done():
                return
            if error is not None:  # the directory was told
                future.set_exception(GivenUpError())
            else:
                future.set_result(None)

        self._directory.checkpoint(done)
        await future


class Cleaners:
    """Those of all log directories of a node."""

    def __init__(
        self,
        world: World,
        replicas: ReplicaManager,
        *,
        settings: Callable[[], BrokerSettings],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.each = [
            Cleaner(
                world,
                directory,
                settings=settings,
                share=len(replicas.directories),
                on_failure=on_failure,
            )
            for directory in replicas.directories
        ]

    def start(self) -> None:
        for cleaner in self.each:
            cleaner.start()

    async def close(self) -> None:
        for cleaner in self.each:
            await cleaner.close()


def _close(steps: Iterator[int]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()

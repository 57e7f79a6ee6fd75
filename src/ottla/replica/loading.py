"""Opening the logs of all directories beside the reactor, when a node starts.

Each directory is surveyed, then its logs are opened in groups, `threads` of them at once
(`num.recovery.threads.per.data.dir`), on helper threads. A group that is open is handed over at
once (`prepare`, which may wait, then `LogDir.take`, then `on_opened`), so that its partitions are
served while others are still being recovered. A directory that fails meanwhile is reported, and
the others go on.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from ottla.base.world import Offload
from ottla.storage.group_opening import Opened, Wanted
from ottla.storage.log_dir import ConfigOf, LogDir

T = TypeVar("T")

logger = logging.getLogger(__name__)

THREADS_MAX: Final = 6
"""Groups that are opened at once over all directories: others need helpers too."""


async def off_thread(offload: Offload, call: Callable[[], T]) -> T:
    """What `call` returns or raises on a helper thread."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    offload.submit(call, done)
    result: T = await answer
    return result


async def survey(offload: Offload, log_dirs: Sequence[LogDir], config_of: ConfigOf) -> None:
    """What is in each of them. One that fails is offline afterwards, and says so."""

    async def one(log_dir: LogDir) -> None:
        try:
            await off_thread(offload, partial(log_dir.survey, config_of))
        except OSError as error:
            logger.error("%s", log_dir.fail_opening(error))

    await asyncio.gather(*(one(each) for each in log_dirs if not each.is_offline))


class Loading:
    def __init__(
        self,
        offload: Offload,
        log_dirs: Sequence[LogDir],
        *,
        threads: int,
        prepare: Callable[[LogDir, list[Opened]], Awaitable[None]],
        on_opened: Callable[[LogDir, list[Opened]], None],
        on_failed: Callable[[LogDir, OSError], None],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        """Begin at once. `on_bug` is told of what a call-back raises once nobody waits."""
        self._offload = offload
        self._threads = threads
        self._prepare = prepare
        self._on_opened = on_opened
        self._on_failed = on_failed
        self._places = asyncio.Semaphore(THREADS_MAX)
        self._groups: dict[LogDir, deque[Wanted]] = {
            log_dir: deque(log_dir.groups()) for log_dir in log_dirs if not log_dir.is_offline
        }
        self._on_bug = on_bug
        self._is_awaited = True
        self._task = asyncio.get_running_loop().create_task(self._load())
        self._task.add_done_callback(self._ended)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Until all is open, or so long; whether it is. Raises what a call-back raised."""
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        self._is_awaited = False
        if done:
            self._task.result()
        return bool(done)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._is_awaited and not task.cancelled() and task.exception() is not None:
            self._on_bug(task.exception() or AssertionError())

    async def stop(self) -> None:
        """Begin no more, and wait for what was begun."""
        for groups in self._groups.values():
            groups.clear()
        await asyncio.wait([self._task])

    async def _load(self) -> None:
        await asyncio.gather(*(self._load_one(each) for each in self._groups))

    async def _load_one(self, log_dir: LogDir) -> None:
        workers = min(self._threads, len(self._groups[log_dir]))
        await asyncio.gather(*(self._work(log_dir) for _ in range(workers)))
        if not log_dir.pending and not log_dir.is_offline:
            log_dir.finish_opening()

    async def _work(self, log_dir: LogDir) -> None:
        groups, opening = self._groups[log_dir], log_dir.opening
        while groups:
            wanted = groups.popleft()
            try:
                async with self._places:
                    opened = await off_thread(self._offload, partial(opening.open, wanted))
            except OSError as error:
                groups.clear()
                if not log_dir.is_offline:
                    self._on_failed(log_dir, error)
                    log_dir.fail_opening(error)
                return
            if log_dir.is_offline:
                return
            await self._prepare(log_dir, opened)
            log_dir.take(opened)
            self._on_opened(log_dir, opened)

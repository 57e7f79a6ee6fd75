"""The store in one file of the data directory: the default, with nothing to install.

The file's connection is used by one helper thread at a time, for one batch of jobs: whatever was
asked for while the last batch ran is one SQLite transaction, hence one fsync (group commit), in
which each job sees the ones before it and takes a revision of its own.

Several processes may share the file. Each takes the first free of some lock files,
`FILE.N.lock`: its slot. The kernel frees it with the process, and that is how a lease dies:
whoever opens the file, or polls it, revokes the leases of slots that it can lock. Who shares
the file polls it for what others wrote; own writes reach own watches at once.

After an I/O error or a corrupt page the store is unavailable until it is opened again: what a
failed fsync left on the disk is not known, and SQLite would go on.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from ottla.base.errors import CorruptionError
from ottla.base.world import Lock, World
from ottla.metadata.embedded import Job, Outcome, StoreFile
from ottla.metadata.store import (
    HISTORY_REVISIONS,
    Changes,
    Compare,
    Entry,
    LeaseId,
    Revision,
    StoreBusyError,
    StoreError,
    StoreUnavailableError,
    TxnResult,
    Watch,
    Write,
    check_txn,
)
from ottla.metadata.watches import Watches

T = TypeVar("T")

_SLOTS: Final = 256
_BUSY_MS: Final = 5_000


class _Asked(NamedTuple):
    job: Job
    answer: "asyncio.Future[Any]"


class EmbeddedStore:
    """One process's face of the file. Made by `open`."""

    def __init__(self, world: World, path: str, file: StoreFile, slot: tuple[int, Lock]):
        self._world = world
        self._path = path
        self._file = file
        self._slot, self._lock = slot
        self._asked: deque[_Asked] = deque()
        self._running = False
        self._failure: BaseException | None = None
        self._watches = Watches()
        self._poll: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls,
        world: World,
        path: str,
        *,
        poll_ms: int | None = None,
        busy_ms: int = _BUSY_MS,
        history_revisions: int = HISTORY_REVISIONS,
    ) -> "EmbeddedStore":
        """Open the file, made when it is missing, and revoke what the dead have left. With
        `poll_ms` writes of other processes are looked for that often; without, the file is
        taken to be this process's alone. Raises StoreError or CorruptionError."""
        slot, lock = _take_slot(world, path)
        file = StoreFile(path, history_revisions)
        try:
            await _offload(world, partial(file.open, busy_ms))
        except BaseException:
            lock.release()
            raise
        store = cls(world, path, file, (slot, lock))
        try:
            await store._revoke_slot(slot)
            await store._revoke_dead()
        except BaseException:
            await store.close()
            raise
        if poll_ms is not None:
            store._poll = asyncio.get_running_loop().create_task(store._poll_every(poll_ms))
        return store

    async def read(self, prefix: str) -> tuple[Revision, dict[str, Entry]]:
        return await self._run(partial(self._file.read, prefix), writes=False)

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        check_txn(compares, writes)
        call = partial(self._file.txn, tuple(compares), tuple(writes))
        return await self._run(call, writes=bool(writes))

    def watch(
        self,
        prefix: str,
        from_revision: Revision,
        call_back: Callable[[Changes], None],
        failed: Callable[[StoreError], None],
    ) -> Watch:
        self._check_open()
        watch = self._watches.add(prefix, from_revision, call_back, failed)
        self._run(lambda: None, writes=False).add_done_callback(_look_at)
        return watch

    async def grant(self, ttl_ms: int) -> LeaseId:
        return await self._run(partial(self._file.grant, self._slot), writes=True)

    async def keep_alive(self, lease: LeaseId) -> None:
        await self._run(partial(self._file.check_lease, lease), writes=False)

    async def revoke(self, lease: LeaseId) -> None:
        await self._run(partial(self._file.revoke, lease), writes=True)

    async def close(self) -> None:
        """What was asked for before is still done."""
        if self._closing is None:
            self._watches.clear()
            if self._poll is not None:
                self._poll.cancel()
            self._closing = asyncio.get_running_loop().create_future()
            self._maybe_close()
        await asyncio.shield(self._closing)

    def _run(self, call: Callable[[], T], *, writes: bool) -> "asyncio.Future[T]":
        self._check_open()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(Job(call, writes), answer))
        self._maybe_start()
        return answer

    def _maybe_start(self) -> None:
        if self._running or not self._asked:
            return
        batch = list(self._asked)
        self._asked.clear()
        self._running = True
        since = self._watches.lowest()
        self._world.offload.submit(
            partial(self._file.run, [asked.job for asked in batch], since),
            partial(self._finish, batch, since),
        )

    def _finish(
        self,
        batch: list[_Asked],
        since: Revision | None,
        outcome: Outcome | None,
        error: BaseException | None,
    ) -> None:
        self._running = False
        if outcome is None:
            self._refuse(batch, error or StoreUnavailableError(self._path))
        else:
            for asked, result in zip(batch, outcome.results, strict=True):
                _settle(asked.answer, result)
        self._maybe_start()
        self._maybe_close()
        if outcome is not None and since is not None:
            self._watches.deliver(since, outcome.history, outcome.compacted)

    def _refuse(self, batch: list[_Asked], error: BaseException) -> None:
        if not isinstance(error, StoreBusyError):
            self._failure = error
            batch = [*batch, *self._asked]
            self._asked.clear()
            self._watches.fail(StoreUnavailableError(str(error)))
        for asked in batch:
            _settle(asked.answer, error)

    def _maybe_close(self) -> None:
        if self._closing is not None and not self._running and not self._closing.done():
            self._running = True
            self._world.offload.submit(self._file.close, self._closed)

    def _closed(self, result: None, error: BaseException | None) -> None:
        self._lock.release()
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StoreUnavailableError("the store is closed")
        if self._failure is not None:
            raise self._failure

    async def _poll_every(self, poll_ms: int) -> None:
        """Any batch brings the watches what they have not had, so looking for the dead does."""
        while self._failure is None:
            await asyncio.sleep(poll_ms / 1000)
            try:
                await self._revoke_dead()
            except (StoreError, CorruptionError, OSError):
                continue

    async def _revoke_dead(self) -> None:
        slots = await self._run(self._file.slots_with_leases, writes=False)
        for slot in slots:
            if slot == self._slot:
                continue
            try:
                lock = self._world.disk.lock(_lock_path(self._path, slot))
            except BlockingIOError:
                continue
            try:
                await self._revoke_slot(slot)
            finally:
                lock.release()

    async def _revoke_slot(self, slot: int) -> None:
        await self._run(partial(self._file.revoke_slot, slot), writes=True)


def _lock_path(path: str, slot: int) -> str:
    return f"{path}.{slot}.lock"


def _take_slot(world: World, path: str) -> tuple[int, Lock]:
    for slot in range(_SLOTS):
        try:
            return slot, world.disk.lock(_lock_path(path, slot))
        except BlockingIOError:
            continue
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error}") from error
    raise StoreUnavailableError(f"{path}: more than {_SLOTS} processes share it")


async def _offload(world: World, call: Callable[[], None]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    world.offload.submit(call, lambda result, error: _settle(future, error))
    await future


def _look_at(answer: "asyncio.Future[None]") -> None:
    """Nobody waits for it, and its watch is told of an error by itself."""
    if not answer.cancelled():
        answer.exception()


def _settle(future: "asyncio.Future[Any]", result: object) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)

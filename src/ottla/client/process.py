"""The workflow: records go through a handler, many at a time, and each ends well, or in the dead
letters, or stops everything.

    read ─> a lane (`work`) ─> the handler ─> what it returned is delivered ─> done
                 ^                 │ it raised
                 └── after a pause ┴─> no tries left ─> delivered to the dead letters ─> done
                                                     └─> there are none: ProcessingError

A partition's position is the first record that is not done: that is what is committed, all
auto_commit_interval_ms, when a partition goes, and in the end. So every record is processed at
least once: after a crash, or a partition that was lost, those behind the committed position are
processed again.

Memory. A partition of which `max_pending` records are not done is read no more until some are.

Rebalances. Of a partition that goes, nothing more is begun; what is at work is waited for, at
most `drain_timeout_ms`, and then cancelled. Of a partition that is lost it is cancelled at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final, TypedDict

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import World
from ottla.client.assignment import FULL, PartitionState
from ottla.client.errors import ConfigError, ProcessingError
from ottla.client.exactly_once import Settling
from ottla.client.life import in_turn
from ottla.client.outlet import Output
from ottla.client.reader import Reader
from ottla.client.records import ConsumerRecord
from ottla.client.retry import RetryPolicy, noted, origin
from ottla.client.settings import at_least
from ottla.client.work import ORDERS, Item, Work

_log = logging.getLogger(__name__)

Outputs = Output | Iterable[Output] | None
Handler = Callable[[ConsumerRecord], Awaitable[Outputs] | Outputs]

READ_MS: Final = 1_000.0
READ_RECORDS: Final = 500


class CancelledInsideError(Exception):
    """A handler was cancelled by somebody else than the processing."""


class MoreOptions(TypedDict, total=False):
    max_pending: int
    drain_timeout_ms: int
    transactional: bool
    transactional_id: str | None
    transaction_interval_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    concurrency: int
    order: str
    retry: RetryPolicy
    dead_letter: str | None
    max_pending: int = 1_000
    drain_timeout_ms: int = 30_000
    transactional: bool = False
    transactional_id: str | None = None
    transaction_interval_ms: int = 100

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ConfigError(f"order is {self.order!r}, not one of {', '.join(ORDERS)}")
        for name in ("concurrency", "max_pending"):
            at_least(name, getattr(self, name), 1)
        for name in ("drain_timeout_ms", "transaction_interval_ms"):
            at_least(name, getattr(self, name), 0)


class Processing:
    """One call of `Consumer.process`, from its begin to its end."""

    def __init__(
        self,
        world: World,
        states: dict[TopicPartition, PartitionState],
        reader: Reader,
        handler: Handler,
        options: ProcessOptions,
        *,
        settling: Callable[[Work, Callable[[TopicPartition], None]], Settling],
        told: Callable[[], None],
    ) -> None:
        """`settling` is made of the work, and of what is called when something of a partition is
        done; `told` is called when a partition may be read on."""
        self._world = world
        self._states = states
        self._reader = reader
        self._handler = handler
        self._options = options
        self._told = told
        self._work = Work(options.order)
        self._settling = settling(self._work, self._mark)
        self._turns: dict[TopicPartition, int] = {}
        self._running: dict[asyncio.Task[None], Item] = {}
        self._leaving: dict[TopicPartition, None] = {}
        """Partitions that are drained: nothing of them is begun."""
        self._is_stopping = False
        self._error: BaseException | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`: then what is at work is finished. ProcessingError where a record fails
        for good and there are no dead letters; whatever a read raises."""
        self._reader.all_done()
        self._reader.marks_done = False
        loop = asyncio.get_running_loop()
        feeding, settling = loop.create_task(self._feed()), loop.create_task(self._settling.run())
        tasks = [feeding, settling, loop.create_task(self._stopped.wait())]
        await in_turn(self._until_over(tasks), lambda: self._give_up([*tasks, *self._running]))

    async def _until_over(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        if self._error is None:
            await self._finish(list(self._running))
            await self._settling.flush()
        if self._error is not None:
            raise self._error

    async def _give_up(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Whoever reads next begins with the first record that is not done."""
        self._is_stopping = True
        for task in tasks:
            task.cancel()
        self._reader.marks_done = True
        for key, state in self._states.items():
            first = self._work.first_undone(key)
            if first is not None and self._turns.get(key) == state.turn:
                # A transaction whose answer nobody waits for now may have committed it.
                state.seek(None if self._options.transactional else first, or_else=first)
            state.stop(FULL, False)
        await asyncio.wait(tasks)

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is at work is finished."""
        self._is_stopping = True
        self._stopped.set()

    # ---- reading

    async def _feed(self) -> None:
        while not self._is_stopping:
            for record in await self._reader.poll(READ_MS, READ_RECORDS):
                key = TopicPartition(record.topic, PartitionIndex(record.partition))
                state = self._states[key]
                if self._turns.get(key) != state.turn:
                    self.drop([key])  # as in `_mark`
                    self._turns[key] = state.turn
                self._work.add(key, record)
                if self._work.undone_count(key) >= self._options.max_pending:
                    state.stop(FULL, True)
            self._begin_more()

    # ---- handling

    def _begin_more(self) -> None:
        while len(self._running) < self._options.concurrency and not self._is_stopping:
            item = self._work.next()
            if item is None:
                return
            if item.key in self._leaving:
                continue
            task = asyncio.get_running_loop().create_task(self._handle(item))
            self._running[task] = item
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        item = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self.stop()
            return
        self._mark(item.key)
        self._begin_more()

    async def _handle(self, item: Item) -> None:
        """One try. An exception of this ends the processing."""
        item.attempts += 1
        try:
            outputs = self._handler(item.record)
            if isawaitable(outputs):
                outputs = await outputs
            await self._settling.settle(item, _listed(outputs))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._failed(item, CancelledInsideError(error))  # it was none of ours
        except Exception as error:
            await self._failed(item, error)

    async def _failed(self, item: Item, error: Exception) -> None:
        if item.first_failed_ms < 0:
            item.first_failed_ms = self._world.clock.time_ms()
        item.record = noted(
            item.record,
            attempts=item.attempts,
            error=error,
            first_failed_ms=item.first_failed_ms,
        )
        pause_s = self._options.retry.pause_s(item.attempts, error, self._world.rng)
        record = item.record
        where = f"{item.key} offset {record.offset}"
        if pause_s is not None:
            _log.info("%s: try %d: %r", where, item.attempts, error)
            asyncio.get_running_loop().call_later(pause_s, self._again, item)
            return
        if self._options.dead_letter is None:
            raise ProcessingError(
                f"{where}: given up after {item.attempts} tries: {error!r}", record=record
            ) from error
        _log.warning("%s: to the dead letters after %d tries: %r", where, item.attempts, error)
        headers = (*record.headers, *origin(record))
        letter = Output(self._options.dead_letter, record.value, record.key, headers)
        await self._settling.settle(item, [letter])

    def _again(self, item: Item) -> None:
        self._work.again(item)
        self._begin_more()

    def _mark(self, key: TopicPartition) -> None:
        """Move the position that is committed, and read on if the partition was full."""
        state = self._states.get(key)
        if state is None:
            return
        if self._turns.get(key) == state.turn:
            first = self._work.first_undone(key)
            state.done = state.position if first is None else first
        else:
            self.drop([key])  # somebody sought: what was read before is in vain
        if state.stops & FULL and self._work.undone_count(key) < self._options.max_pending:
            state.stop(FULL, False)
            self._told()

    # ---- partitions that go

    async def drain(self, keys: Sequence[TopicPartition]) -> None:
        """Returns when nothing of these is at work, and their positions are those to commit."""
        self._leaving.update(dict.fromkeys(keys))
        try:
            tasks = [task for task, item in self._running.items() if item.key in self._leaving]
            await self._finish(tasks)
            await self._settling.flush()
            for key in keys:
                state, first = self._states.get(key), self._work.first_undone(key)
                if state is not None and first is not None:
                    state.position = state.done = first
            self._forget(keys)
        finally:
            for key in keys:
                self._leaving.pop(key, None)

    async def _finish(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for these, and cancel what takes too long."""
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._options.drain_timeout_ms / 1_000)
        if late:
            _log.warning("%d records were at work for too long, and are given up", len(late))
            await self._cancel([task for task in tasks if task in late])

    async def _cancel(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def drop(self, keys: Sequence[TopicPartition]) -> None:
        """Nothing of these counts any more."""
        for task, item in self._running.items():
            if item.key in keys:
                task.cancel()
        self._forget(keys)

    def _forget(self, keys: Sequence[TopicPartition]) -> None:
        self._work.drop(keys)
        for key in keys:
            self._turns.pop(key, None)


def _listed(outputs: Any) -> list[Output]:
    if outputs is None:
        return []
    return [outputs] if isinstance(outputs, Output) else list(outputs)

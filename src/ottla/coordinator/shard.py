"""One partition of an internal topic, and the state machine whose log it is.

    LOADING   the log is replayed into a new machine: COORDINATOR_LOAD_IN_PROGRESS
    ACTIVE    operations run
    CLOSED    not ours, gone, or not readable: NOT_COORDINATOR

An operation is a function of the machine and the wall clock. It returns records and a response.
The records are replayed into the machine at once, so that the next operation sees them, and are
appended at the end of the turn, all of the turn together. The response, and whatever the
operation answered to others that were waiting, leaves when the high watermark has passed all
that was appended before: nobody is told what a power cut could take back, and responses leave
in the order of the operations.

    perform ── replay ──> _fresh ── append, end of turn ──> Commits ── high watermark ──> answered

Records may be of a producer's transaction: then they count when its marker says so, which comes by
`end_transaction`.

When an append fails, memory is ahead of the log: the machine is thrown away and loaded again,
and whoever it had kept waiting is told. Timers belong to a machine and end with it; until an append
succeeds none is shorter than RETRY_MS, or what a machine does when it is loaded would go round.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from enum import Enum
from functools import partial
from typing import Any, Final, Generic

from ottla.base.errors import BugError, CorruptionError, ErrorCode, KafkaError
from ottla.base.world import World
from ottla.coordinator.batches import (
    BATCH_OVERHEAD_BYTES,
    RECORD_OVERHEAD_BYTES,
    Part,
    batches,
    parts_of,
)
from ottla.coordinator.commits import Answer, Commits
from ottla.coordinator.loading import Loading
from ottla.coordinator.machine import Host, M, Machine, Operation, Outcome
from ottla.coordinator.pending import Pending
from ottla.coordinator.timers import Timers
from ottla.records.control import Marker
from ottla.records.record import Record
from ottla.replica.partition import Partition

logger = logging.getLogger(__name__)

RETRY_MS: Final = 500
"""How soon a machine comes back to what it has to do by itself, while appends fail."""


class State(Enum):
    LOADING = "loading"
    ACTIVE = "active"
    CLOSED = "closed"


_REFUSALS: Final = {
    State.LOADING: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    State.CLOSED: ErrorCode.NOT_COORDINATOR,
}


class Shard(Generic[M]):
    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        partition: Partition,
        make_machine: Callable[[Host], M],
        commit_timeout_ms: Callable[[], int],
    ) -> None:
        self.partition = partition
        self.machine: M
        self.state = State.LOADING
        self._world = world
        self._loop = loop
        self._make_machine = make_machine
        self._timers: Timers[Operation[M]] = Timers(loop, self.perform)
        self._task: asyncio.Task[None] | None = None
        self._answers: list[Answer] = []
        """Of the operation that runs."""
        self._fresh: list[Answer] = []
        self._parts: list[Part] = []
        self._is_failing = False
        """The last append did."""
        self._producer: tuple[int, int] | None = None
        """In whose transaction `_parts` are."""
        self._commits = Commits(partition, loop, commit_timeout_ms, self.close)
        self._load()

    @property
    def loading(self) -> asyncio.Task[None] | None:
        """The replay of its log, while that is going on."""
        return self._task

    # -- operations

    @property
    def refusal(self) -> ErrorCode:
        """Why no operation runs now; NONE where one would."""
        if self.state is State.ACTIVE and self.partition.refusal:
            self.close()
        return _REFUSALS.get(self.state, ErrorCode.NONE)

    def perform(self, operation: Operation[M], pending: Pending | None = None) -> None:
        """Run an operation now; `pending` is answered when its outcome is committed."""
        refusal = self.refusal
        if refusal:
            if pending is not None:
                pending.fail(refusal)
            return
        now_ms = self._world.clock.time_ms()
        try:
            outcome = operation(self.machine, now_ms)
            self._take(outcome)
            if pending is not None and outcome.response is not None:
                self._answers.append((pending, outcome.response))
        except KafkaError as error:
            if pending is None:
                logger.warning("%s: %s was refused: %s", self, _name(operation), error)
            else:
                # The code alone: an error holds the frames it came through, and what they view.
                self._answers.append((pending, error.code))
        except BugError:
            raise
        except Exception:
            self._load_again(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            raise
        self._settle()

    def _take(self, outcome: Outcome) -> None:
        """KafkaError where the log would not take its records: then nothing has changed."""
        machine, producer = self.machine, outcome.producer
        parts = parts_of(
            [machine.encode(record) for record in outcome.records],
            self.partition.settings.max_message_bytes,
            is_divisible=outcome.is_divisible,
        )
        if parts and self._parts and producer != self._producer:
            self._append_now()
        for effect in outcome.effects:
            effect()
        for record in outcome.records:
            if producer is None:
                machine.replay(record)
            else:
                machine.replay_pending(record, producer[0])
        if parts and not self._parts:
            self._loop.call_soon(self._append)
            self._producer = producer
        self._parts += parts

    def _append_now(self) -> None:
        """What comes next is of another transaction, or ends one: it has its own batch. KafkaError
        where that cannot be."""
        machine = self.machine
        self._append()
        if self.state is not State.ACTIVE or self.machine is not machine:
            raise KafkaError(self.refusal or ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def end_transaction(
        self, marker: Marker, producer: tuple[int, int], pending: Pending, *, is_bumped: bool
    ) -> None:
        """Bring the marker of a producer's transaction into the log; `pending` is told NONE when
        it is there for good."""
        if self.refusal:
            pending.fail(self.refusal)
            return
        producer_id, epoch = producer
        now_ms = self._world.clock.time_ms()
        try:
            self._append_now()
            info = self.partition.append_marker(
                marker, producer_id, epoch, now_ms, is_bumped=is_bumped
            )
        except KafkaError as error:
            pending.fail(error.code)
            return
        if not info.is_duplicate:
            self.machine.end_transaction(producer_id, committed=marker.committed)
        self._commits.add([(pending, ErrorCode.NONE)])

    def _settle(self) -> None:
        """Let the answers of an operation wait for what was appended before them."""
        answers, self._answers = self._answers, []
        if self._parts:
            self._fresh += answers
        else:
            self._commits.follow(answers)

    def _append(self) -> None:
        parts, self._parts = self._parts, []
        producer, self._producer = self._producer, None
        answers, self._fresh = self._fresh, []
        if self.state is not State.ACTIVE or not parts:
            return
        now_ms = self._world.clock.time_ms()
        limit = self.partition.settings.max_message_bytes
        try:
            for batch in batches(parts, limit, now_ms, producer):
                self.partition.append_own(batch, now_ms)
        except KafkaError as error:
            logger.warning("%s: append failed: %s", self, error)
            self._is_failing = True
            self._fresh = answers
            if self.partition.refusal:
                self.close(error.code)
            else:
                self._load_again(error.code)
            return
        self._is_failing = False
        self._commits.add(answers)

    # -- what a machine may do

    @property
    def record_max_bytes(self) -> int:
        overhead = RECORD_OVERHEAD_BYTES + BATCH_OVERHEAD_BYTES
        return self.partition.settings.max_message_bytes - overhead

    @property
    def epoch(self) -> int:
        return self.partition.leader_epoch

    def answer(self, pending: Pending, response: Any) -> None:
        self._answers.append((pending, response))

    def schedule(self, key: Hashable, delay_ms: int, operation: Operation[M]) -> None:
        if self._is_failing:
            delay_ms = max(delay_ms, RETRY_MS)
        self._timers.schedule(key, delay_ms, operation)

    def cancel(self, key: Hashable) -> None:
        self._timers.cancel(key)

    # -- loading and unloading

    def _load(self) -> None:
        self.state = State.LOADING
        self.machine = self._make_machine(self)
        log = self.partition.log
        if log.log_end_offset == log.log_start_offset:
            self._become_active()
        else:
            self._task = self._loop.create_task(self._replay_log())

    async def _replay_log(self) -> None:
        replay = _Replay(self.machine)
        try:
            await Loading(self.partition.log, self._world.offload, replay).run()
        except (KafkaError, CorruptionError, OSError) as error:
            logger.error("%s cannot be loaded, and is not served: %s", self, error)
            self.close()
            return
        except Exception:
            logger.exception("%s cannot be loaded, and is not served", self)
            self.close()
            return
        if replay.passed_over:
            logger.warning("%s: %d records of unknown kinds passed over", self, replay.passed_over)
        self._task = None
        self._become_active()

    async def replayed(self) -> M:
        """Another machine, as the log makes it now: what memory may be held against. Nobody asks
        it anything, and it has no timers."""
        machine = self._make_machine(self)
        await Loading(self.partition.log, self._world.offload, _Replay(machine)).run()
        return machine

    def _become_active(self) -> None:
        self.state = State.ACTIVE
        if self.partition.high_watermark < self.partition.log.log_end_offset:
            self._commits.add([])
            self.partition.hurry()
        self.machine.loaded(self._world.clock.time_ms())
        self._settle()

    def _load_again(self, code: ErrorCode) -> None:
        self._unload(code)
        self._load()

    def close(self, code: ErrorCode = ErrorCode.NOT_COORDINATOR) -> None:
        """Serve no more; everybody who waits is told."""
        if self.state is State.CLOSED:
            return
        self._unload(code)
        self.state = State.CLOSED
        self._commits.close(code)

    def _unload(self, code: ErrorCode) -> None:
        self._timers.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for pending, _ in (*self._answers, *self._fresh):
            pending.fail(code)
        self._answers.clear()
        self._fresh.clear()
        self._parts.clear()
        self.machine.closed(code)

    def __str__(self) -> str:
        return f"coordinator of {self.partition.topic}-{self.partition.index}"


def _name(operation: Operation[Any]) -> str:
    """Of an operation that nobody asked for, a timer's."""
    called = operation.func if isinstance(operation, partial) else operation
    return str(getattr(called, "__name__", called)).strip("_")


class _Replay:
    """The records of a log into a machine."""

    def __init__(self, machine: Machine[Any]) -> None:
        self._machine = machine
        self.passed_over = 0

    def record(self, record: Record, producer_id: int) -> None:
        known = self._machine.decode(record.key or b"", record.value)
        if known is None:
            self.passed_over += 1
        elif producer_id < 0:
            self._machine.replay(known)
        else:
            self._machine.replay_pending(known, producer_id)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        self._machine.end_transaction(producer_id, committed=committed)

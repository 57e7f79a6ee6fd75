"""An asyncio loop with virtual time: the same calls in the same order, every time.

Ready calls run in the order they were made. When none is ready, time jumps to the next timer;
timers of one moment run in the order they were set. There is no selector, no thread and no real
clock: what asks for one gets an error.

A run fails, rather than hangs or goes on, when
- a callback raises, or a task dies with an error that nobody looks at (`failure`);
- nothing is ready, no timer is set and the run is unfinished (`SimDeadlock`);
- virtual time runs past its limit, or stands still for too many calls (`SimStuck`).

Calls of a dead process are dropped (process.py). `kill` also closes its coroutines, so that their
`finally` blocks run at a fixed moment, in a world that is dead already, not when the collector
comes by.

Rejected: BaseEventLoop's own `_run_once` with a fake selector (order of equal timers is not kept,
and its private parts move between Pythons); simloom (needs 3.12).
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

from ottla.base.errors import check
from ottla.sim.process import PROCESS, Process

T = TypeVar("T")
A = TypeVarTuple("A")

START_S: Final = 1_000.0
"""Where virtual time begins: not at zero, which would hide a deadline that was never set."""
STANDSTILL_CALLS: Final = 1_000_000
"""Calls that may run without time moving."""
SWEEP_TIMERS: Final = 1_000
"""Cancelled timers that may lie in the heap before it is swept."""


class SimDeadlock(Exception):
    """Nothing can ever run again, and the run is not finished."""


class SimStuck(Exception):
    """The run goes on without getting anywhere."""


class Call(asyncio.TimerHandle):
    """A callback that waits for its turn or its time."""

    __slots__ = ("is_timer", "process")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        context = copy_context() if context is None else context
        super().__init__(when, callback, args, loop, context)
        self.is_timer = False
        """It stands in the heap of timers."""
        self.process: Process | None = context.get(PROCESS, None)


class SimTask(asyncio.Task[T]):
    """A task that knows whose it is."""

    process: Process | None = None


class SimLoop(asyncio.BaseEventLoop):
    def __init__(self, *, time_limit_s: float = 7 * 24 * 3600.0) -> None:
        self._is_running = False
        super().__init__()  # asks whether it runs
        self._now = START_S
        self._deadline = START_S + time_limit_s
        self._calls: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._timer_number = 0
        self._cancelled_timers = 0
        self._calls_since_jump = 0
        self._is_stopped = False
        self._anyone_killed = False
        self._tasks: dict[SimTask[Any], None] = {}
        self.failure: BaseException | None = None

    # ---- time and calls

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[*A], object],
        *args: *A,
        context: Context | None = None,
    ) -> Call:
        call = Call(self._now, callback, args, self, context)
        self._calls.append(call)
        return call

    def call_soon_threadsafe(
        self,
        callback: Callable[[*A], object],
        *args: *A,
        context: Context | None = None,
    ) -> Call:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*A], object],
        *args: *A,
        context: Context | None = None,
    ) -> Call:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*A], object],
        *args: *A,
        context: Context | None = None,
    ) -> Call:
        call = Call(when, callback, args, self, context)
        call.is_timer = True
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, call))
        return call

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """TimerHandle.cancel calls this, before it marks itself."""
        if not isinstance(handle, Call) or not handle.is_timer:
            return
        self._cancelled_timers += 1
        if self._cancelled_timers > max(SWEEP_TIMERS, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    # ---- tasks

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> SimTask[T]:
        context = copy_context() if context is None else context
        title = None if name is None else str(name)
        task = SimTask(coro, loop=self, name=title, context=context, **options)
        task.process = context.get(PROCESS, None)
        if not task.done():
            self._tasks[task] = None
            task.add_done_callback(self._forget, context=context)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)  # type: ignore[call-overload]

    def kill(self, process: Process) -> None:
        """Nothing of the process runs after this. To be called from outside of it."""
        check(PROCESS.get() is not process, "a process is killed from outside")
        process.is_alive = False
        self._anyone_killed = True
        for task in [task for task in self._tasks if task.process is process]:
            del self._tasks[task]
            process.run(partial(_close, task))

    # ---- running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, cancel what it left behind, and close the loop."""
        try:
            result = self.run_until_complete(self.create_task(main, name="main"))
            self._cancel_rest()
            return result
        finally:
            self._drop_rest()
            self.close()

    def run_forever(self) -> None:
        check(not self._is_running and events._get_running_loop() is None, "a loop runs already")
        self._is_running = True
        self._is_stopped = False
        events._set_running_loop(self)
        try:
            while not self._is_stopped:
                self._step()
        finally:
            events._set_running_loop(None)
            self._is_running = False

    def stop(self) -> None:
        self._is_stopped = True

    def is_running(self) -> bool:
        return self._is_running

    def _step(self) -> None:
        if not self._calls:
            self._jump()
        call = self._calls.popleft()
        if call.cancelled() or (call.process is not None and not call.process.is_alive):
            return
        self._calls_since_jump += 1
        if self._calls_since_jump > STANDSTILL_CALLS:
            raise SimStuck(f"{STANDSTILL_CALLS} calls at one moment; the last: {call!r}")
        call._run()
        if self.failure is not None:
            raise self.failure

    def _jump(self) -> None:
        """Move time to the next timer and make what is due then ready."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self._cancelled_timers -= 1
        if not timers:
            raise SimDeadlock(f"nothing will ever run; unfinished: {self._unfinished()}")
        self._now = max(self._now, timers[0][0])
        if self._now > self._deadline:
            raise SimStuck(f"virtual time is up at {self._now}; unfinished: {self._unfinished()}")
        self._calls_since_jump = 0
        while timers and timers[0][0] <= self._now:
            call = heapq.heappop(timers)[2]
            if call.cancelled():
                self._cancelled_timers -= 1
                continue
            call.is_timer = False
            self._calls.append(call)

    def _unfinished(self) -> str:
        return ", ".join(repr(task) for task in self._tasks) or "no task"

    def _cancel_rest(self) -> None:
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        if rest:
            self.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    def _drop_rest(self) -> None:
        """A run that failed: what is unfinished is not to complain when it is collected."""
        for task in self._tasks:
            _close(task)
        self._tasks.clear()
        self._calls.clear()
        self._timers.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """asyncio reports here what nobody caught."""
        owner = context.get("task") or context.get("future")
        process = getattr(owner, "process", None)
        if process is not None and not process.is_alive:
            return
        if owner is not None and not isinstance(owner, SimTask) and self._anyone_killed:
            return  # a bare future does not know whose it is: it may have died with its process
        if self.failure is None:
            self.failure = context.get("exception") or RuntimeError(context["message"])

    def run_in_executor(
        self, executor: Any, func: Callable[[*A], T], *args: *A
    ) -> asyncio.Future[T]:
        raise NotImplementedError("no threads in the simulated world: use World.offload")


def _close(task: SimTask[Any]) -> None:
    """Unwind a task that will never go on. What its cleaning up raises is no error: a process
    that lost its power does not clean up."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    with suppress(Exception):
        if coroutine is not None:
            coroutine.close()

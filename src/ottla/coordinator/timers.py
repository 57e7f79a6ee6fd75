"""Timers by key, made to be put off: a heartbeat moves a deadline, and no timer of the loop.

A key has one deadline; setting it again replaces it. The loop's timer of a key is moved only when
the new deadline is earlier; when it fires too early, it is set anew for what is left.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Timer(Generic[T]):
    __slots__ = ("deadline", "due", "handle")

    def __init__(self, due: T, deadline: float, handle: asyncio.TimerHandle) -> None:
        self.due = due
        self.deadline = deadline
        self.handle = handle


class Timers(Generic[T]):
    """`perform` is told what is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, perform: Callable[[T], object]) -> None:
        self._loop = loop
        self._perform = perform
        self._timers: dict[Hashable, _Timer[T]] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._timers

    def schedule(self, key: Hashable, delay_ms: int, due: T) -> None:
        deadline = self._loop.time() + max(delay_ms, 0) / 1000
        timer = self._timers.get(key)
        if timer is None:
            handle = self._loop.call_at(deadline, self._fire, key)
            self._timers[key] = _Timer(due, deadline, handle)
            return
        timer.due = due
        timer.deadline = deadline
        if deadline < timer.handle.when():
            timer.handle.cancel()
            timer.handle = self._loop.call_at(deadline, self._fire, key)

    def cancel(self, key: Hashable) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.handle.cancel()

    def clear(self) -> None:
        for timer in self._timers.values():
            timer.handle.cancel()
        self._timers.clear()

    def _fire(self, key: Hashable) -> None:
        timer = self._timers[key]
        if timer.deadline > timer.handle.when():
            timer.handle = self._loop.call_at(timer.deadline, self._fire, key)
            return
        del self._timers[key]
        self._perform(timer.due)

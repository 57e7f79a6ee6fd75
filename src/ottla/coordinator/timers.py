"""Timers by key, made to be put off: a heartbeat moves a deadline, and no timer of the loop.

A key has one deadline; setting it again replaces it. The loop's timer of a key is moved only when
the new deadline is earlier; when it fires too early, it is set anew for what is left.
"""

import asyncio
from collections.abc import Callable, Hashable


class _Timer:
    __slots__ = ("call", "deadline", "handle")

    def __init__(
        self, call: Callable[[], None], deadline: float, handle: asyncio.TimerHandle
    ) -> None:
        self.call = call
        self.deadline = deadline
        self.handle = handle


class Timers:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[Hashable, _Timer] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._timers

    def schedule(self, key: Hashable, delay_ms: int, call: Callable[[], None]) -> None:
        deadline = self._loop.time() + max(delay_ms, 0) / 1000
        timer = self._timers.get(key)
        if timer is None:
            handle = self._loop.call_at(deadline, self._fire, key)
            self._timers[key] = _Timer(call, deadline, handle)
            return
        timer.call = call
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
        timer.call()

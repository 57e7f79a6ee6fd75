"""A loop whose time is moved by hand, and a clock and a random source to go with it."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest


class Timer:
    def __init__(self, loop: "HandLoop", when: float, call: Callable[[], None]) -> None:
        self.loop, self.when, self.call = loop, when, call

    def cancel(self) -> None:
        if self in self.loop.timers:
            self.loop.timers.remove(self)


class HandLoop(asyncio.AbstractEventLoop):
    """Only what the rooms use: time, call_at, call_soon."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.timers: list[Timer] = []
        self.ready: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, call: Callable[..., Any], *args: Any, context: Any = None
    ) -> Any:
        timer = Timer(self, when, call)
        self.timers.append(timer)
        return timer

    def call_soon(self, call: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        self.ready.append(call)

    def run_ready(self) -> None:
        ready, self.ready = self.ready, []
        for call in ready:
            call()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.call()
        self.now = end


class HandClock:
    def __init__(self, loop: HandLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now

    def time_ms(self) -> int:
        return 1_700_000_000_000 + int(self._loop.now * 1000)


@pytest.fixture
def loop() -> HandLoop:
    return HandLoop()


@pytest.fixture
def clock(loop: HandLoop) -> HandClock:
    return HandClock(loop)


@pytest.fixture
def rng() -> Random:
    return Random(7)

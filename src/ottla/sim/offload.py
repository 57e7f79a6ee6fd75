"""Helper threads of the simulated world: no thread, a delay.

A call takes a seeded while. It takes effect at a seeded moment within that while, and its outcome
comes at the end: so what the node does meanwhile may fall before the effect or after it, as with
a real thread, and calls overtake one another. A crash between effect and outcome leaves the
effect.
"""

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from typing import Final, TypeVar

from ottla.sim.process import Process
from ottla.sim.trace import Trace

T = TypeVar("T")

DELAY_S: Final = (0.000_05, 0.005)
"""Shortest and longest a call takes, unless the disk is made slow."""


class SimOffload:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, process: Process, rng: random.Random, trace: Trace
    ) -> None:
        self._loop = loop
        self._process = process
        self._rng = rng
        self._trace = trace
        self._number = 0
        self.delay_s: tuple[float, float] = DELAY_S
        """May be set at any time: a slow disk, a stalled one."""

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._number += 1
        whole = self._rng.uniform(*self.delay_s)
        effect = whole * self._rng.random()
        self._loop.call_later(
            effect, self._run, call, done, self._number, whole - effect, context=self._context()
        )

    def _run(
        self,
        call: Callable[[], T],
        done: Callable[[T | None, BaseException | None], None],
        number: int,
        rest_s: float,
    ) -> None:
        self._trace.note("offload", self._process.name, number)
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as failure:
            error = failure
        self._loop.call_later(rest_s, done, result, error, context=self._context())

    def _context(self) -> Context:
        return self._process.context.copy()

"""A process of the simulated world: what dies together.

Whatever runs for a process (callbacks, timers, tasks and what those start) carries it in its
context, by inheritance. The loop drops calls whose process is dead, so a crash needs no help
from the code that crashes: its next step never comes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, call: Callable[[], T]) -> T:
        """Run a call inside the process, now. For what stands outside of it."""
        return self.context.copy().run(call)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task inside the process."""
        return asyncio.get_running_loop().create_task(coroutine, context=self.context.copy())


PROCESS: ContextVar[Process | None] = ContextVar("ottla.sim.process", default=None)

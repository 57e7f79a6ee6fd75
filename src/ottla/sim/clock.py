"""The clock of a simulated node: the loop's virtual time, and a wall clock that can jump."""

import asyncio
from typing import Final

EPOCH_MS: Final = 1_700_000_000_000
"""Wall clock at virtual time zero."""


class SimClock:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._shift_ms = 0

    def monotonic(self) -> float:
        return self._loop.time()

    def time_ms(self) -> int:
        return EPOCH_MS + int(self._loop.time() * 1_000) + self._shift_ms

    def jump(self, ms: int) -> None:
        """Move the wall clock, forwards or back. Durations do not feel it."""
        self._shift_ms += ms

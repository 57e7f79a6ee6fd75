"""The real clock: the same monotonic clock that asyncio's loops run on, so that a deadline taken
from it can be given to `call_at`, and the wall clock for timestamps alone, since it may jump.
"""

import time


class SystemClock:
    """`base.world.Clock` on the machine's own clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

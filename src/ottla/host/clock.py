"""The real clock."""

import time


class SystemClock:
    """`base.world.Clock` on the machine's own clocks."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

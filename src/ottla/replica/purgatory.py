"""Requests that wait: for a flush, a replica, more bytes; and the one structure of their deadlines.

A parked request keeps offsets and its half-filled response, never bytes of its frame. Whoever
makes the awaited thing happen (a high watermark that moved) calls it; if nobody does in time,
its deadline does.

Deadlines lie in buckets of `TICK_S`: putting one in and taking it out is a dict operation, and
the loop holds one timer for all of them. A timer per request, or a heap that keeps finished
requests until their time comes, costs 30 s of finished requests under load.
A bucket that was emptied early stays until its time, or until half of the buckets are empty: a
client chooses its deadlines, and could have one made for every 10 ms of the next 24 days.
"""

import asyncio
import heapq
import logging
import math
from collections.abc import Callable
from typing import Any, ClassVar, Final

logger = logging.getLogger(__name__)

TICK_S: Final = 0.01
SWEEP_BUCKETS: Final = 1_000
"""Fewer buckets than this are not swept."""


class Parked:
    """A request whose response waits. Subclasses say what for."""

    __slots__ = ("bucket", "on_complete")
    is_patient: ClassVar[bool] = False
    """It waits for what may never come, and has an answer without: a stop does not wait for it."""

    def __init__(self) -> None:
        self.bucket = -1
        self.on_complete: Callable[[Any], None] | None = None
        """Set by the pipeline: takes the response, once."""

    def expire(self) -> None:
        """The deadline passed: complete with what there is."""
        raise NotImplementedError

    def abandon(self) -> None:
        """The connection is gone: let go of everything, answer nothing."""
        raise NotImplementedError


class Deadlines:
    """All parked requests of a node, by the time at which they stop waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, dict[Parked, None]] = {}
        self._order: list[int] = []
        self._sweep_at = SWEEP_BUCKETS
        self._timer: asyncio.TimerHandle | None = None
        self._timer_bucket = -1

    def add(self, parked: Parked, timeout_ms: int) -> None:
        deadline = self._loop.time() + max(timeout_ms, 0) / 1000
        number = math.ceil(deadline / TICK_S)
        bucket = self._buckets.get(number)
        if bucket is None:
            if len(self._order) >= self._sweep_at:
                self._sweep()
            bucket = self._buckets[number] = {}
            heapq.heappush(self._order, number)
            if self._timer is None or number < self._timer_bucket:
                self._arm(number)
        bucket[parked] = None
        parked.bucket = number

    def remove(self, parked: Parked) -> None:
        """Forget it; it may have been forgotten already."""
        bucket = self._buckets.get(parked.bucket)
        if bucket is not None:
            bucket.pop(parked, None)
        parked.bucket = -1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        """Drop the buckets that are empty."""
        self._buckets = {number: bucket for number, bucket in self._buckets.items() if bucket}
        self._order = sorted(self._buckets)
        self._sweep_at = max(SWEEP_BUCKETS, 2 * len(self._order))

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_bucket = number
        self._timer = self._loop.call_at(number * TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        due: list[Parked] = []
        while self._order and self._order[0] * TICK_S <= now:
            due += self._buckets.pop(heapq.heappop(self._order))
        self._arm_next()
        for parked in due:
            parked.bucket = -1
            try:
                parked.expire()
            except Exception:  # the others are due all the same
                logger.exception("a request that was parked could not be ended")

    def _arm_next(self) -> None:
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heapq.heappop(self._order)]
        if self._order and self._timer is None:
            self._arm(self._order[0])

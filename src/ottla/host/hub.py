"""What all connections of a node share: one scratch buffer, one end of the turn, one idle sweep.

Scratch (`inbox`). Everything is received into it first, so that an idle connection owns no
buffer.

End of a turn. A connection that got something to send outside its own reading puts itself on
the `dirty` list; the first one schedules `flush` behind what is ready in this turn. So replies
that one flush round released leave in one write for each connection.

Idle sweep. A connection stamps itself with `now` when a request is used up or its peer takes an
answer (a byte now and then of a frame that never ends is no activity): an attribute copied, no
clock read. `now` is the time of the latest sweep, so true activity is younger than the stamp
by less than one period; a period is an eighth of the shortest idle time. One timer for all,
and none where nobody asked for an idle time.

Memory. What connections keep while they wait has one bound, held by the `pool`.

Places. Who waits for a connection to go (a listener at its cap or out of descriptors) leaves a
call in `vacancies`.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ottla.host.inbox import Scratch
from ottla.host.pool import Pool

_SWEEPS_PER_IDLE_TIME: Final = 8


class Member(Protocol):
    """What the hub asks of a connection."""

    def flush(self) -> None: ...
    def close(self) -> None: ...
    def close_if_idle(self, stamped_before: float) -> None: ...


class Hub:
    __slots__ = (
        "_dirty",
        "_period",
        "_timer",
        "accepted_from",
        "connections",
        "loop",
        "now",
        "pool",
        "scratch",
        "vacancies",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.scratch = Scratch()
        self.pool = Pool(loop)
        self.connections: dict[Member, None] = {}
        self.accepted_from: dict[str, int] = {}
        self.vacancies: list[Callable[[], None]] = []
        self.now = loop.time()
        self._dirty: list[Member] = []
        self._period = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Member, host: str | None) -> None:
        """Enter an open connection; `host` is the address it was accepted from."""
        self.connections[connection] = None
        if host is not None:
            self.accepted_from[host] = self.accepted_from.get(host, 0) + 1

    def remove(self, connection: Member, host: str | None) -> None:
        del self.connections[connection]
        if host is not None:
            left = self.accepted_from[host] - 1
            if left:
                self.accepted_from[host] = left
            else:
                del self.accepted_from[host]
        waiting, self.vacancies = self.vacancies, []
        for call in waiting:
            self.loop.call_soon(call)

    def mark_dirty(self, connection: Member) -> None:
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def sweep_every(self, idle_seconds: float) -> None:
        """See to it that a connection idle for so long is found soon after."""
        period = idle_seconds / _SWEEPS_PER_IDLE_TIME
        if self._timer is None or period < self._period:
            self._period = period
            if self._timer is not None:
                self._timer.cancel()
            self._sweep()

    def _sweep(self) -> None:
        self.now = self.loop.time()
        stamped_before = self.now - self._period
        for connection in list(self.connections):
            connection.close_if_idle(stamped_before)
        self._timer = self.loop.call_later(self._period, self._sweep)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pool.close()
        self.vacancies.clear()
        for connection in list(self.connections):
            connection.close()

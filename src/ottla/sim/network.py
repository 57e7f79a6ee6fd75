"""The network of a simulated world: machines with host names, and the wires between them.

A connection is two ends (connection.py). What one end sends arrives at the other after a seeded
delay, in order. Faults:
- `clog(a, b)`: nothing gets from host a to host b, one way; what was sent waits, as TCP does, and
  arrives after `unclog`; who connects meanwhile gets ETIMEDOUT;
- `reset(connection)`: both ends are lost at once, with whatever was on the wire;
- a killed process: its peers read what it had sent, then a reset;
- a machine without power: silence; its peers learn of it late, by a reset or a time-out.

Ports are free per host. Listening on "0.0.0.0" or "" is listening on the machine's own name.
"""

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from ottla.base.world import NO_CAPS, Connection, Handler, ListenCaps, Tls
from ottla.sim.connection import SimConnection
from ottla.sim.process import Process
from ottla.sim.trace import Trace

DELAY_S: Final = (0.000_1, 0.002)
SPIKE_S: Final = 0.2
"""One delay in a hundred is up to this long."""
CONNECT_TIMEOUT_S: Final = 30.0
SILENCE_S: Final = (0.1, 60.0)
"""After a power cut, until the peers know."""
FIRST_FREE_PORT: Final = 40_000

Accept = Callable[[Connection], Handler | None]


class SimListener:
    """Accepts for one process, within its caps; who must wait stands in `waiting`."""

    def __init__(
        self,
        wires: "Wires",
        process: Process,
        address: tuple[str, int],
        accept: Accept,
        caps: ListenCaps,
    ) -> None:
        self.process = process
        self.caps = caps
        self.waiting: deque[SimConnection] = deque()
        self._wires = wires
        self._address = address
        self._accept = accept

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    def close(self) -> None:
        if self._wires.listeners.get(self._address) is self:
            del self._wires.listeners[self._address]

    def admit(self, far: SimConnection) -> None:
        """Runs in the listener's process, for each connection that reached it."""
        accepted = [one for one in self._wires.accepted if one.process is self.process]
        caps = self.caps
        if caps.max_connections is not None and len(accepted) >= caps.max_connections:
            self.waiting.append(far)
            return
        from_there = sum(one.other.host == far.other.host for one in accepted)
        if caps.max_connections_per_ip is not None and from_there >= caps.max_connections_per_ip:
            far.close()
            return
        handler = self._accept(far)
        if handler is None:
            far.close()
            return
        self._wires.accepted[far] = self
        far.established(handler)
        if caps.max_idle_ms is not None:
            self._watch(far, caps.max_idle_ms / 1_000)

    def _watch(self, far: SimConnection, idle_s: float) -> None:
        loop = self._wires.loop
        if far in self._wires.accepted:
            left = far.last_active + idle_s - loop.time()
            if left <= 0:
                far.close()
            else:
                loop.call_later(left, self._watch, far, idle_s)

    def left(self) -> None:
        """A connection of it is gone: one that waits may come in."""
        if self.waiting:
            far = self.waiting.popleft()
            self._wires.loop.call_soon(self.admit, far, context=self.process.context)


class Wires:
    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, trace: Trace) -> None:
        self.loop = loop
        self.trace = trace
        self.listeners: dict[tuple[str, int], SimListener] = {}
        self.connections: dict[SimConnection, None] = {}
        self.accepted: dict[SimConnection, SimListener] = {}
        self.delay_s = DELAY_S
        self._rng = rng
        self._clogged: dict[tuple[str, str], list[tuple[SimConnection, bytes | str]]] = {}
        self._next_port = FIRST_FREE_PORT

    def free_port(self) -> int:
        self._next_port += 1
        return self._next_port

    # ---- carrying

    def delay(self) -> float:
        draw = self._rng.random()
        return self._rng.uniform(*self.delay_s) if draw > 0.01 else self._rng.uniform(0, SPIKE_S)

    def piece_bytes(self, available: int) -> int:
        """How much of what arrived is handed over at once."""
        draw = self._rng.random()
        if available <= 1 or draw < 0.7:
            return available
        if draw < 0.9:
            return self._rng.randrange(1, available + 1)
        return self._rng.randrange(1, min(available, 8) + 1)

    def carry(self, sender: SimConnection, item: bytes | str) -> None:
        receiver = sender.other
        receiver.last_arrival = max(receiver.last_arrival, self.loop.time() + self.delay())
        self.loop.call_at(
            receiver.last_arrival, self._arrive, receiver, item, context=receiver.process.context
        )

    def _arrive(self, receiver: SimConnection, item: bytes | str) -> None:
        waiting = self._clogged.get((receiver.other.host, receiver.host))
        if waiting is None:
            receiver.arrive(item)
        else:
            waiting.append((receiver, item))

    def forget(self, connection: SimConnection) -> None:
        self.connections.pop(connection, None)
        listener = self.accepted.pop(connection, None)
        if listener is not None:
            listener.left()

    # ---- connecting

    async def connect(
        self, process: Process, host: str, address: tuple[str, int], handler: Callable[..., Handler]
    ) -> SimConnection:
        await asyncio.sleep(self.delay())
        if (host, address[0]) in self._clogged or (address[0], host) in self._clogged:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise TimeoutError(errno.ETIMEDOUT, f"connection to {address} timed out")
        listener = self.listeners.get(address)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nothing listens on {address}")
        names = f"{host}:{self.free_port()}", f"{address[0]}:{address[1]}"
        near = SimConnection(self, process, local=names[0], peer=names[1])
        far = SimConnection(self, listener.process, local=names[1], peer=names[0])
        near.other, far.other = far, near
        self.connections[near] = self.connections[far] = None
        self.trace.note("connect", *names)
        self.loop.call_soon(listener.admit, far, context=listener.process.context)
        try:
            await asyncio.sleep(self.delay())
        except asyncio.CancelledError:
            near.close()
            raise
        near.established(handler(near))
        return near

    # ---- faults

    def clog(self, source: str, target: str) -> None:
        self.trace.note("clog", source, target)
        self._clogged.setdefault((source, target), [])

    def unclog(self, source: str, target: str) -> None:
        self.trace.note("unclog", source, target)
        for receiver, item in self._clogged.pop((source, target), []):
            self.loop.call_soon(receiver.arrive, item, context=receiver.process.context)

    def reset(self, connection: SimConnection) -> None:
        self.trace.note("reset", connection.local, connection.peer)
        for end in (connection, connection.other):
            end.shut()
            self.loop.call_soon(end.lose, "reset by peer", context=end.process.context)

    def reset_process(self, process: Process) -> None:
        """The kernel closes what a killed process had open."""
        for connection in self._close_all(process):
            self.carry(connection, "reset by peer")

    def silence_process(self, process: Process) -> None:
        for connection in self._close_all(process):
            peer = connection.other
            self.loop.call_later(
                self._rng.uniform(*SILENCE_S), peer.lose, "timed out", context=peer.process.context
            )

    def _close_all(self, process: Process) -> list[SimConnection]:
        for listener in [one for one in self.listeners.values() if one.process is process]:
            listener.close()
        ended = [one for one in self.connections if one.process is process]
        for connection in ended:
            connection.shut()
            self.forget(connection)
        return ended


class SimNetwork:
    """`base.world.Network` for one process."""

    def __init__(self, wires: Wires, process: Process, host: str) -> None:
        self._wires = wires
        self._process = process
        self._host = host

    def listen(
        self, host: str, port: int, accept: Accept, *, caps: ListenCaps = NO_CAPS
    ) -> SimListener:
        name = self._host if host in ("0.0.0.0", "::", "") else host
        address = (name, port or self._wires.free_port())
        if address in self._wires.listeners:
            raise OSError(errno.EADDRINUSE, f"{name}:{port} is in use")
        listener = SimListener(self._wires, self._process, address, accept, caps)
        self._wires.listeners[address] = listener
        return listener

    async def connect(
        self,
        host: str,
        port: int,
        handler: Callable[[Connection], Handler],
        *,
        tls: Tls | None = None,
    ) -> SimConnection:
        if tls is not None:
            raise OSError(errno.EPROTONOSUPPORT, "the simulated network speaks no TLS")
        return await self._wires.connect(self._process, self._host, (host, port), handler)

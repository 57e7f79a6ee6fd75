"""What goes wrong in a run: at seeded moments a fault is made, lasts a while, and heals.

    kill        SIGKILL of the node; started again a moment later
    power cut   the same, and what was not durable is lost
    stop        a clean stop, or one that is killed half way
    reset       a connection of the node breaks, wherever it was in a frame
    clog        nothing gets through between the node and one peer, in one direction or both
    slow disk   helper calls take up to a second
    full disk   no room for a few bytes more, until space is made
    bad sync    a sync fails, once, and the pages that it was to write are lost, though reads
                still show them; the machine is started again, or only the node
    clock jump  the node's wall clock jumps by up to an hour, either way

Each run draws which of them it uses (swarm testing: some faults hide others). At the end
everything heals, so that what comes after may ask for progress.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from ottla.sim.drive import SIZE_BYTES
from ottla.sim.faults import Fault
from ottla.sim.history import History, Key, Offline
from ottla.sim.offload import DELAY_S
from ottla.sim.server import Server
from ottla.sim.workload import Violation

Kind = Literal[
    "kill",
    "power cut",
    "stop",
    "reset",
    "clog",
    "slow disk",
    "full disk",
    "bad sync",
    "clock jump",
]
KINDS: Final[tuple[Kind, ...]] = (
    "kill",
    "power cut",
    "stop",
    "reset",
    "clog",
    "slow disk",
    "full disk",
    "bad sync",
    "clock jump",
)
PAUSE_S: Final = (0.05, 1.0)
LASTS_S: Final = (0.02, 1.5)
SLOW_S: Final = (0.01, 1.0)
STOP_S: Final = 60.0
"""A stop that takes longer hangs."""
NOTICED_S: Final = 1.1
"""A failed sync is told by then: the longest helper call of a slow disk, and some."""
HOUR_MS: Final = 3_600_000


class Nemesis:
    def __init__(self, server: Server, history: History, peers: Sequence[str]) -> None:
        self._sim = server.sim
        self._server = server
        self._history = history
        self._peers = peers
        self._rng = self._sim.rng(f"nemesis {server.host}")
        self._clogged: list[tuple[str, str]] = []
        self._bad_sync: Fault | None = None
        self._offline: Offline | None = None
        """The directory whose sync failed; `until` is not known yet."""
        self.kinds = [kind for kind in KINDS if self._rng.random() < 0.6] or list(KINDS)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Make faults for so long, then heal."""
        end = self._sim.loop.time() + seconds
        while self._sim.loop.time() < end:
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            kind = self._rng.choice(self.kinds)
            self.counts[kind] += 1
            self._sim.trace.note("nemesis", kind)
            await self._make(kind)
            await asyncio.sleep(self._rng.uniform(*LASTS_S))
            self.heal()

    async def _make(self, kind: Kind) -> None:
        sim, rng, server = self._sim, self._rng, self._server
        machine = sim.machine(server.host)
        if kind == "kill":
            server.kill()
        elif kind == "power cut":
            self._lose_power()
        elif kind == "stop":
            await self._stop()
        elif kind == "reset":
            mine = [one for one in sim.wires.connections if one.host == server.host]
            if mine:
                sim.wires.reset(rng.choice(mine))
        elif kind == "clog":
            self._clog()
        elif kind == "slow disk":
            machine.offload.delay_s = SLOW_S
        elif kind == "full disk":
            machine.drive.size_bytes = machine.drive.used_bytes() + rng.randrange(3_000)
        elif kind == "bad sync":
            part = rng.choice(["", ".log", "checkpoint"])
            fault = Fault("sync", path_part=part, loses_pending=True)
            self._bad_sync = machine.disk.faults.plan(fault)
            await self._until_hit(fault)
        else:
            machine.clock.jump(rng.randrange(-HOUR_MS, HOUR_MS))

    async def _stop(self) -> None:
        server, rng = self._server, self._rng
        is_patient, was_serving = rng.random() < 0.6, server.is_serving
        within_s = STOP_S if is_patient else rng.uniform(0, 0.05)
        has_stopped = await server.stop(within_s)
        if is_patient and was_serving and not has_stopped:
            raise Violation("hanging-stop", f"not through after {STOP_S} s")

    async def _until_hit(self, fault: Fault) -> None:
        """Wait for a sync to fail, and then so long that the node must know of it."""
        for _ in range(20):
            if fault.hits:
                await asyncio.sleep(NOTICED_S)
                now = self._sim.loop.time()
                self._offline = Offline(now, now, tuple(self._keys_beside(fault.path)))
                return
            await asyncio.sleep(0.05)

    def _keys_beside(self, path: str) -> Iterator[Key]:
        """The partitions in the log directory of that path. (Log directories are at the root.)"""
        drive, log_dir = self._sim.machine(self._server.host).drive, path.split("/")[1]
        for topic in self._history.alive():
            for key in topic.partitions:
                if drive.find(f"/{log_dir}/{topic.name}-{key[1]}") is not None:
                    yield key

    def _lose_power(self) -> None:
        self._history.power_losses.append(self._sim.loop.time())
        self._server.power_cut()

    def _clog(self) -> None:
        peer = self._rng.choice(self._peers)
        ways = [(self._server.host, peer), (peer, self._server.host)]
        self._clogged = self._rng.choice([ways, ways[:1], ways[1:]])
        for way in self._clogged:
            self._sim.wires.clog(*way)

    def heal(self) -> None:
        server = self._server
        for way in self._clogged:
            self._sim.wires.unclog(*way)
        self._clogged = []
        machine = self._sim.machine(server.host)
        machine.drive.size_bytes = SIZE_BYTES
        if self._bad_sync is not None:
            if self._bad_sync.hits:
                now = self._sim.loop.time()
                if self._offline is not None:
                    self._history.offline.append(self._offline._replace(until=now))
                if self._rng.random() < 0.5:
                    self._lose_power()
                else:
                    self._history.power_losses.append(now)
                    server.kill()
            self._offline = None
            self._bad_sync.times = 0
            self._bad_sync = None
        if server.is_up and server.needs_restart:
            server.kill()
        if server.is_up:
            machine.offload.delay_s = DELAY_S
        else:
            server.start()

"""What goes wrong in a run: at seeded moments a fault is made, lasts a while, and heals.

    kill        SIGKILL of the node; started again a moment later
    power cut   the same, and what was not durable is lost
    reset       a connection of the node breaks, wherever it was in a frame
    clog        nothing gets through between the node and one peer, in one direction or both
    slow disk   helper calls take up to a second
    clock jump  the node's wall clock jumps by up to an hour, either way

Each run draws which of them it uses (swarm testing: some faults hide others). At the end
everything heals, so that what comes after may ask for progress.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

from ottla.sim.offload import DELAY_S
from ottla.sim.world import SimWorld

Kind = Literal["kill", "power cut", "reset", "clog", "slow disk", "clock jump"]
KINDS: Final[tuple[Kind, ...]] = (
    "kill",
    "power cut",
    "reset",
    "clog",
    "slow disk",
    "clock jump",
)
PAUSE_S: Final = (0.05, 1.0)
LASTS_S: Final = (0.02, 1.5)
SLOW_S: Final = (0.01, 1.0)
HOUR_MS: Final = 3_600_000


class Nemesis:
    def __init__(
        self, sim: SimWorld, host: str, peers: Sequence[str], start: Callable[[], None]
    ) -> None:
        """`start` boots the node on `host` again."""
        self._sim = sim
        self._host = host
        self._peers = peers
        self._start = start
        self._rng = sim.rng(f"nemesis {host}")
        self._clogged: list[tuple[str, str]] = []
        self.kinds = [kind for kind in KINDS if self._rng.random() < 0.6] or list(KINDS)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Make faults for so long, then heal."""
        end = self._sim.loop.time() + seconds
        while self._sim.loop.time() < end:
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            kind = self._rng.choice(self.kinds)
            self.counts[kind] += 1
            self._make(kind)
            await asyncio.sleep(self._rng.uniform(*LASTS_S))
            self.heal()

    def _make(self, kind: Kind) -> None:
        sim, rng = self._sim, self._rng
        if kind == "kill":
            sim.kill(self._host)
        elif kind == "power cut":
            sim.power_cut(self._host)
        elif kind == "reset":
            mine = [one for one in sim.wires.connections if one.host == self._host]
            if mine:
                sim.wires.reset(rng.choice(mine))
        elif kind == "clog":
            peer = rng.choice(self._peers)
            ways = [(self._host, peer), (peer, self._host)]
            self._clogged = rng.choice([ways, ways[:1], ways[1:]])
            for way in self._clogged:
                sim.wires.clog(*way)
        elif kind == "slow disk":
            sim.machine(self._host).offload.delay_s = SLOW_S
        else:
            sim.machine(self._host).clock.jump(rng.randrange(-HOUR_MS, HOUR_MS))

    def heal(self) -> None:
        for way in self._clogged:
            self._sim.wires.unclog(*way)
        self._clogged = []
        machine = self._sim.machine(self._host)
        if machine.is_up:
            machine.offload.delay_s = DELAY_S
        else:
            self._start()

"""A whole simulated world from one seed: the loop, the wires, and machines that come and go.

A machine is a drive, a clock and an address that outlive the node running on it. `boot` starts a
process on it and gives the `World` to hand to the node; `kill` ends the process as SIGKILL does
(the page cache survives, peers see resets); `power_cut` takes the page cache along, and peers
hear nothing until they time out.
"""

import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ottla.base.errors import check
from ottla.base.world import World
from ottla.sim.clock import SimClock
from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.loop import SimLoop
from ottla.sim.network import SimNetwork, Wires
from ottla.sim.offload import SimOffload
from ottla.sim.process import Process
from ottla.sim.streams import Streams
from ottla.sim.trace import Trace

T = TypeVar("T")

MODES = (CrashMode.DROP, CrashMode.TEAR, CrashMode.FULL, CrashMode.NONE)


class Machine:
    """What stands at one address. `process`, `disk` and `offload` are those of its last boot."""

    process: Process
    disk: SimDisk
    offload: SimOffload

    def __init__(self, host: str, clock: SimClock) -> None:
        self.host = host
        self.clock = clock
        self.drive = Drive()
        self.boot_count = 0

    @property
    def is_up(self) -> bool:
        return self.boot_count > 0 and self.process.is_alive


class SimWorld:
    def __init__(self, seed: int, *, echo: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.loop = SimLoop()
        self.streams = Streams(seed)
        self.trace = Trace(self.loop.time, echo)
        self.wires = Wires(self.loop, self.streams.stream("network"), self.trace)
        self.machines: dict[str, Machine] = {}

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(main)

    def rng(self, purpose: str) -> random.Random:
        return self.streams.stream(purpose)

    def machine(self, host: str) -> Machine:
        if host not in self.machines:
            self.machines[host] = Machine(host, SimClock(self.loop))
        return self.machines[host]

    def boot(self, host: str) -> World:
        """Start a process on a machine: the World for the node that will run in it. The node's
        code runs by `machine(host).process.run` or `.spawn`."""
        machine = self.machine(host)
        check(not machine.is_up, f"{host} is up already")
        machine.boot_count += 1
        name = f"{host}#{machine.boot_count}"
        self.trace.note("boot", name)
        process = machine.process = Process(name)
        machine.disk = SimDisk(machine.drive, self.rng(f"disk {name}"), self.trace, name)
        machine.offload = SimOffload(self.loop, process, self.rng(f"offload {name}"), self.trace)
        return World(
            clock=machine.clock,
            rng=self.rng(f"node {name}"),
            disk=machine.disk,
            network=SimNetwork(self.wires, process, host),
            offload=machine.offload,
        )

    def disk_of(self, drive: Drive) -> SimDisk:
        """Access to a drive without a node: for what looks at it, or recovers an image."""
        return SimDisk(drive, self.rng("disk"), self.trace, "image")

    def kill(self, host: str) -> None:
        machine = self._stop(host, "kill")
        self.wires.reset_process(machine.process)

    def power_cut(self, host: str, mode: CrashMode | None = None) -> None:
        """Mode None draws one."""
        machine = self._stop(host, "power cut")
        self.wires.silence_process(machine.process)
        rng = self.rng(f"power cut {machine.process.name}")
        machine.drive.power_cut(rng, mode or rng.choice(MODES))

    def _stop(self, host: str, cause: str) -> Machine:
        machine = self.machines[host]
        check(machine.is_up, f"{host} is not up")
        self.trace.note(cause, machine.process.name)
        machine.disk.die()
        self.loop.kill(machine.process)
        return machine

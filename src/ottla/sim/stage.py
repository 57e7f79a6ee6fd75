"""What runs of every kind are played on: a node, its clients, and one history of them all."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from ottla.sim.checkers import check_history
from ottla.sim.client import SimClient
from ottla.sim.consumer import Reader
from ottla.sim.history import History, Key, Topic
from ottla.sim.logbook import Logbook
from ottla.sim.producer import Producer
from ottla.sim.server import PORT, Server
from ottla.sim.workload import Violation
from ottla.sim.world import SimWorld

HOST: Final = "node"
END_S: Final = 600.0
"""Virtual time in which all must have come to an end after the faults have."""


class Stage:
    def __init__(self, sim: SimWorld, settings: Mapping[str, str]) -> None:
        self.sim = sim
        self.history = History()
        self.server = Server(sim, HOST, settings)
        self.peers: list[str] = []
        """Hosts of clients, whose connections may suffer."""

    def boot(self) -> int:
        """The number of the node's present life."""
        return self.sim.machine(HOST).boot_count

    # ---- who takes part

    def client(self, host: str) -> SimClient:
        self.peers.append(host)
        return SimClient(self.sim.boot(host), HOST, PORT, host)

    def clients(self, host: str, count: int) -> list[SimClient]:
        """Of one machine, each with a connection of its own."""
        self.peers.append(host)
        world = self.sim.boot(host)
        return [SimClient(world, HOST, PORT, host) for _ in range(count)]

    def reader(self, role: str, number: int, *, is_committed: bool = False) -> Reader:
        host = f"{role}-{number}"
        return Reader(
            self.client(host),
            self.history,
            self.sim.rng(host),
            host,
            self.boot,
            is_committed=is_committed,
        )

    def producer(self, number: int, acks: int, *, is_idempotent: bool) -> Producer:
        host = f"producer-{number}"
        client = self.client(host)
        return Producer(
            self.sim.machine(host).clock,
            client,
            self.history,
            self.sim.rng(host),
            self.boot,
            number=number,
            acks=acks,
            is_idempotent=is_idempotent,
        )

    # ---- the end of a run

    def check(self, logbook: Logbook) -> None:
        """Raises `Violation`: the node logged what is not foreseen, or a promise is broken."""
        logbook.check()
        for violation in check_history(self.history):
            raise violation

    async def within(self, waiting: Any, what: str) -> None:
        try:
            await asyncio.wait_for(waiting, END_S)
        except TimeoutError:
            raise Violation("no-progress", f"waited {END_S} s for {what}") from None

    async def read_all(self, reader: Reader, topics: list[Topic]) -> None:
        for topic in topics:
            for key in topic.partitions:
                what = f"{topic.name}-{key[1]} to be read"
                await self.within(self._read_whole(reader, topic, key), what)

    async def _read_whole(self, reader: Reader, topic: Topic, key: Key) -> None:
        start, found = await reader.read_all(topic, key)
        self.history.final_start[key], self.history.final[key] = start, found

"""A run of transactions over a whole node: producers, copiers and zombies, faults, and what must
hold afterwards.

    make the topics → clients work while the nemesis works → everything heals → the clients end →
    each id is begun anew, which ends what was left open → no partition has an open transaction →
    all is read by read_committed → the history is checked → the coordinators are replayed

Two producers share one id, and two copiers another: each takes the other for a zombie.
"""

import asyncio
from typing import Final

from ottla.sim.admin import MIXED, STEADY, TARGET, Admin
from ottla.sim.coordinator_run import CoordinatorRun
from ottla.sim.copier import Copier
from ottla.sim.group_offsets import fetch_offsets
from ottla.sim.history import Copy, Fate, Topic
from ottla.sim.nemesis import Nemesis
from ottla.sim.stage import END_S
from ottla.sim.stubborn import Stubborn
from ottla.sim.transactional import LifeOver, TransactionalProducer, Wires
from ottla.sim.workload import Report, Violation
from ottla.sim.world import SimWorld

SETTINGS: Final = {
    "log.retention.check.interval.ms": "700",
    "log.flush.offset.checkpoint.interval.ms": "900",
    "log.message.timestamp.after.max.ms": str(1 << 62),
    "producer.id.expiration.ms": str((1 << 31) - 1),
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "300",
}
PLAN: Final = {STEADY: 2, MIXED: 3, TARGET: 2}
RUN_S: Final = 6.0
PRODUCER_IDS: Final = ("alone", "shared", "shared")
COPIERS: Final = 2
GROUP: Final = "copy"


class Run(CoordinatorRun):
    def __init__(self, sim: SimWorld) -> None:
        super().__init__(sim, SETTINGS)
        self.rng = sim.rng("transactions")
        self.filler = self.producer(1, -1, is_idempotent=True)
        self.producers = [
            self._transactional(number, transactional_id)
            for number, transactional_id in enumerate(PRODUCER_IDS, 2)
        ]
        self.copiers = [self._copier(number) for number in range(10, 10 + COPIERS)]
        self.followers = [
            self.reader("committed", 0, is_committed=True),
            self.reader("uncommitted", 0),
        ]
        self.last_reader = self.reader("last", 0, is_committed=True)
        client = self.client("admin")
        self.admin = Admin(client, self.history, sim.rng("admin"), self.boot, PLAN)
        self.observer = Stubborn(self.client("observer"), sim.rng("offsets"))

    def _transactional(self, number: int, transactional_id: str) -> TransactionalProducer:
        host = f"transactional-{number}"
        return TransactionalProducer(
            Wires(*self.clients(host, 3)),
            self.sim.machine(host).clock,
            self.history,
            self.sim.rng(host),
            number=number,
            transactional_id=transactional_id,
            reader=self.reader(f"{host}-reader", 0, is_committed=True),
            is_bumping=self.rng.random() < 0.6,
        )

    def _copier(self, number: int) -> Copier:
        host = f"copier-{number}"
        return Copier(
            Wires(*self.clients(host, 3)),
            self.sim.machine(host).clock,
            self.history,
            self.sim.rng(host),
            number=number,
            group=GROUP,
            reader=self.reader(f"{host}-reader", 0),
            is_bumping=self.rng.random() < 0.6,
        )

    async def play(self) -> Nemesis:
        self.server.start()
        await self.within(self.admin.make_all(), "topics")
        source, mixed, target = self.history.topics
        self.history.copies.append(Copy(GROUP, source.partitions, target.partitions))
        until = self.sim.loop.time() + RUN_S
        work = [
            self.filler.run([source], until),
            *(producer.run([mixed], until) for producer in self.producers),
            *(copier.copy(source, target, until) for copier in self.copiers),
            *(follower.follow([mixed, target], until) for follower in self.followers),
            self._observe(source, until),
        ]
        tasks = [asyncio.get_running_loop().create_task(each) for each in work]
        nemesis = Nemesis(self.server, self.history, self.peers)
        await nemesis.run(RUN_S)
        await self.within(asyncio.gather(*tasks), "clients to end")
        for producer in (*self.producers, *self.copiers):
            await self.within(self._end(producer), f"{producer.transactional_id} to begin anew")
        for topic in (mixed, target):
            await self._until_stable(topic)
        await self.read_all(self.last_reader, self.history.topics)
        told = await fetch_offsets(self.observer, self.history, GROUP, source, self.boot)
        if told is None:
            raise Violation("no-progress", f"the offsets of {GROUP} cannot be read")
        return nemesis

    async def _observe(self, source: Topic, until: float) -> None:
        """Ask for the group's offsets, whatever goes on."""
        while self.sim.loop.time() < until:
            await fetch_offsets(self.observer, self.history, GROUP, source, self.boot)
            await asyncio.sleep(self.rng.uniform(0, 0.2))

    async def _end(self, producer: TransactionalProducer) -> None:
        while True:
            try:
                await producer.begin_life()
            except LifeOver:
                await asyncio.sleep(0.1)
            else:
                return

    async def _until_stable(self, topic: Topic) -> None:
        """No transaction is open any more, and none hangs."""
        deadline = self.sim.loop.time() + END_S
        for key in topic.partitions:
            while not self._is_stable(topic.name, key[1]):
                if self.sim.loop.time() > deadline:
                    raise Violation("hanging-txn", f"{topic.name}-{key[1]}")
                await asyncio.sleep(0.1)

    def _is_stable(self, topic: str, index: int) -> bool:
        node = self.server.node
        if node is None:
            return False
        log = node.services.replicas.leader_of(topic, index).log
        return log.first_unstable_offset >= log.log_end_offset

    def fates(self) -> list[Fate]:
        return [txn.fate for txn in self.history.txns]


async def transactions(sim: SimWorld, power_cuts: int) -> Report:
    return await Run(sim).judged()

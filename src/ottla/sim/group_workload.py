"""A run of groups over a whole node: members of both protocols, faults, and what must hold then.

    make the topic → members come and go while the nemesis works → everything heals, and nobody
    leaves any more → each group settles: every partition is held, by one member → the offsets are
    read → the history is checked → the coordinators are replayed

One group speaks the classic protocol, one the new one, and one both: it changes kind as its members
come and go. In each a member is static.
"""

import asyncio
from typing import Final

from ottla.sim.admin import STEADY, Admin
from ottla.sim.classic_member import ClassicMember
from ottla.sim.consumer_member import ConsumerMember
from ottla.sim.coordinator_run import CoordinatorRun
from ottla.sim.group_member import PATIENCE_S, SESSION_MS, GroupMember
from ottla.sim.group_offsets import fetch_offsets
from ottla.sim.history import Fate, Topic
from ottla.sim.nemesis import Nemesis
from ottla.sim.stubborn import Stubborn
from ottla.sim.workload import Report, Violation
from ottla.sim.world import SimWorld

SETTINGS: Final = {
    "log.message.timestamp.after.max.ms": str(1 << 62),
    "offsets.topic.num.partitions": "2",
    "offsets.retention.minutes": str(60 * 24 * 365),
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": str(SESSION_MS),
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.assignment.interval.ms": "0",
}
PLAN: Final = {STEADY: 5}
RUN_S: Final = 8.0
SETTLED_S: Final = 120.0
"""Virtual time in which a group must settle when everything has healed."""
CLASSIC, CONSUMER = ClassicMember, ConsumerMember
MEMBERS: Final = (
    ("classic", (CLASSIC, CLASSIC, CLASSIC)),
    ("new", (CONSUMER, CONSUMER, CONSUMER)),
    ("both", (CLASSIC, CONSUMER, CLASSIC)),
)


class Run(CoordinatorRun):
    def __init__(self, sim: SimWorld) -> None:
        super().__init__(sim, SETTINGS)
        self.members = [
            self._member(kind, group, number)
            for group, kinds in MEMBERS
            for number, kind in enumerate(kinds)
        ]
        self.admin = Admin(self.client("admin"), self.history, sim.rng("admin"), self.boot, PLAN)
        self.rng = sim.rng("observer")
        self.observer = Stubborn(self.client("observer"), self.rng)

    def _member(self, kind: type[GroupMember], group: str, number: int) -> GroupMember:
        host = f"{group}-{number}"
        rng = self.sim.rng(host)
        return kind(
            Stubborn(self.client(host), rng),
            self.history,
            rng,
            self.boot,
            name=host,
            group=group,
            instance_id=f"static-{group}" if number == 2 else None,
        )

    async def play(self) -> Nemesis:
        self.server.start()
        await self.within(self.admin.make_all(), "topics")
        (topic,) = self.history.topics
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(member.run(topic)) for member in self.members]
        tasks.append(loop.create_task(self._observe(topic)))
        nemesis = Nemesis(self.server, self.history, self.peers)
        await nemesis.run(RUN_S)
        for member in self.members:
            member.is_calm = True
        for group, _ in MEMBERS:
            await self._until_settled(group)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()
        for group, _ in MEMBERS:
            told = await fetch_offsets(self.observer, self.history, group, topic, self.boot)
            if told is None:
                raise Violation("no-progress", f"the offsets of {group} cannot be read")
        return nemesis

    async def _observe(self, topic: Topic) -> None:
        """Ask for offsets, whatever goes on."""
        while True:
            group, _ = self.rng.choice(MEMBERS)
            await fetch_offsets(self.observer, self.history, group, topic, self.boot)
            await asyncio.sleep(self.rng.uniform(0, 0.1))

    async def _until_settled(self, group: str) -> None:
        """Every partition is held by one member, and stays with it for a while."""
        (topic,) = self.history.topics
        deadline, since = self.sim.loop.time() + SETTLED_S, -1.0
        before: list[str] = []
        while since < 0 or self.sim.loop.time() < since + PATIENCE_S:
            if self.sim.loop.time() > deadline:
                raise Violation("unsettled", f"{group}: {self._holders(group)}")
            holders = self._holders(group)
            is_whole = len(holders) == topic.partition_count
            if not is_whole:
                since = -1.0
            elif since < 0 or holders != before:
                since = self.sim.loop.time()
            before = holders
            await asyncio.sleep(0.1)

    def _holders(self, group: str) -> list[str]:
        return sorted(
            f"{key[1]}: {claim.member}"
            for member in self.members
            if member.group == group
            for key, claim in member.held.items()
        )

    def fates(self) -> list[Fate]:
        return [commit.fate for commit in self.history.commits]


async def groups(sim: SimWorld, power_cuts: int) -> Report:
    return await Run(sim).judged()

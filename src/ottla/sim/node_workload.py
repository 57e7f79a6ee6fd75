"""A run over a whole node: clients, faults, and what must hold afterwards.

    make the topics → clients work while the nemesis works → everything heals → the clients end →
    each partition takes one more batch (progress) → all of it is read → the history is checked →
    the images that a camera took are recovered and checked

Before every call that the disk gets there is a look into the node itself: log start <= high
watermark <= flushed end <= log end of every partition.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from ottla.sim.admin import Admin
from ottla.sim.disk import SimDisk
from ottla.sim.faults import Operation
from ottla.sim.history import Fate, Topic
from ottla.sim.images import Camera
from ottla.sim.logbook import Logbook
from ottla.sim.nemesis import Nemesis
from ottla.sim.postmortem import Postmortem, Promised
from ottla.sim.stage import Stage
from ottla.sim.workload import Report, Violation
from ottla.sim.world import SimWorld

SETTINGS: Final = {
    "log.retention.check.interval.ms": "700",
    "log.cleaner.backoff.ms": "500",
    "log.flush.offset.checkpoint.interval.ms": "900",
    "log.message.timestamp.after.max.ms": str(1 << 62),
    "producer.id.expiration.ms": str((1 << 31) - 1),
}
RUN_S: Final = 15.0
PRODUCERS: Final = ((-1, True), (-1, True), (-1, False), (1, True), (1, False))
"""acks and idempotence of each."""
FOLLOWERS: Final = 2
IMAGES: Final = 20


class Run(Stage):
    def __init__(self, sim: SimWorld, settings: Mapping[str, str], image_count: int) -> None:
        super().__init__(sim, settings)
        self.server.on_boot = self._booted
        self.camera = Camera(sim.rng("camera"), self._promised, count=image_count)
        self.producers = [
            self.producer(number, acks, is_idempotent=is_idempotent)
            for number, (acks, is_idempotent) in enumerate(PRODUCERS, 1)
        ]
        self.followers = [self.reader("follower", number) for number in range(FOLLOWERS)]
        self.jumper = self.reader("jumper", 0)
        self.last_reader = self.reader("last", 0)
        self.admin = Admin(self.client("admin"), self.history, sim.rng("admin"), self.boot)

    def _promised(self) -> Promised:
        return Promised(self.history.promises(), self.server.metadata())

    # ---- the run

    async def play(self) -> Nemesis:
        self.server.start()
        await self.within(self.admin.make_all(), "topics")
        lasting = [topic for topic in self.history.topics if not topic.is_fleeting]
        until = self.sim.loop.time() + RUN_S
        work = [
            *(producer.run(lasting, until) for producer in self.producers),
            *(follower.follow(lasting, until) for follower in self.followers),
            self.jumper.jump(until),
            self.admin.run(until),
        ]
        tasks = [asyncio.get_running_loop().create_task(each) for each in work]
        nemesis = Nemesis(self.server, self.history, self.peers)
        await nemesis.run(RUN_S)
        await self.within(asyncio.gather(*tasks), "clients to end")
        await self._progress(lasting)
        await self.read_all(self.last_reader, self.history.alive())
        return nemesis

    async def _progress(self, topics: list[Topic]) -> None:
        for topic in topics:
            for _ in range(3):
                if await self.producers[0].round(topic):
                    break
            else:
                raise Violation("no-progress", f"{topic.name} takes no batch")

    # ---- looking inside

    def _booted(self, disk: SimDisk) -> None:
        self.camera.watch(disk)
        shoot = disk.faults.on_call

        def call(operation: Operation, path: str) -> None:
            self._look_inside()
            if shoot is not None:
                shoot(operation, path)

        disk.faults.on_call = call

    def _look_inside(self) -> None:
        node = self.server.node
        for partition in node.services.replicas if node is not None else ():
            log, mark = partition.log, partition.high_watermark
            flushed = log.flushed_end_offset if partition.settings.flush_on_ack else mark
            if not log.log_start_offset <= mark <= flushed <= log.log_end_offset:
                where = f"{partition.topic}-{partition.index} at {self.sim.loop.time():.3f}"
                told = f"{log.log_start_offset} {mark} {flushed} {log.log_end_offset}"
                self.history.inside.append(f"{where}, inside the node: {told}")


async def whole_node(sim: SimWorld, power_cuts: int) -> Report:
    return await _whole_node(sim, SETTINGS, power_cuts)


async def two_directories(sim: SimWorld, power_cuts: int) -> Report:
    """The same over two log directories: a sync that fails takes one of them offline, alone."""
    return await _whole_node(sim, {**SETTINGS, "log.dirs": "/d,/e"}, power_cuts)


async def _whole_node(sim: SimWorld, settings: Mapping[str, str], power_cuts: int) -> Report:
    run = Run(sim, settings, max(IMAGES, power_cuts))
    with Logbook(sim.trace) as logbook:
        nemesis = await run.play()
        if run.server.is_up:
            run.server.kill()
        run.check(logbook)
        await Postmortem(sim, run.history, settings).examine_all(run.camera.develop())
        logbook.check()
    sends = run.history.sends
    return Report(
        power_cuts=len(run.camera.shots) + nemesis.counts["power cut"],
        operations=len(sends) + len(run.history.polls),
        acknowledged=sum(send.fate is Fate.OK for send in sends),
    )

"""The workflow is killed at every step: nothing is passed over, whatever the step was.

A step is what the outside sees of a client: bytes that it sends, and bytes that it has received.
At the one that the run names the process is killed (what it sent in that step does not leave),
and another takes its place. What is committed never is ahead of what was processed, or stands
among the dead letters; and in the end everything is. With transactions each output and each dead
letter is there exactly once, for those who read what is committed.
"""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from ottla.client.consumer import Consumer
from ottla.client.outlet import Output
from ottla.client.producer import Producer
from ottla.client.retry import RetryPolicy
from ottla.sim.server import PORT, Server
from ottla.sim.world import SimWorld
from tests.client.test_simulation import started

PARTITIONS = 2
COUNT = 30
SETTINGS = {
    "num.partitions": str(PARTITIONS),
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "500",
}
PROTOCOLS = ["classic", "consumer"]
KINDS = [*PROTOCOLS, "classic, exactly once", "consumer, exactly once"]


class Steps:
    """Counts what passes between a process and its network; from step `last` on nothing does."""

    def __init__(self, world, last, kill):
        self.count = 0
        self.last = last
        self.kill = kill
        self.world = replace(world, network=self)
        self._network = world.network

    def step(self):
        self.count += 1
        if self.count == self.last:
            self.kill()
        return self.last is None or self.count < self.last

    async def connect(self, host, port, handler, *, tls):
        return await self._network.connect(
            host, port, lambda each: Tap(self, each, handler), tls=tls
        )


class Tap:
    """Both the connection that a client writes to, and the handler that hears of the other side."""

    def __init__(self, steps, connection, handler):
        self._steps = steps
        self._connection = connection
        self._handler = handler(self)

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def send(self, parts):
        if self._steps.step():
            self._connection.send(parts)

    def received(self, data):
        return self._handler.received(data) if self._steps.step() else len(data)

    def drained(self):
        self._handler.drained()

    def lost(self, cause):
        self._handler.lost(cause)


class Run:
    def __init__(self, kind, last):
        protocol, _, exactly_once = kind.partition(", ")
        self.is_exact = bool(exactly_once)
        self.sim = SimWorld(7)
        self.server = Server(self.sim, "node", SETTINGS)
        self.protocol = protocol
        self.last = last
        self.tries = Counter()
        self.processed = set()
        self.is_killed = False

    def options(self):
        return {"bootstrap_servers": f"node:{PORT}", "request_timeout_ms": 2_000}

    def consumer(self, world, **options):
        settings = {
            "group_id": "g",
            "group_protocol": self.protocol,
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 100,
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 500,
            "auto_commit_interval_ms": 50,
            **self.options(),
            **options,
        }
        return started(lambda: Consumer(world=world, **settings))

    async def fill(self, world):
        async with Producer(world=world, **self.options()) as producer:
            for n in range(COUNT):
                await producer.send("t", b"%d" % n, key=b"%d" % (n % 7), partition=n % PARTITIONS)

    async def handle(self, record):
        number = int(record.value)
        self.tries[number] += 1
        await asyncio.sleep(0.002 * (number % 3))
        if number % 10 == 3 or (number % 10 == 5 and self.tries[number] < 3):
            raise ValueError(number)
        if self.is_exact:
            return [Output("out", record.value), Output("out", b"-" + record.value)]
        self.processed.add(number)
        return None

    async def work(self, world):
        consumer = await self.consumer(world)
        consumer.subscribe(["t"])
        processing = asyncio.get_running_loop().create_task(
            consumer.process(
                self.handle,
                concurrency=4,
                retry=RetryPolicy(attempts=3, backoff_ms=5, backoff_max_ms=20),
                dead_letter="dead",
                transactional=self.is_exact,
                transactional_id="worker",
            )
        )
        while await self.places(consumer) != [COUNT // PARTITIONS] * PARTITIONS:
            await asyncio.sleep(0.05)
        consumer.stop_processing()
        await processing
        await consumer.close()

    async def places(self, consumer):
        keys = [("t", index) for index in range(PARTITIONS)]
        found = (await consumer.committed(*keys)).values()
        return [0 if place is None else place.offset for place in found]

    async def look(self, world):
        """What is committed was processed, or is a dead letter."""
        consumer = await self.consumer(
            world,
            group_protocol="classic",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        places = await self.places(consumer)
        consumer.assign([(topic, n) for topic in ("dead", "out") for n in range(PARTITIONS)])
        ends = await consumer.end_offsets()
        found = {"dead": [], "out": []}
        while {key: await consumer.position(key) for key in ends} != ends:
            for record in await consumer.poll(100):
                found[record.topic].append(int(record.value))
        dead = set(found["dead"])
        if self.is_exact:
            self.processed = {abs(number) for number in found["out"]}
            assert len(found["dead"]) == len(dead), "a dead letter twice"
            assert sorted(found["out"]) == sorted([*self.processed, *(-n for n in self.processed)])
        for index, place in enumerate(places):
            behind = {
                n for n in range(COUNT) if n % PARTITIONS == index and n // PARTITIONS < place
            }
            assert behind <= self.processed | dead, f"passed over: {behind - self.processed - dead}"
        await consumer.close()
        return dead

    async def play(self):
        self.server.start()
        while not self.server.is_serving:
            await asyncio.sleep(0.1)
        watcher = self.sim.boot("watcher")
        watching = self.sim.machine("watcher").process
        await watching.spawn(self.fill(watcher))
        await watching.spawn(self.make_dead(watcher))
        killed = asyncio.Event()
        steps = Steps(self.sim.boot("worker"), self.last, killed.set)
        working = self.sim.machine("worker").process.spawn(self.work(steps.world))
        ends = [working, asyncio.get_running_loop().create_task(killed.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ends[1].cancel()
        if killed.is_set():
            self.sim.kill("worker")
            await watching.spawn(self.look(watcher))
            world = self.sim.boot("worker")
            working = self.sim.machine("worker").process.spawn(self.work(world))
        await working
        dead = await watching.spawn(self.look(watcher))
        assert self.processed == {n for n in range(COUNT) if n % 10 != 3}
        assert dead == {n for n in range(COUNT) if n % 10 == 3}
        return steps.count

    async def make_dead(self, world):
        async with Producer(world=world, **self.options()) as producer:
            for topic in ("dead", "out"):
                await producer.partitions_for(topic)


def play(protocol, last):
    run = Run(protocol, last)
    return run.sim.run(run.play())


def every(stride):
    return [
        pytest.param(protocol, step, id=f"{protocol}-{step}")
        for protocol in KINDS
        for step in range(1, 200, stride)
    ]


@pytest.mark.parametrize("protocol", KINDS)
def test_without_a_kill_there_are_fewer_steps_than_are_tried(protocol):
    assert 30 < play(protocol, None) < 200


@pytest.mark.parametrize("protocol, step", every(13))
def test_a_kill_at_a_step_passes_nothing_over(protocol, step):
    play(protocol, step)


@pytest.mark.long
@pytest.mark.parametrize("protocol, step", every(1))
def test_a_kill_at_any_step_passes_nothing_over(protocol, step):
    play(protocol, step)

"""Our client against a whole node in the simulated world, with faults from a seed.

The node is killed and started again, loses its power (what was not flushed is gone), connections
break, one way or both ways are clogged. In the end a reader goes through every partition:
- a delivery that was acknowledged is there, at the offset that it was told;
- one that failed for certain is not there;
- nothing is there twice, and the records of a partition stand in the order they were sent;
- the consumer that read all the while saw the same, each offset once and in order.
"""

import asyncio
import contextlib

import pytest

from ottla.client.consumer import Consumer
from ottla.client.errors import BufferFullError, DeliveryError, NoBrokersError
from ottla.client.producer import Producer
from ottla.sim.server import PORT, Server
from ottla.sim.world import SimWorld

RUN_S = 40.0
PARTITIONS = 3
SETTINGS = {"num.partitions": str(PARTITIONS), "offsets.topic.num.partitions": "1"}


class Run:
    def __init__(self, seed, settings=None):
        self.seed = seed
        self.sim = SimWorld(seed)
        self.rng = self.sim.rng("test")
        self.server = Server(self.sim, "node", {**SETTINGS, **(settings or {})})
        self.sent = []
        self.read = []
        self.until = self.sim.loop.time() + RUN_S

    async def nemesis(self):
        rng, wires = self.rng, self.sim.wires
        while self.sim.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.5, 6.0))
            fault = rng.choice(["kill", "power", "reset", "clog", "stop"])
            if fault == "reset" and wires.connections:
                wires.reset(rng.choice(list(wires.connections)))
            elif fault == "clog":
                way = rng.choice([("node", "client"), ("client", "node")])
                wires.clog(*way)
                await asyncio.sleep(rng.uniform(0.1, 5.0))
                wires.unclog(*way)
            elif self.server.is_serving:
                if fault == "kill":
                    self.server.kill()
                elif fault == "power":
                    self.server.power_cut()
                else:
                    await self.server.stop(5.0)
                await asyncio.sleep(rng.uniform(0.01, 3.0))
                self.server.start()

    def options(self):
        return {
            "bootstrap_servers": f"node:{PORT}",
            "request_timeout_ms": 3_000,
            "socket_connection_setup_timeout_ms": 2_000,
        }

    async def produce(self, world):
        rng = self.rng
        options = {
            "delivery_timeout_ms": rng.choice([5_000, 60_000]),
            "linger_ms": rng.choice([0, 5, 50]),
            "batch_size": rng.choice([50, 500]),
            "compression_type": rng.choice(["none", "lz4"]),
            **self.options(),
        }
        producer = await started(lambda: Producer(world=world, **options))
        number = 0
        while self.sim.loop.time() < self.until:
            for _ in range(rng.randint(1, 20)):
                try:
                    partition = rng.randrange(PARTITIONS)
                    delivery = await producer.send("t", b"%d" % number, partition=partition)
                except BufferFullError:
                    continue
                self.sent.append((partition, number, delivery))
                number += 1
            await asyncio.sleep(rng.uniform(0.0, 0.5))
        with contextlib.suppress(DeliveryError):
            await producer.close()

    async def consume(self, world, *, stop):
        options = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 200, **self.options()}
        consumer = await started(lambda: Consumer(world=world, **options))
        consumer.assign([("t", index) for index in range(PARTITIONS)])
        found = []
        for _ in range(10_000):
            records = await consumer.poll(500)
            found += records
            if records or not stop():
                continue
            ends = await consumer.end_offsets()
            if {key: await consumer.position(key) for key in ends} == ends:
                break
        else:
            raise AssertionError("it never came to the end")
        await consumer.close()
        return found

    async def play(self):
        self.server.start()
        while not self.server.is_serving:
            await asyncio.sleep(0.1)
        world = self.sim.boot("client")
        process = self.sim.machine("client").process
        is_over = False
        producing = process.spawn(self.produce(world))
        nemesis = asyncio.get_running_loop().create_task(self.nemesis())
        reading = process.spawn(self.consume(world, stop=lambda: is_over))
        await nemesis
        await producing
        is_over = True
        self.read = await reading
        final = await process.spawn(self.consume(world, stop=lambda: True))
        await self.judge(final)

    async def judge(self, final):
        by_partition = {index: {} for index in range(PARTITIONS)}
        for record in final:
            by_partition[record.partition][record.offset] = int(record.value)
        acknowledged = 0
        for partition, number, delivery in self.sent:
            there = by_partition[partition]
            try:
                placed = await delivery
            except DeliveryError as error:
                if not error.is_uncertain:
                    assert number not in there.values(), f"{number}: {error}"
            else:
                acknowledged += 1
                assert number in there.values(), f"{number} is lost"
                assert placed.offset < 0 or there[placed.offset] == number
        for there in by_partition.values():
            values = [there[offset] for offset in sorted(there)]
            assert values == sorted(set(values)), "twice, or out of order"
            assert sorted(there) == list(range(len(there)))
        assert sorted(self.read) == sorted(final)
        for index in range(PARTITIONS):
            offsets = [record.offset for record in self.read if record.partition == index]
            assert offsets == list(range(len(offsets)))
        assert acknowledged > 50


async def started(make):
    """A client that found the node, in its second, third ... try if need be."""
    while True:
        client = make()
        try:
            await client.start()
        except NoBrokersError:
            await asyncio.sleep(0.5)
        else:
            return client


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_or_twice_or_out_of_order(seed):
    run = Run(seed)
    run.sim.run(run.play())


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 220))
def test_the_same_with_many_seeds(seed):
    run = Run(seed)
    run.sim.run(run.play())

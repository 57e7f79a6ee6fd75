"""Exactly-once copying under faults: a transactional producer against a node that is killed, loses
its power and its connections.

A copier reads `in`, and writes each record to `out` in a transaction with the offset it has read
up to. Now and then it gives up and another one takes over with the same transactional id, as after
a crash: it goes on from the committed offsets. In the end a reader with read_committed finds every
record of `in` in `out`, once, and in order.
"""

import asyncio
import contextlib

import pytest

from ottla.client.consumer import Consumer
from ottla.client.errors import ClientError
from ottla.client.offsets import GroupMetadata
from ottla.client.producer import Producer
from ottla.client.transacting import Transacting
from tests.client.test_simulation import Run, started

COUNT = 120
GROUP = GroupMetadata("copiers")


class Copying(Run):
    def __init__(self, seed):
        super().__init__(
            seed,
            {
                "num.partitions": "1",
                "transaction.state.log.num.partitions": "1",
                "transaction.state.log.replication.factor": "1",
                "transaction.state.log.min.isr": "1",
            },
        )
        self.commits_count = self.lives_count = 0

    def options(self):
        return {**super().options(), "request_timeout_ms": 2_000}

    async def fill(self, world):
        producer = await started(lambda: Producer(world=world, **self.options()))
        await (await producer.send_many("in", [b"%d" % n for n in range(COUNT)]))
        await producer.close()

    async def life(self, world):
        """One copier, until it breaks, is given up, or all is copied (then true)."""
        self.lives_count += 1
        options = {**self.options(), "delivery_timeout_ms": 4_000, "max_block_ms": 8_000}
        producer = Producer(world=world, transactional_id="copier", linger_ms=0, **options)
        consumer = Consumer(
            world=world,
            group_id=GROUP.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            **self.options(),
        )
        await producer.start()
        await consumer.start()
        try:
            consumer.assign([("in", 0)])
            for _ in range(self.rng.randint(2, 12)):
                records = await consumer.poll(500, max_records=self.rng.randint(1, 8))
                at = await consumer.position(("in", 0))
                if records:
                    async with producer.transaction():
                        for record in records:
                            await producer.send("out", record.value)
                        await producer.send_offsets({("in", 0): at}, GROUP)
                    self.commits_count += 1
                elif at == COUNT:
                    return True
                await asyncio.sleep(self.rng.uniform(0.0, 1.0))
            return False
        finally:
            await consumer.close()
            if self.rng.random() < 0.5:
                with contextlib.suppress(ClientError):
                    await producer.close(2_000)
            else:  # as a crash leaves it
                await producer._end()

    async def copy(self, world):
        while True:
            try:
                async with asyncio.timeout(self.rng.choice([3.0, 60.0])):
                    if await self.life(world):
                        return
            except (ClientError, TimeoutError):
                await asyncio.sleep(0.2)

    async def play(self):
        self.server.start()
        while not self.server.is_serving:
            await asyncio.sleep(0.1)
        world = self.sim.boot("client")
        process = self.sim.machine("client").process
        await process.spawn(self.fill(world))
        nemesis = asyncio.get_running_loop().create_task(self.nemesis())
        await process.spawn(self.copy(world))
        await nemesis
        found = await process.spawn(self.read_out(world))
        assert found == list(range(COUNT)), (self.lives_count, self.commits_count)

    async def read_out(self, world):
        consumer = await started(
            lambda: Consumer(
                world=world,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                **self.options(),
            )
        )
        consumer.assign([("out", 0)])
        found = []
        while len(found) < COUNT:
            found += [int(record.value) for record in await consumer.poll(500)]
        found += [int(record.value) for record in await consumer.poll(2_000)]
        await consumer.close()
        return found


def copied(seed):
    run = Copying(seed)
    run.sim.run(run.play())


@pytest.fixture
def first_version(monkeypatch):
    never = property(lambda _: False, lambda _, value: None)
    monkeypatch.setattr(Transacting, "_has_second_version", never, raising=False)


@pytest.mark.parametrize("seed", range(6))
def test_every_record_is_copied_once(seed):
    copied(seed)


@pytest.mark.parametrize("seed", range(6, 12))
def test_every_record_is_copied_once_in_the_older_protocol(seed, first_version):
    copied(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 120))
def test_the_same_with_many_seeds(seed):
    copied(seed)

"""The workflow is cancelled at every step, as Ctrl-C does it: each output is there exactly once.

A step is what `test_process_simulation` calls one. Whoever was cancelled closes his consumer and
begins anew with another, or processes again with the same one.
"""

import asyncio

import pytest

from ottla.client.retry import RetryPolicy
from tests.client.test_process_simulation import COUNT, PARTITIONS, PROTOCOLS, Run, Steps

WAYS = ["anew", "again"]


class PassingSteps(Steps):
    """Nothing is held back: the step is only told."""

    def step(self):
        super().step()
        return True


class CancelledRun(Run):
    def __init__(self, protocol, way, last):
        super().__init__(f"{protocol}, exactly once", last)
        self.way = way
        self.cancelled = asyncio.Event()

    async def process_once(self, consumer):
        """Until all is committed, or the step has come."""
        processing = asyncio.get_running_loop().create_task(
            consumer.process(
                self.handle,
                concurrency=4,
                retry=RetryPolicy(attempts=3, backoff_ms=5, backoff_max_ms=20),
                dead_letter="dead",
                transactional=True,
                transaction_interval_ms=5,
            )
        )
        waiting = [processing, asyncio.get_running_loop().create_task(self.cancelled.wait())]
        while await self.places(consumer) != [COUNT // PARTITIONS] * PARTITIONS:
            await asyncio.wait(waiting, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
            if self.cancelled.is_set():
                self.cancelled.clear()
                processing.cancel()
                await asyncio.wait([processing])
                waiting[1].cancel()
                return False
        waiting[1].cancel()
        consumer.stop_processing()
        await processing
        return True

    async def work(self, world):
        consumer = await self.consumer(world)
        consumer.subscribe(["t"])
        while not await self.process_once(consumer):
            if self.way == "anew":
                await consumer.close()
                consumer = await self.consumer(world)
                consumer.subscribe(["t"])
        await consumer.close()

    async def play(self):
        self.server.start()
        while not self.server.is_serving:
            await asyncio.sleep(0.1)
        watcher = self.sim.boot("watcher")
        watching = self.sim.machine("watcher").process
        await watching.spawn(self.fill(watcher))
        await watching.spawn(self.make_dead(watcher))
        steps = PassingSteps(self.sim.boot("worker"), self.last, self.cancelled.set)
        await self.sim.machine("worker").process.spawn(self.work(steps.world))
        dead = await watching.spawn(self.look(watcher))
        assert self.processed == {n for n in range(COUNT) if n % 10 != 3}
        assert dead == {n for n in range(COUNT) if n % 10 == 3}


def every(stride):
    return [
        pytest.param(protocol, way, step, id=f"{protocol}-{way}-{step}")
        for protocol in PROTOCOLS
        for way in WAYS
        for step in range(1, 200, stride)
    ]


def play(protocol, way, step):
    run = CancelledRun(protocol, way, step)
    run.sim.run(run.play())


@pytest.mark.parametrize("protocol, way, step", every(13))
def test_cancelled_at_a_step_each_output_is_there_once(protocol, way, step):
    play(protocol, way, step)


@pytest.mark.long
@pytest.mark.parametrize("protocol, way, step", every(1))
def test_cancelled_at_any_step_each_output_is_there_once(protocol, way, step):
    play(protocol, way, step)

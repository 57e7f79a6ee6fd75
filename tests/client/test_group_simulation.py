"""Consumers of ours in one group against a node in the simulated world, with faults from a seed.

Members come, leave, are killed without a word and stall; the node and the wires suffer as in
test_simulation. In the end:
- every record that was acknowledged was processed by somebody;
- a partition never had two owners, but for one that had lost it without knowing yet (which it is
  told in the end) or was killed;
- what a handler of `process` does, for every second of the seeds, is held to the same;
- a member goes through a partition in order while it owns it, and no record was skipped: what a
  new owner begins with was committed after it was done.
"""

import asyncio
import contextlib

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.consumer import Consumer
from ottla.client.errors import ClientError, NoBrokersError
from ottla.client.outlet import Output
from ottla.client.retry import RetryPolicy
from tests.client.test_simulation import PARTITIONS, Run, started

MEMBERS = 3
SETTLE_S = 400.0
SETTINGS = {
    "group.initial.rebalance.delay.ms": "100",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
}
STRATEGIES = [["range"], ["roundrobin"], ["sticky"], ["cooperative-sticky"], None]
"""None: the protocol of KIP-848."""


class Reign:
    """A member's time with a partition."""

    def __init__(self, member, begun_at):
        self.member = member
        self.begun_at = begun_at
        self.ended_at = None
        self.is_clean = False
        self.offsets = []


class GroupRun(Run):
    def __init__(self, seed):
        super().__init__(seed, SETTINGS)
        self.strategy = STRATEGIES[seed % len(STRATEGIES)]
        self.reigns = {index: [] for index in range(PARTITIONS)}
        self.processed = {}
        self.is_over = False
        self.has_produced = False
        self.errors = []
        self.processes = seed // len(STRATEGIES) % 2 == 1
        self.is_exact = self.processes and seed // len(STRATEGIES) % 4 == 1

    def now(self):
        return self.sim.loop.time()

    # ---- a member

    def member_options(self, number):
        options = {
            "group_id": "g",
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 200,
            "session_timeout_ms": 6_000,
            "heartbeat_interval_ms": 1_000,
            "max_poll_interval_ms": 12_000,
            "enable_auto_commit": self.rng.random() < 0.5,
            "auto_commit_interval_ms": self.rng.choice([300, 2_000]),
            **self.options(),
        }
        if self.strategy is None:
            options["group_protocol"] = "consumer"
        else:
            options["partition_assignment_strategy"] = self.strategy
        if number == 0 and self.seed % 3 == 0:
            options["group_instance_id"] = "static"
        return options

    async def member(self, number, world):
        """One process's life: reads until it is told to end, or killed."""
        name = self.sim.machine(f"m{number}").process.name
        mine = {}

        def came(keys):
            for key in keys:
                mine[key.partition] = Reign(name, self.now())
                self.reigns[key.partition].append(mine[key.partition])

        def went(keys, *, is_clean):
            for key in keys:
                reign = mine.pop(key.partition)
                reign.ended_at = self.now()
                # One that closes may be out of the group for long, and not have been told yet.
                reign.is_clean = is_clean and not is_closing

        self.alive[number] = mine
        is_closing = False
        while not self.is_over:
            is_closing = False
            consumer = await started(lambda: Consumer(world=world, **self.member_options(number)))
            consumer.subscribe(
                ["t"],
                on_assigned=came,
                on_revoked=lambda keys: went(keys, is_clean=True),
                on_lost=lambda keys: went(keys, is_clean=False),
            )
            until = self.now() + self.rng.uniform(2.0, 40.0)
            try:
                if self.processes:
                    await self.process(consumer, mine, until)
                while not self.processes and self.goes_on(until):
                    await self.turn(consumer, mine)
            except KafkaError as error:
                # As in Kafka: its killed predecessor is still taken to be alive.
                assert error.code is ErrorCode.UNRELEASED_INSTANCE_ID
            except NoBrokersError as error:  # met by the producer of `process` as it started
                self.errors.append(error)
            is_closing = True
            await consumer.close()
            assert not mine, "what it had was not revoked when it closed"
            await asyncio.sleep(self.rng.uniform(0.0, 3.0))

    def goes_on(self, until):
        return not self.is_over and (self.has_produced or self.now() < until)

    async def turn(self, consumer, mine):
        for record in await consumer.poll(500, max_records=self.rng.choice([1, 5, 50])):
            reign = mine.get(record.partition)
            if reign is not None:  # otherwise it was lost meanwhile
                reign.offsets.append(record.offset)
            await asyncio.sleep(self.rng.choice([0.0, 0.001, 0.02]))
            self.processed.setdefault(int(record.value), []).append(record.offset)
        if self.rng.random() < 0.01 and not self.has_produced:
            await asyncio.sleep(20.0)  # stalls, and is put out
        if not consumer.settings.enable_auto_commit or self.rng.random() < 0.1:
            try:
                await consumer.commit()
            except (ClientError, KafkaError) as error:
                self.errors.append(error)

    async def process(self, consumer, mine, until):
        async def handle(record):
            reign = mine.get(record.partition)
            await asyncio.sleep(self.rng.choice([0.0, 0.001, 0.02, 0.3]))
            if self.rng.random() < 0.1:
                raise OSError("try again")
            if reign is not None and mine.get(record.partition) is reign:
                reign.offsets.append(record.offset)
            self.processed.setdefault(int(record.value), []).append(record.offset)
            return Output("out", record.value) if self.is_exact else None

        processing = asyncio.get_running_loop().create_task(
            consumer.process(
                handle,
                order="partition",
                max_pending=self.rng.choice([1, 20, 1_000]),
                drain_timeout_ms=self.rng.choice([10, 2_000]),
                retry=RetryPolicy(attempts=1_000, backoff_ms=10),
                transactional=self.is_exact,
            )
        )
        while self.goes_on(until):
            await asyncio.wait([processing], timeout=0.5)
            if processing.done():
                processing.result()
        consumer.stop_processing()
        await processing

    async def crashes(self):
        while self.now() < self.until:
            await asyncio.sleep(self.rng.uniform(3.0, 12.0))
            number = self.rng.randrange(MEMBERS)
            self.kill(number)
            await asyncio.sleep(self.rng.uniform(0.0, 10.0))
            self.boot(number)

    def kill(self, number):
        self.sim.kill(f"m{number}")
        for reign in self.alive.pop(number, {}).values():
            reign.ended_at = self.now()

    def boot(self, number):
        world = self.sim.boot(f"m{number}")
        process = self.sim.machine(f"m{number}").process
        self.tasks[number] = process.spawn(self.member(number, world))

    # ---- the run

    async def play(self):
        self.alive, self.tasks = {}, {}
        self.server.start()
        while not self.server.is_serving:
            await asyncio.sleep(0.1)
        self.client = self.sim.boot("client")
        producing = self.sim.machine("client").process.spawn(self.produce(self.client))
        for number in range(MEMBERS):
            self.boot(number)
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            producing, loop.create_task(self.nemesis()), loop.create_task(self.crashes())
        )
        self.has_produced = True
        wanted = await self.acknowledged()
        try:
            async with asyncio.timeout(SETTLE_S):
                while missing := wanted - self.processed.keys():
                    for task in self.tasks.values():
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise AssertionError(f"{len(missing)} of {len(wanted)} were not processed") from None
        if self.is_exact:
            await self.sim.machine("client").process.spawn(self.outputs(self.client, wanted))
        self.is_over = True
        await asyncio.gather(*self.tasks.values())
        self.judge_reigns()

    async def acknowledged(self):
        found = set()
        for _, number, delivery in self.sent:
            with contextlib.suppress(ClientError):
                await delivery
                found.add(number)
        assert len(found) > 50
        return found

    async def outputs(self, world, wanted):
        """Until each record has its output, for those who read what is committed: that a handler
        saw it is not enough, since who was killed after that had not committed it."""
        options = {"auto_offset_reset": "earliest", "isolation_level": "read_committed"}
        consumer = await started(lambda: Consumer(world=world, **options, **self.options()))
        consumer.assign([("out", index) for index in range(PARTITIONS)])
        found = []
        try:
            async with asyncio.timeout(SETTLE_S):
                while not wanted <= set(found):
                    found += [int(record.value) for record in await consumer.poll(500)]
        except TimeoutError:
            raise AssertionError(f"{len(wanted - set(found))} outputs are missing") from None
        self.is_over = True
        await asyncio.gather(*self.tasks.values())
        while records := await consumer.poll(30_000):
            found += [int(record.value) for record in records]
        await consumer.close()
        assert len(found) == len(set(found)), "an output twice"

    def judge_reigns(self):
        for reigns in self.reigns.values():
            reigns.sort(key=lambda each: each.begun_at)
            for at, reign in enumerate(reigns):
                assert reign.offsets == sorted(set(reign.offsets)), "twice, or out of order"
                for later in reigns[at + 1 :]:
                    if reign.is_clean:
                        assert later.begun_at >= reign.ended_at, (vars(reign), vars(later))


def play(seed):
    run = GroupRun(seed)
    run.sim.run(run.play())


@pytest.mark.parametrize("seed", range(10))
def test_every_record_is_processed_and_no_partition_has_two_owners(seed):
    play(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 210))
def test_the_same_with_many_seeds(seed):
    play(seed)

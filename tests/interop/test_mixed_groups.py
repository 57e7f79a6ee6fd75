"""Groups whose members are of different clients: ours beside librdkafka's and aiokafka's.

Each assignor that the two sides share is tried with either side joining first, so that each once
leads, and shares out by what the other said. The members must agree: every partition has one
owner, the loads differ by no more than one, and every record is read.
"""

import asyncio
import contextlib

import aiokafka
import confluent_kafka as rd
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

import ottla

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PARTITIONS = 6
SETTINGS = {
    "num.partitions": str(PARTITIONS),
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "group.consumer.heartbeat.interval.ms": "100",
    "group.consumer.min.heartbeat.interval.ms": "100",
}
AIO = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


class Ours:
    def __init__(self, broker, assignor):
        own = (
            {"group_protocol": "consumer"}
            if assignor == "consumer"
            else {"partition_assignment_strategy": [assignor]}
        )
        self.consumer = ottla.Consumer(
            bootstrap_servers=broker.bootstrap_servers,
            group_id="g",
            auto_offset_reset="earliest",
            heartbeat_interval_ms=100,
            fetch_max_wait_ms=50,
            **own,
        )

    async def start(self):
        await self.consumer.start()
        self.consumer.subscribe(["t"])

    async def stop(self):
        await self.consumer.close()

    async def read(self):
        return [int(each.value) for each in await self.consumer.poll(50)]

    async def indexes(self):
        return {key.partition for key in self.consumer.assignment()}


class Aio:
    def __init__(self, broker, assignor):
        self.consumer = aiokafka.AIOKafkaConsumer(
            "t",
            bootstrap_servers=broker.bootstrap_servers,
            group_id="g",
            auto_offset_reset="earliest",
            heartbeat_interval_ms=100,
            partition_assignment_strategy=[AIO[assignor]],
        )

    async def start(self):
        await self.consumer.start()

    async def stop(self):
        await self.consumer.stop()

    async def read(self):
        found = await self.consumer.getmany(timeout_ms=50)
        return [int(each.value) for records in found.values() for each in records]

    async def indexes(self):
        return {key.partition for key in self.consumer.assignment()}


class Confluent:
    def __init__(self, broker, assignor):
        own = (
            {"group.protocol": "consumer"}
            if assignor == "consumer"
            else {
                "partition.assignment.strategy": assignor,
                "heartbeat.interval.ms": 100,
                "session.timeout.ms": 10_000,
            }
        )
        self.consumer = rd.Consumer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "group.id": "g",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                **own,
            }
        )

    async def start(self):
        self.consumer.subscribe(["t"])

    async def stop(self):
        await asyncio.to_thread(self.consumer.close)

    async def read(self):
        messages = await asyncio.to_thread(self.consumer.consume, 100, 0.05)
        for message in messages:
            assert message.error() is None, message.error()
        return [int(message.value()) for message in messages]

    async def indexes(self):
        return {each.partition for each in self.consumer.assignment()}


PAIRS = [
    *((Aio, assignor) for assignor in AIO),
    *((Confluent, each) for each in ("range", "roundrobin", "cooperative-sticky", "consumer")),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours leads", "theirs leads"])
@pytest.mark.parametrize(
    "peer, assignor", PAIRS, ids=[f"{peer.__name__}-{name}" for peer, name in PAIRS]
)
def test_members_of_two_clients_share(start_broker, peer, assignor, ours_first):
    broker = start_broker(settings=SETTINGS)

    async def script():
        await fill(broker)
        kinds = [Ours, peer, peer] if ours_first else [peer, Ours, Ours]
        members = [kind(broker, assignor) for kind in kinds]
        read = []
        async with contextlib.AsyncExitStack() as stack:
            for count, member in enumerate(members, 1):
                starting = asyncio.create_task(member.start())
                stack.push_async_callback(member.stop)
                while not starting.done():  # aiokafka's waits until the others let go
                    await asyncio.sleep(0.01)
                    for other in members[: count - 1]:
                        read += await other.read()
                await starting
                read += await until_even(members[:count])
                await fill(broker)
        async with contextlib.AsyncExitStack() as stack:
            # All have left: what was committed is where the next one begins.
            last = Ours(broker, assignor)
            await last.start()
            stack.push_async_callback(last.stop)
            while len(read) < 60 * (len(members) + 1):
                read += await last.read()
        assert sorted({*read}) == list(range(60))
        counts = {number: read.count(number) for number in range(60)}
        # Who reads through a rebalance without regard for it may read again, but never less.
        assert all(count >= len(members) + 1 for count in counts.values()), counts

    async def within():
        async with asyncio.timeout(100):
            await script()

    asyncio.run(within())


async def fill(broker):
    async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for n in range(60):
            await producer.send("t", b"%d" % n, partition=n % PARTITIONS)


async def until_even(members):
    """Read until the members share the partitions evenly, twice in a row."""
    read, even_count = [], 0
    while even_count < 2:
        for member in members:
            read += await member.read()
        shares = [await member.indexes() for member in members]
        is_whole = sorted(index for share in shares for index in share) == list(range(PARTITIONS))
        sizes = [len(share) for share in shares]
        even_count = even_count + 1 if is_whole and max(sizes) - min(sizes) <= 1 else 0
    return read

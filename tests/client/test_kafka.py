"""The client against Apache Kafka itself: every request of it, both ways, each codec."""

import asyncio
import contextlib

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.errors import CommitFailedError, DeliveryError, ProducerFencedError
from ottla.client.offsets import GroupMetadata
from ottla.client.rows import NewTopic, Resource
from ottla.client.transacting import Transacting
from tests.client.test_group import KINDS, Member, commit_as_before, even, fill, until
from tests.client.test_producer_transactions import committed, producer_of
from tests.tools.kafka_broker import kafka_broker

pytestmark = [pytest.mark.java]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.timeout(300)
def test_apache_kafka(tmp_path):
    with kafka_broker(tmp_path) as kafka:
        asyncio.run(everything(kafka.bootstrap))


async def everything(bootstrap):
    async with ottla.Admin(bootstrap_servers=bootstrap) as admin:
        (made,) = await admin.create_topics(NewTopic("t", num_partitions=2))
        assert made.num_partitions == 2
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "7777777"})
        while True:  # Kafka answers before its brokers know
            configs = await admin.describe_configs(Resource.TOPIC, "t")
            if configs["retention.ms"].value == "7777777":
                break
            await asyncio.sleep(0.05)
        for codec in CODECS:
            await produce(bootstrap, codec)
        assert await consume(bootstrap) == list(range(1_000)) * len(CODECS)
        places = await admin.group_offsets("g", [("t", 0)])
        assert [place.offset for place in places.values()] == [5_000]
        assert [row.group_id for row in await admin.list_groups()] == ["g"]
        assert (await admin.describe_log_dirs())[0].partition_bytes["t", 0] > 1_000
        await admin.delete_records({("t", 0): 10})
        assert (await admin.list_offsets({("t", 0): -2}))["t", 0].offset == 10
        await admin.delete_groups("g")
        await halves(bootstrap, admin)
        await made_anew(bootstrap, admin)
        await admin.delete_topics("t")


async def halves(bootstrap, admin):
    """A topic that takes less than a batch: only what is too large by itself is refused."""
    await admin.create_topics(NewTopic("small", configs={"max.message.bytes": "1000"}))
    async with ottla.Producer(bootstrap_servers=bootstrap) as producer:
        sizes = [100, 300, 2_000, *[50] * 200, 900, 5]
        deliveries = [await producer.send("small", bytes(size)) for size in sizes]
        with pytest.raises(DeliveryError, match="MESSAGE_TOO_LARGE"):
            await deliveries.pop(2)
        assert [(await each).offset for each in deliveries] == list(range(len(sizes) - 1))


async def made_anew(bootstrap, admin):
    """What is sent to a topic that is deleted and made anew meanwhile is there, in order."""
    await admin.create_topics(NewTopic("again"))
    async with ottla.Producer(bootstrap_servers=bootstrap, linger_ms=0) as producer:
        await producer.send_and_wait("again", b"old")
        await admin.delete_topics("again")
        while True:
            try:
                await admin.create_topics(NewTopic("again"))
                break
            except KafkaError as error:
                assert error.code is ErrorCode.TOPIC_ALREADY_EXISTS
                await asyncio.sleep(0.05)
        deliveries = [await producer.send("again", b"%d" % n) for n in range(500)]
        places = [(await each).offset for each in deliveries]
        assert places == list(range(500))


async def produce(bootstrap, codec):
    async with ottla.Producer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
        sent = await producer.send_many("t", [b"%d" % n for n in range(1_000)], partition=0)
        assert sum(run.record_count for run in await sent) == 1_000


async def consume(bootstrap):
    async with ottla.Consumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id="g"
    ) as consumer:
        consumer.assign([("t", 0), ("t", 1)])
        found = []
        async with asyncio.timeout(60):
            async for record in consumer:
                found.append(int(record.value))
                if len(found) == 1_000 * len(CODECS):
                    break
        await consumer.commit()
        return found


@pytest.mark.timeout(300)
def test_groups_of_apache_kafka(tmp_path):
    with kafka_broker(tmp_path) as kafka:
        asyncio.run(groups(Bootstrap(kafka.bootstrap)))


class Bootstrap:
    def __init__(self, bootstrap_servers):
        self.bootstrap_servers = bootstrap_servers


async def groups(broker):
    async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
        await admin.create_topics(NewTopic("t", num_partitions=6))
    async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
        await fill(producer, 60)
        for kind in KINDS:
            async with asyncio.timeout(60):
                await members_share(broker, kind)
        async with asyncio.timeout(60):
            await processing(broker)


async def members_share(broker, kind):
    options = {"group_id": f"g-{kind}"}
    async with Member(broker, kind, **options) as first:
        read = await until(even(first.subscribe()), first)
        async with Member(broker, kind, **options) as second:
            read += await until(even(first, second.subscribe()), first, second)
            while len(read) < 60:
                read += [
                    int(record.value)
                    for member in (first, second)
                    for record in await member.consumer.poll(100)
                ]
            with pytest.raises(CommitFailedError) as refused:
                await commit_as_before(second.consumer)
            assert refused.value.code in (
                ErrorCode.ILLEGAL_GENERATION,
                ErrorCode.FENCED_MEMBER_EPOCH,
                ErrorCode.STALE_MEMBER_EPOCH,
            )
    assert sorted(read) == list(range(60)), kind


async def processing(broker, makes_dead=True):
    async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
        if makes_dead:
            await admin.create_topics(NewTopic("dead", num_partitions=1))

        def handle(record):
            if int(record.value) % 10 == 3:
                raise ValueError

        async with ottla.Consumer(
            bootstrap_servers=broker.bootstrap_servers,
            group_id="p",
            auto_offset_reset="earliest",
            auto_commit_interval_ms=50,
        ) as consumer:
            consumer.subscribe(["t"])
            retry = ottla.RetryPolicy(attempts=2, backoff_ms=1)
            task = asyncio.create_task(
                consumer.process(handle, retry=retry, dead_letter="dead", order="none")
            )
            wanted = {("t", index): 10 for index in range(6)}
            while await offsets(admin) != wanted:
                await asyncio.sleep(0.05)
            consumer.stop_processing()
            await task
        assert (await admin.list_offsets({("dead", 0): -1}))["dead", 0].offset == 6


async def offsets(admin):
    found = await admin.group_offsets("p", [("t", index) for index in range(6)])
    return {key: place.offset for key, place in found.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [1, 2])
def test_transactions_of_apache_kafka(tmp_path, version):
    with kafka_broker(tmp_path) as kafka:
        asyncio.run(transactions(Bootstrap(kafka.bootstrap), version))


async def transactions(broker, version):
    async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
        await admin.create_topics(NewTopic("t", num_partitions=1))
        with pytest.MonkeyPatch.context() as patch:
            if version == 1:
                never = property(lambda _: False, lambda _, value: None)
                patch.setattr(Transacting, "_has_second_version", never, raising=False)
            async with producer_of(broker) as producer:
                assert producer._transacting._has_second_version == (version == 2)
                for n in range(10):
                    async with producer.transaction():
                        await producer.send("t", b"%d" % n)
                        await producer.send_offsets({("t", 0): n}, GroupMetadata("g"))
                    with contextlib.suppress(ZeroDivisionError):
                        async with producer.transaction():
                            await producer.send_and_wait("t", b"dropped")
                            raise ZeroDivisionError
                await producer.begin_transaction()
                await producer.send_and_wait("t", b"zombie")
                async with producer_of(broker) as later, later.transaction():
                    await later.send("t", b"10")
                with pytest.raises(ProducerFencedError):
                    await producer.commit_transaction()
        places = await admin.group_offsets("g", [("t", 0)], require_stable=True)
        assert places["t", 0].offset == 9
    assert await committed(broker) == [b"%d" % n for n in range(11)]

"""The client against the oldest Kafka that it is for: every codec both ways, groups, transactions.

Between that and Kafka of today (test_kafka) each version of each request is used by one of the
two, or by `test_versions` against a node of our own.
"""

import asyncio

import pytest

import ottla
from ottla.client.errors import ClientError, KafkaError
from ottla.client.offsets import GroupMetadata
from ottla.client.rows import NewTopic, Resource
from tests.client.test_group import KINDS
from tests.client.test_interop import RECORDS, read_by_ours, seen_of, written_by_ours
from tests.client.test_kafka import Bootstrap, members_share, processing
from tests.client.test_producer_transactions import committed, producer_of
from tests.clients.peers import CODECS, MARKS, AioKafka, Confluent
from tests.tools.kafka_broker import kafka_broker

pytestmark = [*MARKS, pytest.mark.java, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    home = tmp_path_factory.mktemp("old")
    settings = {
        "auto.create.topics.enable": "false",
        "log.retention.ms": "-1",  # records of the tests are of 1970
    }
    with kafka_broker(home, settings, is_old=True) as kafka:
        yield Bootstrap(kafka.bootstrap)


def make(broker, name, num_partitions=1, **configs):
    with ottla.SyncAdmin(bootstrap_servers=broker.bootstrap_servers) as admin:
        admin.create_topics(NewTopic(name, num_partitions, replication_factor=1, configs=configs))


@pytest.mark.parametrize("codec", CODECS)
def test_records_both_ways(old, codec):
    topic = f"records-{codec}"
    make(old, topic)
    servers = old.bootstrap_servers
    wanted = [seen_of(record, offset) for offset, record in enumerate(RECORDS)]
    written_by_ours(servers, topic, codec)
    for peer in (Confluent, AioKafka):
        assert peer.consume(servers, topic, {0: 0}, len(RECORDS)) == wanted
    assert read_by_ours(servers, topic) == wanted
    for peer in (Confluent, AioKafka):
        peer.produce(servers, topic, RECORDS, codec=codec, idempotent=True)
    offsets = range(len(RECORDS) * 3)
    again = [seen_of(RECORDS[offset % len(RECORDS)], offset) for offset in offsets]
    assert read_by_ours(servers, topic, len(again)) == again


def test_groups(old):
    make(old, "t", 6)
    make(old, "dead")
    asyncio.run(groups(old))


async def groups(broker):
    async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for n in range(60):
            await producer.send("t", b"%d" % n, partition=n % 6)
        await producer.flush()
    for kind in KINDS:
        if kind != "consumer":
            async with asyncio.timeout(60):
                await members_share(broker, kind)
    async with asyncio.timeout(60):
        await processing(broker, makes_dead=False)


def test_a_new_group_is_refused(old):
    """KIP-848 came with Kafka 4."""

    async def script():
        async with ottla.Consumer(
            bootstrap_servers=old.bootstrap_servers, group_id="new", group_protocol="consumer"
        ) as consumer:
            consumer.subscribe(["t"])
            with pytest.raises(ClientError, match="does not serve CONSUMER_GROUP_HEARTBEAT"):
                await consumer.poll(30_000)

    asyncio.run(script())


def test_transactions(old):
    make(old, "transactions")
    asyncio.run(transactions(old))


async def transactions(broker):
    group = GroupMetadata("copiers")
    async with producer_of(broker) as producer:
        for n in range(10):
            async with producer.transaction():
                await producer.send("transactions", b"%d" % n)
                await producer.send_offsets({("transactions", 0): n}, group)
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send_and_wait("transactions", b"dropped")
                    raise ZeroDivisionError
    assert await committed(broker, "transactions") == [b"%d" % n for n in range(10)]
    async with ottla.Admin(bootstrap_servers=broker.bootstrap_servers) as admin:
        places = await admin.group_offsets("copiers", [("transactions", 0)])
    assert places["transactions", 0].offset == 9


def test_records_of_an_older_format_are_refused(old):
    """As Kafka kept them before 0.11: they are not read, and the reader is told."""
    make(old, "older", **{"message.format.version": "0.10.2"})
    Confluent.produce(old.bootstrap_servers, "older", RECORDS[:1])
    with ottla.SyncConsumer(bootstrap_servers=old.bootstrap_servers) as consumer:
        consumer.assign([("older", 0)])
        consumer.seek(("older", 0), 0)
        with pytest.raises(KafkaError, match="format 1"):
            consumer.poll(30_000)


def test_configs_by_the_older_request(old):
    """IncrementalAlterConfigs is of 2.3; what is there is told."""
    make(old, "configs", **{"retention.ms": "1234567"})
    with ottla.SyncAdmin(bootstrap_servers=old.bootstrap_servers) as admin:
        configs = admin.describe_configs(Resource.TOPIC, "configs")
    assert configs["retention.ms"].value == "1234567"

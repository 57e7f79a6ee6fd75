"""An admin against a real broker in this process: typed rows, and what is refused by name."""

import asyncio
from pathlib import Path

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, TopicPartition
from ottla.client.admin import Admin
from ottla.client.errors import ClientClosedError, ClientError
from ottla.client.rows import NewTopic, Resource

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def playing(broker, script, **options):
    async def whole():
        async with ottla.Admin(
            bootstrap_servers=broker.bootstrap_servers, default_api_timeout_ms=20_000, **options
        ) as admin:
            await script(admin)

    asyncio.run(whole())


async def refused(call, code, told):
    with pytest.raises(KafkaError, match=told) as found:
        await call
    assert found.value.code is code


async def produce(broker, count, topic="t", partition=0):
    async with ottla.Producer(bootstrap_servers=broker.bootstrap_servers) as producer:
        await (await producer.send_many(topic, [b"x"] * count, partition=partition))


def test_topics(broker):
    async def script(admin):
        made = await admin.create_topics(
            NewTopic("t", num_partitions=2, configs={"retention.ms": "5000"}),
            NewTopic("u", replica_assignment={0: [1]}),
        )
        assert [(row.name, row.num_partitions) for row in made] == [("t", 2), ("u", 1)]
        assert made[0].id != ZERO_UUID
        assert await admin.list_topics() == ["t", "u"]
        views = await admin.describe_topics("t", "u")
        assert len(views["t"]) == 2 and views["t"].id == made[0].id
        assert views["t"].partitions[0].leader in views["t"].nodes
        await admin.create_partitions({"t": 4})
        assert len((await admin.describe_topics("t"))["t"]) == 4
        await admin.delete_topics("u")
        assert await admin.list_topics() == ["t"]
        await admin.create_topics(NewTopic("dry"), validate_only=True)
        await refused(admin.create_topics(NewTopic("t")), ErrorCode.TOPIC_ALREADY_EXISTS, "^t: ")
        await refused(admin.create_partitions({"t": 1}), ErrorCode.INVALID_PARTITIONS, "^t: ")
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await refused(admin.describe_topics("dry"), unknown, "^dry: ")
        await refused(admin.delete_topics("nowhere"), unknown, "^nowhere: ")

    playing(broker, script)


def test_the_cluster_and_its_log_dirs(broker):
    async def script(admin):
        await admin.create_topics(NewTopic("t"))
        await produce(broker, 10)
        row = await admin.describe_cluster()
        assert [node.id for node in row.nodes] == [row.controller_id] and row.id
        (found,) = await admin.describe_log_dirs()
        assert found.error is None and found.partition_bytes[T0] > 60
        assert 0 < found.usable_bytes <= found.total_bytes
        (again,) = await admin.describe_log_dirs(row.controller_id)
        assert (again.path, again.partition_bytes) == (found.path, found.partition_bytes)

    playing(broker, script)


def test_configs(broker):
    async def script(admin):
        await admin.create_topics(NewTopic("t"))
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "77"})
        (entry,) = (await admin.describe_configs(Resource.TOPIC, "t", ["retention.ms"])).values()
        assert (entry.name, entry.value, entry.source) == ("retention.ms", "77", 1)
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": None})
        configs = await admin.describe_configs(Resource.TOPIC, "t")
        assert configs["retention.ms"].source == 5 and len(configs) > 20
        node = (await admin.describe_cluster()).controller_id
        broker_configs = await admin.describe_configs(Resource.BROKER, str(node))
        assert broker_configs["num.partitions"].value == "1"
        await refused(
            admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "soon"}),
            ErrorCode.INVALID_CONFIG,
            "^t: ",
        )
        with pytest.raises(ClientError, match="by its id"):
            await admin.describe_configs(Resource.BROKER, "first")

    playing(broker, script)


def test_records_and_offsets(broker):
    async def script(admin):
        await admin.create_topics(NewTopic("t", num_partitions=2))
        await produce(broker, 10)
        assert await admin.delete_records({T0: 4, ("t", 1): -1}) == {T0: 4, T1: 0}
        earliest = await admin.list_offsets({T0: -2, T1: -1})
        assert (earliest[T0].offset, earliest[T1].offset) == (4, 0)
        await refused(admin.delete_records({T0: 99}), ErrorCode.OFFSET_OUT_OF_RANGE, "^t-0: ")
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await refused(admin.delete_records({("t", 9): 0}), unknown, "^t-9: ")
        await refused(admin.list_offsets({("nowhere", 0): -1}), unknown, "'nowhere'")

    playing(broker, script)


def test_groups_and_what_they_have_committed(broker):
    async def script(admin):
        await admin.create_topics(NewTopic("t", num_partitions=2))
        await admin.alter_group_offsets({"g": {T0: 0, ("t", 1): 0}})
        found = await admin.group_offsets("g", [T0, T1])
        assert [place.offset for place in found.values()] == [0, 0]
        assert [row.group_id for row in await admin.list_groups()] == ["g"]
        described = (await admin.describe_groups("g"))["g"]
        assert (described.state, described.members) == ("Empty", ())
        await admin.delete_group_offsets({"g": [T1]})
        assert list(await admin.group_offsets("g", [T0, T1])) == [T0]
        await admin.delete_groups("g")
        assert await admin.list_groups() == []
        await refused(admin.delete_groups("g"), ErrorCode.GROUP_ID_NOT_FOUND, "^g: ")

    playing(broker, script)


def test_an_admin_that_is_not_open(broker):
    async def script():
        admin = ottla.Admin(bootstrap_servers=broker.bootstrap_servers)
        with pytest.raises(ClientClosedError):
            await admin.list_topics()
        async with admin:
            with pytest.raises(ClientError, match="starts once"):
                await admin.start()
        with pytest.raises(ClientClosedError):
            await admin.list_groups()

    asyncio.run(script())


def test_every_call_is_in_the_documents():
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    calls = {name for name in dir(Admin) if not name.startswith("_")} - {"start", "close"}
    assert not [name for name in sorted(calls) if f"`{name}`" not in page]

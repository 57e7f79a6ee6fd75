"""The controller on both twins of the store: what it makes, and what it refuses."""

import asyncio
import random

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.metadata.cluster import Metadata
from ottla.metadata.config_ops import ConfigOp, OpType, ResourceType
from ottla.metadata.controller import Controller
from ottla.metadata.store import Delete

TOPIC, BROKER = ResourceType.TOPIC, ResourceType.BROKER


def on_cluster(kind, test, brokers=(1, 2, 3)):
    async def main():
        rng = random.Random(7)
        async with kind.open() as store:
            metadata = await Metadata.open(store, rng)
            controller = Controller(metadata, 1, rng)
            lease = await store.grant(3_600_000)
            assert await controller.maybe_become(lease)
            for node in brokers:
                await controller.register_broker(
                    node, host="h", port=9000 + node, rack=None, lease=lease
                )
            await test(controller, metadata)
            await metadata.close()

    asyncio.run(main())


async def refused(code, awaitable):
    with pytest.raises(KafkaError) as caught:
        await awaitable
    assert caught.value.code is code, caught.value


def test_a_topic_is_in_the_image_when_the_call_returns(kind):
    async def test(controller, metadata):
        made = await controller.create_topic(
            "orders", partitions=6, replication_factor=2, configs={"retention.ms": "5"}
        )
        topic = metadata.image.topics["orders"]
        assert topic == made == metadata.image.topics_by_id[made.id]
        assert topic.configs == {"retention.ms": "5"}
        assert [partition.index for partition in topic.partitions] == list(range(6))
        assert sorted(p.leader for p in topic.partitions) == [1, 1, 2, 2, 3, 3]
        for partition in topic.partitions:
            assert partition.leader == partition.replicas[0]
            assert partition.isr == partition.replicas
            assert len(set(partition.replicas)) == 2
            assert (partition.leader_epoch, partition.partition_epoch) == (0, 0)
        assert topic.mod_revision == metadata.image.revision

    on_cluster(kind, test)


def test_what_was_made_is_there_after_a_restart(kind):
    images = []

    async def make(controller, metadata):
        await controller.create_topic("a", partitions=3, replication_factor=1)
        await controller.create_topic("b", partitions=1, replication_factor=3)
        await controller.configs.alter(BROKER, "", [ConfigOp("log.retention.ms", OpType.SET, "9")])
        images.append(metadata.image)

    async def look():
        async with kind.open() as store:
            metadata = await Metadata.open(store, random.Random(1))
            before, after = images[0], metadata.image
            assert after.cluster_id == before.cluster_id
            assert after.topics == before.topics
            assert after.topics_by_id == before.topics_by_id
            assert after.broker_configs == before.broker_configs == {"": {"log.retention.ms": "9"}}

    on_cluster(kind, make)
    asyncio.run(look())


def test_create_topic_validate_only_makes_nothing(kind):
    async def test(controller, metadata):
        revision = metadata.image.revision
        topic = await controller.create_topic(
            "a", partitions=2, replication_factor=1, validate_only=True
        )
        assert len(topic.partitions) == 2
        assert metadata.image.topics == {}
        assert (await metadata.store.read("topics/"))[0] == revision

    on_cluster(kind, test)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("INVALID_TOPIC_EXCEPTION", {"name": ""}),
        ("INVALID_TOPIC_EXCEPTION", {"name": "x" * 250}),
        ("INVALID_TOPIC_EXCEPTION", {"name": ".."}),
        ("INVALID_TOPIC_EXCEPTION", {"name": "a/b"}),
        ("INVALID_TOPIC_EXCEPTION", {"name": "has_dot"}),
        ("TOPIC_ALREADY_EXISTS", {"name": "has.dot"}),
        ("INVALID_PARTITIONS", {"partitions": 0}),
        ("INVALID_PARTITIONS", {"partitions": -1}),
        ("INVALID_REPLICATION_FACTOR", {"replication_factor": 0}),
        ("INVALID_REPLICATION_FACTOR", {"replication_factor": -1}),
        ("INVALID_REPLICATION_FACTOR", {"replication_factor": 4}),
        ("POLICY_VIOLATION", {"partitions": PARTITIONS_PER_REQUEST + 1}),
        ("INVALID_REQUEST", {"assignments": {0: [1]}}),
        ("INVALID_CONFIG", {"configs": {"no.such.key": "1"}}),
        ("INVALID_CONFIG", {"configs": {"retention.ms": "soon"}}),
        ("INVALID_CONFIG", {"configs": {"cleanup.policy": "x" * 40_000}}),
    ],
)
def test_create_topic_refuses(kind, code, arguments):
    async def test(controller, metadata):
        await controller.create_topic("has.dot", partitions=1, replication_factor=1)
        image = metadata.image
        valid = {"name": "new", "partitions": 1, "replication_factor": 1}
        await refused(ErrorCode[code], controller.create_topic(**{**valid, **arguments}))
        assert metadata.image is image

    on_cluster(kind, test)


@pytest.mark.parametrize(
    "assignments", [{0: []}, {0: [1, 1]}, {0: [4]}, {0: [1], 1: [1, 2]}, {1: [1]}, {0: [1], 2: [1]}]
)
def test_create_topic_refuses_assignments(kind, assignments):
    async def test(controller, metadata):
        await refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            controller.create_topic("a", assignments=assignments),
        )

    on_cluster(kind, test)


def test_create_topic_takes_assignments_as_they_are(kind):
    async def test(controller, metadata):
        topic = await controller.create_topic("a", assignments={1: [3, 1], 0: [2, 3]})
        assert [partition.replicas for partition in topic.partitions] == [(2, 3), (3, 1)]

    on_cluster(kind, test)


def test_of_concurrent_creations_of_a_name_one_wins(kind):
    async def test(controller, metadata):
        calls = [
            controller.create_topic(name, partitions=2, replication_factor=1)
            for name in ("a", "a", "x.y", "x_y", "a")
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        codes = [getattr(result, "code", None) for result in results]
        exists, invalid = ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.INVALID_TOPIC_EXCEPTION
        assert codes == [None, exists, None, invalid, exists]
        assert list(metadata.image.topics) == ["a", "x.y"]
        await controller.delete_topic(metadata.image.topics["x.y"].id)
        await controller.create_topic("x_y", partitions=1, replication_factor=1)

    on_cluster(kind, test)


def test_a_thousand_partitions_are_one_revision(kind):
    async def test(controller, metadata):
        before = metadata.image.revision
        await controller.create_topic("big", partitions=1_000, replication_factor=1)
        assert metadata.image.revision == before + 1

    on_cluster(kind, test)


def test_delete_topic_leaves_nothing(kind):
    async def test(controller, metadata):
        await controller.create_topic("other", partitions=1, replication_factor=1)
        before = await metadata.store.read("")
        topic = await controller.create_topic("a", partitions=3, replication_factor=1)
        assert await controller.delete_topic(topic.id) == topic
        assert list(metadata.image.topics) == ["other"]
        assert topic.id not in metadata.image.topics_by_id
        assert (await metadata.store.read(""))[1] == before[1]
        await refused(ErrorCode.UNKNOWN_TOPIC_ID, controller.delete_topic(topic.id))
        await refused(ErrorCode.UNKNOWN_TOPIC_ID, controller.delete_topic(Uuid(bytes(16))))
        again = await controller.create_topic("a", partitions=1, replication_factor=1)
        assert again.id != topic.id

    on_cluster(kind, test)


def test_create_partitions(kind):
    async def test(controller, metadata):
        first = await controller.create_topic("a", partitions=2, replication_factor=2)
        await controller.create_partitions("a", 4, validate_only=True)
        assert metadata.image.topics["a"] == first
        await controller.create_partitions("a", 4)
        await controller.create_partitions("a", 5, [[3, 2]])
        topic = metadata.image.topics["a"]
        assert topic.id == first.id
        assert topic.partitions[:2] == first.partitions
        assert [partition.index for partition in topic.partitions] == list(range(5))
        assert topic.partitions[4].replicas == (3, 2)
        assert all(len(partition.replicas) == 2 for partition in topic.partitions)

    on_cluster(kind, test)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("UNKNOWN_TOPIC_OR_PARTITION", ("b", 3)),
        ("INVALID_PARTITIONS", ("a", 2)),
        ("INVALID_PARTITIONS", ("a", 1)),
        ("INVALID_PARTITIONS", ("a", -1)),
        ("POLICY_VIOLATION", ("a", 2**31 - 1)),
        ("INVALID_REPLICA_ASSIGNMENT", ("a", 3, [])),
        ("INVALID_REPLICA_ASSIGNMENT", ("a", 3, [[1], [2]])),
        ("INVALID_REPLICA_ASSIGNMENT", ("a", 3, [[1, 2]])),
        ("INVALID_REPLICA_ASSIGNMENT", ("a", 3, [[9]])),
    ],
)
def test_create_partitions_refuses(kind, code, arguments):
    async def test(controller, metadata):
        await controller.create_topic("a", partitions=2, replication_factor=1)
        await refused(ErrorCode[code], controller.create_partitions(*arguments))

    on_cluster(kind, test)


def test_alter_configs_of_topics(kind):
    async def test(controller, metadata):
        def configs():
            return metadata.image.topics["a"].configs

        await controller.create_topic("a", partitions=2, replication_factor=1)
        await controller.configs.alter(TOPIC, "a", [ConfigOp("retention.ms", OpType.SET, "7")])
        assert configs() == {"retention.ms": "7"}
        append = ConfigOp("cleanup.policy", OpType.APPEND, "compact")
        await controller.configs.alter(
            TOPIC, "a", [append, ConfigOp("retention.ms", OpType.DELETE, None)]
        )
        assert configs() == {"cleanup.policy": "delete,compact"}
        revision = metadata.image.revision
        await controller.configs.alter(TOPIC, "a", [append])
        assert metadata.image.revision == revision
        subtract = ConfigOp("cleanup.policy", OpType.SUBTRACT, "delete")
        await controller.configs.alter(TOPIC, "a", [subtract], validate_only=True)
        assert configs() == {"cleanup.policy": "delete,compact"}
        await controller.configs.alter(TOPIC, "a", [subtract])
        assert configs() == {"cleanup.policy": "compact"}
        await controller.configs.alter(
            TOPIC, "a", [ConfigOp("retention.bytes", OpType.SET, "1")], replace=True
        )
        assert configs() == {"retention.bytes": "1"}
        assert len(metadata.image.topics["a"].partitions) == 2

    on_cluster(kind, test)


def test_alter_configs_of_brokers(kind):
    async def test(controller, metadata):
        for resource in ("", "2"):
            await controller.configs.alter(
                BROKER, resource, [ConfigOp("log.retention.ms", OpType.SET, "7")]
            )
        assert metadata.image.broker_configs == {
            "": {"log.retention.ms": "7"},
            "2": {"log.retention.ms": "7"},
        }
        delete = ConfigOp("log.retention.ms", OpType.DELETE, None)
        await controller.configs.alter(BROKER, "2", [delete])
        assert metadata.image.broker_configs == {"": {"log.retention.ms": "7"}}
        assert "configs/brokers/2" not in (await metadata.store.read(""))[1]

    on_cluster(kind, test)


@pytest.mark.parametrize(
    ("code", "resource", "name", "op"),
    [
        ("UNKNOWN_TOPIC_OR_PARTITION", TOPIC, "b", ("retention.ms", OpType.SET, "1")),
        ("INVALID_REQUEST", TOPIC, "a", ("retention.ms", OpType.SET, None)),
        ("INVALID_CONFIG", TOPIC, "a", ("retention.ms", OpType.APPEND, "1")),
        ("INVALID_CONFIG", TOPIC, "a", ("retention.ms", OpType.SET, "x")),
        ("INVALID_CONFIG", TOPIC, "a", ("nonsense", OpType.SUBTRACT, "x")),
        ("INVALID_REQUEST", BROKER, "x", ("log.retention.ms", OpType.SET, "1")),
        ("INVALID_REQUEST", BROKER, "-1", ("log.retention.ms", OpType.SET, "1")),
        ("INVALID_REQUEST", BROKER, "9" * 5000, ("log.retention.ms", OpType.SET, "1")),
        ("BROKER_ID_NOT_REGISTERED", BROKER, "7", ("log.retention.ms", OpType.SET, "1")),
        ("INVALID_REQUEST", BROKER, "1", ("log.dirs", OpType.SET, "/")),
        ("INVALID_CONFIG", BROKER, "1", ("nonsense", OpType.SET, "1")),
    ],
)
def test_alter_configs_refuses(kind, code, resource, name, op):
    async def test(controller, metadata):
        await controller.create_topic("a", partitions=1, replication_factor=1)
        await refused(ErrorCode[code], controller.configs.alter(resource, name, [ConfigOp(*op)]))

    on_cluster(kind, test)


def test_concurrent_changes_of_a_topic_all_happen(kind):
    async def test(controller, metadata):
        topic = await controller.create_topic("a", partitions=1, replication_factor=1)
        await asyncio.gather(
            controller.configs.alter(TOPIC, "a", [ConfigOp("retention.ms", OpType.SET, "1")]),
            controller.configs.alter(TOPIC, "a", [ConfigOp("retention.bytes", OpType.SET, "2")]),
            controller.create_partitions("a", 3),
        )
        changed = metadata.image.topics["a"]
        assert changed.configs == {"retention.ms": "1", "retention.bytes": "2"}
        assert len(changed.partitions) == 3
        deletions = [controller.delete_topic(topic.id) for _ in range(2)]
        results = await asyncio.gather(*deletions, return_exceptions=True)
        assert [getattr(result, "code", None) for result in results] == [
            None,
            ErrorCode.UNKNOWN_TOPIC_ID,
        ]

    on_cluster(kind, test)


def test_producer_ids_are_never_given_twice(kind):
    firsts = []

    async def test(controller, metadata):
        firsts.extend(await asyncio.gather(*(controller.allocate_producer_ids() for _ in range(4))))

    on_cluster(kind, test, brokers=())
    if kind.name == "embedded":
        on_cluster(kind, test, brokers=())
    assert sorted(firsts) == list(range(0, len(firsts) * 1_000, 1_000))


def test_who_lost_the_election_cannot_write(kind):
    async def test(controller, metadata):
        other = Controller(metadata, 2, random.Random(1))
        assert not await other.maybe_become(await metadata.store.grant(3_600_000))
        create = {"name": "a", "partitions": 1, "replication_factor": 1}
        await refused(ErrorCode.NOT_CONTROLLER, other.create_topic(**create))
        assert metadata.image.controller_id == 1
        await metadata.store.txn([], [Delete("controller")])
        assert await other.maybe_become(await metadata.store.grant(3_600_000))
        await refused(ErrorCode.NOT_CONTROLLER, controller.create_topic(**create))
        assert not controller.is_active
        await other.create_topic(**create)
        assert metadata.image.controller_id == 2

    on_cluster(kind, test)


def test_a_broker_is_registered_once_and_goes_with_its_lease(kind):
    async def test(controller, metadata):
        lease = await metadata.store.grant(3_600_000)
        broker = {"host": "::1", "port": 9092, "rack": "r", "lease": lease}
        epoch = await controller.register_broker(9, **broker)
        image = metadata.image.brokers[9]
        assert (image.host, image.port, image.rack, image.epoch) == ("::1", 9092, "r", epoch)
        await refused(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION, controller.register_broker(9, **broker)
        )
        await metadata.store.revoke(lease)
        await metadata.wait_revision((await metadata.store.read(""))[0])
        assert list(metadata.image.brokers) == [1, 2, 3]

    on_cluster(kind, test)

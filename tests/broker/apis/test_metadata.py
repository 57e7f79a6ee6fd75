"""Metadata: topics by name, by id and all at once; topics made by asking; who the brokers are."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID
from ottla.broker.apis import metadata as module
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

VERSIONS = range(14)
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
INVALID = ErrorCode.INVALID_TOPIC_EXCEPTION
NOT_ASKED = -(2**31)
TOPIC_BITS = sum(1 << bit for bit in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_BITS = sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))


def by_name(*names, **options):
    return MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in names], **options)


def by_id(*ids, **options):
    topics = [MetadataRequestTopic(topic_id=topic_id, name=None) for topic_id in ids]
    return MetadataRequest(topics=topics, **options)


def codes(answer):
    return {row.name: row.error_code for row in answer.topics}


async def make_all(node):
    await node.topic("a", 2)
    await node.topic("__consumer_offsets")


@pytest.mark.parametrize("version", VERSIONS)
def test_topics_by_name(on_node, version):
    async def test(node):
        await make_all(node)
        answer = await node.ask(by_name("a", "__consumer_offsets"), version)
        assert [row.name for row in answer.topics] == ["a", "__consumer_offsets"]
        assert [row.is_internal for row in answer.topics] == [False, version >= 1]
        row = answer.topics[0]
        assert row.error_code == 0
        assert row.topic_id == (node.image.topics["a"].id if version >= 10 else ZERO_UUID)
        assert row.topic_authorized_operations == NOT_ASKED
        for index, partition in enumerate(row.partitions):
            assert (partition.error_code, partition.partition_index) == (0, index)
            assert partition.leader_id == 1
            assert partition.leader_epoch == (0 if version >= 7 else -1)
            assert (partition.replica_nodes, partition.isr_nodes) == ([1], [1])
            assert partition.offline_replicas == []
        assert answer.error_code == 0

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_brokers_and_the_cluster(on_node, version):
    async def test(node):
        answer = await node.ask(by_name(), version)
        (broker,) = answer.brokers
        assert (broker.node_id, broker.host) == (1, "127.0.0.1")
        assert broker.port > 0
        assert broker.rack == ("r1" if version >= 1 else None)
        assert answer.cluster_id == (node.image.cluster_id if version >= 2 else None)
        assert answer.controller_id == (1 if version >= 1 else -1)
        assert answer.cluster_authorized_operations == NOT_ASKED

    on_node(test, {"broker.rack": "r1"})


@pytest.mark.parametrize("version", VERSIONS)
def test_all_and_none(on_node, version):
    """In version 0 there is no null, and an empty list asks for all."""

    async def test(node):
        await make_all(node)
        everything = {"a": 0, "__consumer_offsets": 0}
        answer = await node.ask(by_name(), version)
        assert codes(answer) == (everything if version == 0 else {})
        if version >= 1:
            assert codes(await node.ask(MetadataRequest(topics=None), version)) == everything

    on_node(test)


@pytest.mark.parametrize("version", [12, 13])
def test_topics_by_id(on_node, version):
    async def test(node):
        await make_all(node)
        known, unknown = node.image.topics["a"].id, bytes(range(16))
        answer = await node.ask(by_id(known, unknown), version)
        first, second = answer.topics
        assert (first.error_code, first.name, first.topic_id) == (0, "a", known)
        assert len(first.partitions) == 2
        assert second.error_code == ErrorCode.UNKNOWN_TOPIC_ID
        assert (second.name, second.topic_id, second.partitions) == (None, unknown, [])
        assert list(node.image.topics) == ["a", "__consumer_offsets"]

    on_node(test)


@pytest.mark.parametrize("version", [10, 11])
def test_ids_before_version_12(on_node, version):
    async def test(node):
        await make_all(node)
        topics = [
            MetadataRequestTopic(name="a"),
            MetadataRequestTopic(name="a", topic_id=node.image.topics["a"].id),
            MetadataRequestTopic(name="new"),
        ]
        answer = await node.ask(MetadataRequest(topics=topics), version)
        assert [row.error_code for row in answer.topics] == [ErrorCode.INVALID_REQUEST] * 3
        assert [row.topic_id for row in answer.topics] == [each.topic_id for each in topics]
        answer = await node.ask(by_id(ZERO_UUID), version)
        assert codes(answer) == {"": ErrorCode.INVALID_REQUEST}
        assert "new" not in node.image.topics

    on_node(test)


@pytest.mark.parametrize("version", [12, 13])
def test_neither_name_nor_id(on_node, version):
    async def test(node):
        answer = await node.ask(by_id(ZERO_UUID), version)
        assert [row.error_code for row in answer.topics] == [INVALID]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_is_made_by_asking(on_node, version):
    """From version 4 on the client may say that it does not want to."""

    async def test(node):
        answer = await node.ask(by_name("new"), version)
        (row,) = answer.topics
        assert (row.error_code, len(row.partitions)) == (0, 3)
        assert [each.leader_id for each in row.partitions] == [1, 1, 1]
        await node.produce("new", 1, index=2)
        if version >= 4:
            answer = await node.ask(by_name("other", allow_auto_topic_creation=False), version)
            assert codes(answer) == {"other": UNKNOWN}
        assert list(node.image.topics) == ["new"]

    on_node(test, {"num.partitions": "3"})


@pytest.mark.parametrize("version", VERSIONS)
def test_no_topic_is_made_where_the_broker_does_not_allow_it(on_node, version):
    async def test(node):
        assert codes(await node.ask(by_name("new", "a b"), version)) == {
            "new": UNKNOWN,
            "a b": INVALID,
        }
        assert not node.image.topics

    on_node(test, {"auto.create.topics.enable": "false"})


def test_asking_for_all_makes_none(on_node):
    async def test(node):
        assert codes(await node.ask(MetadataRequest(topics=None))) == {}
        assert not node.image.topics

    on_node(test)


NAMES = ("", ".", "..", "a b", "a/b", "a\0", "é", "x" * 250, "a,b")


def test_names_that_no_topic_may_have(on_node):
    async def test(node):
        answer = await node.ask(by_name(*NAMES, "x" * 249))
        assert codes(answer) == {**dict.fromkeys(NAMES, INVALID), "x" * 249: 0}
        assert list(node.image.topics) == ["x" * 249]
        answer = await node.ask(by_name(*NAMES, allow_auto_topic_creation=False))
        assert codes(answer) == dict.fromkeys(NAMES, INVALID)

    on_node(test)


def test_a_name_that_collides_with_another(on_node):
    async def test(node):
        await node.topic("a.b")
        assert codes(await node.ask(by_name("a_b", "a.b"))) == {"a_b": INVALID, "a.b": 0}

    on_node(test)


def test_what_cannot_be_made_says_why(on_node):
    async def test(node):
        answer = await node.ask(by_name("new"))
        assert codes(answer) == {"new": ErrorCode.INVALID_REPLICATION_FACTOR}

    on_node(test, {"default.replication.factor": "3"})


def test_a_repeat_is_answered_once(on_node):
    async def test(node):
        await make_all(node)
        answer = await node.ask(by_name(*["a", "new", "none such"] * 100))
        assert [row.name for row in answer.topics] == ["a", "new", "none such"]
        topic_id = node.image.topics["a"].id
        assert len((await node.ask(by_id(*[topic_id] * 100))).topics) == 1

    on_node(test)


def test_no_more_topics_are_made_than_one_request_may_ask_for(on_node, monkeypatch):
    async def test(node):
        monkeypatch.setattr(module, "PARTITIONS_PER_REQUEST", 4)
        answer = await node.ask(by_name("a", "b", "c"))
        assert codes(answer) == {"a": 0, "b": 0, "c": UNKNOWN}
        assert codes(await node.ask(by_name("a", "b", "c"))) == {"a": 0, "b": 0, "c": 0}

    on_node(test, {"num.partitions": "2"})


@pytest.mark.parametrize("version", range(8, 14))
def test_authorised_operations_on_demand(on_node, version):
    async def test(node):
        await make_all(node)
        request = by_name("a", include_topic_authorized_operations=True)
        if version <= 10:
            request.include_cluster_authorized_operations = True
        answer = await node.ask(request, version)
        assert answer.topics[0].topic_authorized_operations == TOPIC_BITS
        expected = CLUSTER_BITS if version <= 10 else NOT_ASKED
        assert answer.cluster_authorized_operations == expected

    on_node(test)


def test_a_broker_that_listens_everywhere_is_where_the_client_found_it(on_node):
    async def test(node):
        (broker,) = (await node.ask(by_name())).brokers
        assert broker.host == "127.0.0.1"
        assert node.image.brokers[1].host == "0.0.0.0"

    on_node(test, {"listeners": "PLAINTEXT://0.0.0.0:0"})


def test_a_broker_is_where_it_says_it_is(on_node):
    async def test(node):
        (broker,) = (await node.ask(by_name())).brokers
        assert (broker.host, broker.port) == ("kafka.example", 19092)

    on_node(test, {"advertised.listeners": "PLAINTEXT://kafka.example:19092"})


def test_a_deleted_topic_is_unknown(on_node):
    async def test(node):
        await make_all(node)
        topic_id = node.image.topics["a"].id
        await node.services.controller.delete_topic(topic_id)
        answer = await node.ask(by_name("a", allow_auto_topic_creation=False))
        assert codes(answer) == {"a": UNKNOWN}
        answer = await node.ask(by_id(topic_id))
        assert [row.error_code for row in answer.topics] == [ErrorCode.UNKNOWN_TOPIC_ID]

    on_node(test)


def test_replicas_whose_directory_failed_are_offline(on_node):
    async def test(node):
        await node.topic("a", 2)
        failed = node.services.replicas.directories[0]
        failed.go_offline(OSError(5, "Input/output error"))
        lost = {partition.index for partition in failed if partition.topic == "a"}
        assert len(lost) == 1
        answer = await node.ask(MetadataRequest(topics=None))
        [topic] = [each for each in answer.topics if each.name == "a"]
        node_id = node.services.node_id
        for row in topic.partitions:
            assert row.offline_replicas == ([node_id] if row.partition_index in lost else [])

    on_node(test, log_dirs=2)

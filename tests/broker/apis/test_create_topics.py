"""CreateTopics: what is made, what it answers, and what is refused with which code."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.base.options import TOPIC_OPTIONS, ConfigSource
from ottla.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)


def topic(name, partitions=1, replicas=1, assignments=(), **configs):
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in assignments
        ],
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in configs.items()
        ],
    )


def create(*topics, **options):
    return CreateTopicsRequest(topics=list(topics), **options)


def test_a_topic_does_not_contradict_what_this_broker_says_of_all(on_node):
    async def test(node):
        for key in ("min_compaction_lag_ms", "retention_ms"):
            (row,) = (await node.ask(create(topic(key, **{key: "6"})))).topics
            refused = ErrorCode.INVALID_CONFIG if key.startswith("min") else ErrorCode.NONE
            assert row.error_code == refused
        assert list(node.image.topics) == ["retention_ms"]

    on_node(test, {"log.cleaner.max.compaction.lag.ms": "5"})


@pytest.mark.parametrize("version", range(2, 8))
def test_what_each_version_answers(on_node, version):
    async def test(node):
        answer = await node.ask(create(topic("orders", 3, retention_ms="5")), version)
        (row,) = answer.topics
        assert (row.name, row.error_code) == ("orders", 0)
        made = node.image.topics["orders"]
        assert len(made.partitions) == 3
        assert row.topic_id == (made.id if version >= 7 else ZERO_UUID)
        if version < 5:
            return
        assert (row.num_partitions, row.replication_factor) == (3, 1)
        configs = {config.name: config for config in row.configs}
        assert list(configs) == list(TOPIC_OPTIONS)
        assert configs["retention.ms"].value == "5"
        assert configs["retention.ms"].config_source == ConfigSource.DYNAMIC_TOPIC_CONFIG
        assert configs["segment.bytes"].config_source == ConfigSource.DEFAULT_CONFIG
        assert configs["max.message.bytes"].value == "2000000"
        assert configs["max.message.bytes"].config_source == ConfigSource.STATIC_BROKER_CONFIG

    on_node(test, {"message.max.bytes": "2000000"})


def test_what_is_made_is_served_when_the_answer_is_there(on_node):
    async def test(node):
        await node.ask(create(topic("orders", 2)))
        for index in range(2):
            partition = node.services.replicas.leader_of("orders", index)
            assert partition.log.log_end_offset == 0

    on_node(test)


def test_minus_one_is_the_brokers_default(on_node):
    async def test(node):
        answer = await node.ask(create(topic("orders", -1, -1)))
        assert (answer.topics[0].num_partitions, answer.topics[0].replication_factor) == (4, 1)

    on_node(test, {"num.partitions": "4"})


def test_validate_only_answers_and_makes_nothing(on_node):
    async def test(node):
        answer = await node.ask(
            create(topic("orders", 3), topic("bad", retention_ms="x"), validate_only=True)
        )
        good, bad = answer.topics
        assert (good.error_code, good.num_partitions) == (0, 3)
        assert bad.error_code == ErrorCode.INVALID_CONFIG
        assert not node.image.topics

    on_node(test)


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (topic("a", 0), ErrorCode.INVALID_PARTITIONS, "partitions"),
        (topic("a", -2), ErrorCode.INVALID_PARTITIONS, "partitions"),
        (topic("a", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR, "replication"),
        (topic("a", 1, 2), ErrorCode.INVALID_REPLICATION_FACTOR, "1 broker"),
        (topic(""), ErrorCode.INVALID_TOPIC_EXCEPTION, "empty"),
        (topic(".."), ErrorCode.INVALID_TOPIC_EXCEPTION, ".."),
        (topic("a b"), ErrorCode.INVALID_TOPIC_EXCEPTION, "a b"),
        (topic("a" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION, "249"),
        (topic("there"), ErrorCode.TOPIC_ALREADY_EXISTS, "there"),
        (topic("dot_ted"), ErrorCode.INVALID_TOPIC_EXCEPTION, "dot.ted"),
        (topic("__cluster_metadata"), ErrorCode.TOPIC_AUTHORIZATION_FAILED, ""),
        (topic("a", retention_ms="soon"), ErrorCode.INVALID_CONFIG, "retention.ms"),
        (topic("a", no_such_key="1"), ErrorCode.INVALID_CONFIG, "no.such.key"),
        (
            topic("a", min_compaction_lag_ms="6", max_compaction_lag_ms="5"),
            ErrorCode.INVALID_CONFIG,
            "max.compaction.lag.ms",
        ),
        (topic("a", retention_ms=None), ErrorCode.INVALID_CONFIG, "retention.ms"),
        (topic("a", -1, -1, [(0, [9])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "9"),
        (topic("a", -1, -1, [(0, [])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "empty"),
        (topic("a", -1, -1, [(0, [1, 1])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "once"),
        (topic("a", -1, -1, [(1, [1])]), ErrorCode.INVALID_REPLICA_ASSIGNMENT, "from 0"),
        (
            topic("a", -1, -1, [(0, [1]), (0, [1])]),
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "more than once",
        ),
        (topic("a", 1, -1, [(0, [1])]), ErrorCode.INVALID_REQUEST, "both"),
        (topic("a", -1, 1, [(0, [1])]), ErrorCode.INVALID_REQUEST, "both"),
    ],
)
def test_refused(on_node, asked, code, said):
    async def test(node):
        await node.topic("there")
        await node.topic("dot.ted")
        answer = await node.ask(create(topic("good"), asked))
        good, row = answer.topics
        assert good.error_code == 0
        assert (row.error_code, row.name) == (code, asked.name), row
        assert said in row.error_message
        assert sorted(node.image.topics) == ["dot.ted", "good", "there"]

    on_node(test)


def test_assignments_place_the_replicas(on_node):
    async def test(node):
        answer = await node.ask(create(topic("orders", -1, -1, [(1, [1]), (0, [1])])))
        assert (answer.topics[0].error_code, answer.topics[0].num_partitions) == (0, 2)

    on_node(test)


def test_a_name_that_comes_twice_is_refused_once(on_node):
    async def test(node):
        answer = await node.ask(create(topic("a"), topic("b"), topic("a", 2)))
        assert [(row.name, row.error_code) for row in answer.topics] == [
            ("a", ErrorCode.INVALID_REQUEST),
            ("b", 0),
        ]
        assert list(node.image.topics) == ["b"]

    on_node(test)


def test_too_many_partitions_in_all_make_nothing(on_node):
    async def test(node):
        half = PARTITIONS_PER_REQUEST // 2 + 1
        answer = await node.ask(create(topic("a", half), topic("b", half), topic("c", -7)))
        assert [row.error_code for row in answer.topics] == [ErrorCode.POLICY_VIOLATION] * 3
        assert not node.image.topics

    on_node(test)


def test_two_clients_make_the_same_topic(on_node):
    async def test(node):
        answers = await asyncio.gather(
            *(node.ask(create(topic("a", count), topic(f"b{count}"))) for count in (1, 2, 3))
        )
        codes = [[row.error_code for row in answer.topics] for answer in answers]
        exists = ErrorCode.TOPIC_ALREADY_EXISTS
        assert codes == [[0, 0], [exists, 0], [exists, 0]]
        assert len(node.image.topics["a"].partitions) == 1

    on_node(test)


def test_names_that_collide_within_one_request(on_node):
    async def test(node):
        answer = await node.ask(create(topic("a.b"), topic("a_b")))
        codes = [row.error_code for row in answer.topics]
        assert codes == [0, ErrorCode.INVALID_TOPIC_EXCEPTION]

    on_node(test)

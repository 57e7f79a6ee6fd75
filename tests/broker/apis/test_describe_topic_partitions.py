"""DescribeTopicPartitions: pages that put together are the whole."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)


def describe(*names, limit=2000, cursor=None):
    return DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=cursor and Cursor(topic_name=cursor[0], partition_index=cursor[1]),
    )


def listed(answer):
    return [
        (topic.name, row.partition_index) for topic in answer.topics for row in topic.partitions
    ]


async def make_three(node):
    for name, partitions in (("c", 1), ("a", 3), ("b", 2)):
        await node.topic(name, partitions)


ALL = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)]


def test_a_topic(on_node):
    async def test(node):
        made = await node.topic("a", 2)
        (topic,) = (await node.ask(describe("a"))).topics
        assert (topic.error_code, topic.name, topic.topic_id) == (0, "a", made.id)
        assert not topic.is_internal
        # read, write, create, delete, alter, describe, describe and alter configs
        assert topic.topic_authorized_operations == sum(
            1 << bit for bit in (3, 4, 5, 6, 7, 8, 10, 11)
        )
        row = topic.partitions[1]
        assert (row.error_code, row.partition_index, row.leader_id, row.leader_epoch) == (
            0,
            1,
            1,
            0,
        )
        assert row.replica_nodes == row.isr_nodes == [1]
        assert row.eligible_leader_replicas == row.last_known_elr == row.offline_replicas == []

    on_node(test)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 0, -5])
@pytest.mark.parametrize("names", [(), ("c", "a", "b", "a")])
def test_pages_put_together_are_the_whole(on_node, limit, names):
    async def test(node):
        await make_three(node)
        found, cursor = [], None
        for _ in range(len(ALL) + 1):
            answer = await node.ask(describe(*names, limit=limit, cursor=cursor))
            page = listed(answer)
            assert 1 <= len(page) <= max(limit, 1)
            found += page
            if answer.next_cursor is None:
                break
            cursor = (answer.next_cursor.topic_name, answer.next_cursor.partition_index)
        assert found == ALL

    on_node(test)


def test_the_brokers_limit_holds(on_node):
    async def test(node):
        await make_three(node)
        answer = await node.ask(describe())
        assert listed(answer) == ALL[:2]
        assert answer.next_cursor == Cursor(topic_name="a", partition_index=2)

    on_node(test, {"max.request.partition.size.limit": "2"})


def test_topics_that_are_not_there(on_node):
    async def test(node):
        await make_three(node)
        answer = await node.ask(describe("b", "0none", "a b"))
        assert [(topic.name, topic.error_code) for topic in answer.topics] == [
            ("0none", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ("a b", ErrorCode.INVALID_TOPIC_EXCEPTION),
            ("b", 0),
        ]
        # Of all topics one that has gone since is passed over; of a list it is told.
        answer = await node.ask(describe(cursor=("aa", 1)))
        assert listed(answer) == ALL[3:]
        answer = await node.ask(describe("aa", "c", cursor=("aa", 1)))
        assert [topic.error_code for topic in answer.topics] == [
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            0,
        ]

    on_node(test)


def test_a_cursor_past_the_partitions_goes_on_with_the_next_topic(on_node):
    async def test(node):
        await make_three(node)
        answer = await node.ask(describe(cursor=("a", 99)))
        assert listed(answer) == ALL[3:]

    on_node(test)


@pytest.mark.parametrize("cursor", [("c", 0), ("a", -1)])
def test_a_cursor_that_cannot_be(on_node, cursor):
    async def test(node):
        await make_three(node)
        answer = await node.ask(describe("a", "b", cursor=cursor))
        assert [(topic.name, topic.error_code) for topic in answer.topics] == [
            ("a", ErrorCode.INVALID_REQUEST),
            ("b", ErrorCode.INVALID_REQUEST),
        ]
        assert listed(answer) == []

    on_node(test)

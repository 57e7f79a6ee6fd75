"""DeleteTopics: by name and by id, and who is refused."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

NO_ID = Uuid(b"\1" * 16)


def by_name(*names):
    return DeleteTopicsRequest(topic_names=list(names), timeout_ms=1000)


def of(*asked):
    return DeleteTopicsRequest(
        topics=[DeleteTopicState(name=name, topic_id=topic_id) for name, topic_id in asked],
        timeout_ms=1000,
    )


def rows(answer):
    return [(row.name, row.topic_id, row.error_code) for row in answer.responses]


@pytest.mark.parametrize("version", range(1, 6))
def test_by_name(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        await node.topic("b")
        answer = await node.ask(by_name("a", "none"), version)
        assert rows(answer) == [
            ("a", ZERO_UUID, 0),
            ("none", ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ]
        assert list(node.image.topics) == ["b"]

    on_node(test)


def test_by_name_or_id(on_node):
    async def test(node):
        a, b = await node.topic("a"), await node.topic("b")
        answer = await node.ask(
            of(("a", ZERO_UUID), (None, b.id), (None, NO_ID), (None, ZERO_UUID), ("c", NO_ID))
        )
        assert rows(answer) == [
            ("a", a.id, 0),
            ("b", b.id, 0),
            (None, NO_ID, ErrorCode.UNKNOWN_TOPIC_ID),
            (None, ZERO_UUID, ErrorCode.INVALID_REQUEST),
            ("c", NO_ID, ErrorCode.INVALID_REQUEST),
        ]
        assert not node.image.topics

    on_node(test)


def test_the_name_is_free_at_once_and_the_new_topic_is_empty(on_node):
    async def test(node):
        first = await node.topic("a")
        await node.produce("a", 5)
        await node.ask(of(("a", ZERO_UUID)))
        second = await node.topic("a")
        assert second.id != first.id
        assert node.services.replicas.leader_of("a", 0).log.log_end_offset == 0

    on_node(test)


def test_what_is_named_twice_stays(on_node):
    async def test(node):
        a = await node.topic("a")
        b = await node.topic("b")
        c = await node.topic("c")
        answer = await node.ask(
            of(
                ("a", ZERO_UUID), ("a", ZERO_UUID),
                (None, b.id), (None, b.id),
                ("c", ZERO_UUID), (None, c.id),
            )
        )  # fmt: skip
        assert {row.error_code for row in answer.responses} == {ErrorCode.INVALID_REQUEST}
        assert [row[:2] for row in rows(answer)] == [
            ("a", ZERO_UUID),
            (None, b.id),
            ("c", ZERO_UUID),
            (None, c.id),
        ]
        assert sorted(node.image.topics) == ["a", "b", "c"]
        assert node.image.topics["a"].id == a.id

    on_node(test)


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (1, ErrorCode.INVALID_REQUEST),
        (2, ErrorCode.INVALID_REQUEST),
        (3, ErrorCode.TOPIC_DELETION_DISABLED),
        (5, ErrorCode.TOPIC_DELETION_DISABLED),
    ],
)
def test_deletion_can_be_disabled(on_node, version, code):
    async def test(node):
        await node.topic("a")
        answer = await node.ask(by_name("a"), version)
        assert [row.error_code for row in answer.responses] == [code]
        assert list(node.image.topics) == ["a"]

    on_node(test, {"delete.topic.enable": "false"})


def test_two_clients_delete_the_same_topic(on_node):
    async def test(node):
        a = await node.topic("a")
        answers = await asyncio.gather(
            node.ask(by_name("a"), 5), node.ask(by_name("a"), 5), node.ask(of((None, a.id)))
        )
        assert [answer.responses[0].error_code for answer in answers] == [
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.UNKNOWN_TOPIC_ID,
        ]

    on_node(test)

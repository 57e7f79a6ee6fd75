"""FindCoordinator: the topic is made for the first who asks, and its leaders are told of."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.runtime import java_hash, partition_of
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest

FEW = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "2"}


def said(answer):
    return (answer.error_code, answer.node_id, answer.host, answer.port)


NOBODY = (-1, "", -1)


@pytest.mark.parametrize("version", range(4))
def test_one_group(on_node, version):
    async def test(node):
        answer = await node.ask(FindCoordinatorRequest(key="g"), version)
        (broker,) = node.image.brokers.values()
        assert said(answer) == (0, broker.node_id, broker.host, broker.port)
        assert answer.error_message is None
        topic = node.image.topics["__consumer_offsets"]
        assert len(topic.partitions) == 3
        assert topic.configs == {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": "104857600",
        }
        if version:
            answer = await node.ask(FindCoordinatorRequest(key="t", key_type=1), version)
            assert said(answer) == (0, broker.node_id, broker.host, broker.port)
            topic = node.image.topics["__transaction_state"]
            assert len(topic.partitions) == 2
            assert topic.configs == {
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": "1",
                "segment.bytes": "104857600",
                "unclean.leader.election.enable": "false",
            }

    on_node(test, FEW)


@pytest.mark.parametrize("version", range(4, 7))
def test_many_keys(on_node, version):
    async def test(node):
        keys = ["g", "", "h", "g"]
        request = FindCoordinatorRequest(coordinator_keys=keys, key_type=0)
        answer = await node.ask(request, version)
        (broker,) = node.image.brokers.values()
        assert [row.key for row in answer.coordinators] == ["g", "", "h"]
        assert {said(row) for row in answer.coordinators} == {
            (0, broker.node_id, broker.host, broker.port)
        }
        for kind, code in (
            (2, ErrorCode.INVALID_REQUEST),
            (77, ErrorCode.INVALID_REQUEST),
        ):
            request = FindCoordinatorRequest(coordinator_keys=["g"], key_type=kind)
            (row,) = (await node.ask(request, version)).coordinators
            assert said(row) == (code, *NOBODY)
            assert row.error_message
        assert (await node.ask(FindCoordinatorRequest(), version)).coordinators == []

    on_node(test, FEW)


def test_many_who_ask_first_make_one_topic(on_node):
    async def test(node):
        asked = [node.begin(FindCoordinatorRequest(key=f"g{number}"), 3) for number in range(20)]
        answers = await asyncio.gather(*asked)
        assert {answer.error_code for answer in answers} == {0}

    on_node(test, FEW)


def test_keys_lie_where_java_puts_them():
    assert [java_hash(text) for text in ("", "a", "group", "grüße", "𝄞")] == [
        0,
        97,
        98629247,
        98768023,
        1772394,
    ]
    assert java_hash("polygenelubricants") == -(1 << 31)
    assert partition_of("polygenelubricants", 50) == 0
    assert (
        partition_of("console-consumer-12345", 50) == abs(java_hash("console-consumer-12345")) % 50
    )

"""OffsetForLeaderEpoch: where epochs end, for readers that may have to go back."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)


def ask(epoch, *, current=-1, topic="a", index=0):
    return OffsetForLeaderEpochRequest(
        topics=[
            OffsetForLeaderTopic(
                topic=topic,
                partitions=[
                    OffsetForLeaderPartition(
                        partition=index, current_leader_epoch=current, leader_epoch=epoch
                    )
                ],
            )
        ]
    )


async def make(node):
    """Epochs 0 (offsets 0 to 2) and 5 (offsets 3 and 4), and the leader is of epoch 5."""
    await node.topic("a")
    partition = await node.produce("a", 3)
    partition.leader_epoch = 5
    await node.produce("a", 2)
    return partition


@pytest.mark.parametrize("version", range(2, 5))
@pytest.mark.parametrize(
    ("epoch", "answered"),
    [(0, (0, 3)), (3, (0, 3)), (5, (5, 5)), (6, (-1, -1)), (-1, (-1, -1))],
)
def test_where_an_epoch_ends(on_node, version, epoch, answered):
    async def test(node):
        await make(node)
        (topic,) = (await node.ask(ask(epoch), version)).topics
        (row,) = topic.partitions
        assert (topic.topic, row.partition, row.error_code) == ("a", 0, 0)
        assert (row.leader_epoch, row.end_offset) == answered

    on_node(test)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"current": 4}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"current": 6}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"topic": "none"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"index": 3}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_refused(on_node, options, code):
    async def test(node):
        await make(node)
        row = (await node.ask(ask(0, **options))).topics[0].partitions[0]
        assert (row.error_code, row.leader_epoch, row.end_offset) == (code, -1, -1)

    on_node(test)


def test_a_log_on_a_failed_disk(on_node):
    async def test(node):
        partition = await make(node)
        partition.refusal = ErrorCode.KAFKA_STORAGE_ERROR
        row = (await node.ask(ask(0, current=5))).topics[0].partitions[0]
        assert row.error_code == ErrorCode.KAFKA_STORAGE_ERROR

    on_node(test)

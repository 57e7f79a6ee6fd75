"""Fetch by readers that say which epoch they read last: kafka-python does, and followers."""

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic


def fetch(offset, *, last_epoch, session=(0, -1)):
    partition = FetchPartition(
        partition=0, fetch_offset=offset, last_fetched_epoch=last_epoch, partition_max_bytes=10_000
    )
    return FetchRequest(
        max_wait_ms=60_000,
        min_bytes=1,
        session_id=session[0],
        session_epoch=session[1],
        topics=[FetchTopic(topic="a", partitions=[partition])],
    )


async def rows(node, request):
    response = await node.ask(request, 12)
    return [row for topic in response.responses for row in topic.partitions]


async def make(node):
    """Epochs 0 (offsets 0 to 2) and 5 (offsets 3 and 4), and the leader is of epoch 5."""
    await node.topic("a")
    partition = await node.produce("a", 3)
    partition.leader_epoch = 5
    await node.produce("a", 2)
    return partition


def test_a_reader_is_told_where_its_epoch_ended(on_node):
    async def test(node):
        await make(node)
        for offset, last_epoch, told in (
            (3, 0, None),
            (4, 5, None),
            (4, 0, (0, 3)),
            (3, 2, (0, 3)),
            (1_000, 0, (0, 3)),  # past the end: not out of range, it has to go back
            (6, 5, (5, 5)),
        ):
            (row,) = await rows(node, fetch(offset, last_epoch=last_epoch))
            assert row.error_code == 0
            if told is None:
                assert row.diverging_epoch is None
                assert row.records
            else:
                assert (row.diverging_epoch.epoch, row.diverging_epoch.end_offset) == told
                assert not row.records

    on_node(test)


def test_an_epoch_that_nobody_knows_is_out_of_range(on_node):
    async def test(node):
        partition = await make(node)
        (row,) = await rows(node, fetch(4, last_epoch=6))
        assert row.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        partition.log.log_start_offset = 4
        (row,) = await rows(node, fetch(3, last_epoch=0))
        assert row.error_code == ErrorCode.OFFSET_OUT_OF_RANGE

    on_node(test)


def test_a_session_tells_it_though_nothing_else_changed(on_node):
    async def test(node):
        await make(node)
        opened = await node.ask(fetch(3, last_epoch=0, session=(0, 0)), 12)
        request = fetch(4, last_epoch=0, session=(opened.session_id, 1))
        (row,) = await rows(node, request)
        assert row.diverging_epoch.end_offset == 3

    on_node(test)

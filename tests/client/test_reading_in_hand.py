"""What a reader has in hand, or has not asked for yet, while things happen to what it reads."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.client import records
from ottla.protocol.messages.fetch import AbortedTransaction, EpochEndOffset, PartitionData
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.client.test_cluster import topic_row
from tests.client.test_reading_faults import T0, T1, Nodes, batch, offsets, play

NEW_ID = Uuid(bytes(16 * [9]))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_what_comes_before_a_batch_that_cannot_be_unpacked_is_handed_out(stage, monkeypatch):
    monkeypatch.setattr(records, "DECOMPRESSED_BYTES", 1_000)
    nodes = Nodes(stage)
    bomb = Record(2, 0, None, bytes(100_000), ())
    nodes.log[0] = batch(0) + bytes(build_batch([bomb], base_offset=2, codec=1))

    async def script(consumer):
        consumer.assign([T0])
        assert [each.offset for each in await consumer.poll(5_000)] == [0, 1]
        for _ in range(2):
            with pytest.raises(KafkaError, match="t-0 from offset 2"):
                await consumer.poll(5_000)

    play(stage, script)


def test_a_commit_inside_a_batch_names_the_epoch_of_that_batch(stage):
    nodes = Nodes(stage)
    nodes.log = {0: batch(0, epoch=1), 2: batch(2, count=3, epoch=5)}

    async def script(consumer):
        consumer.assign([T0])
        async for record in consumer:
            if record.offset == 3:
                break
        await consumer.commit()
        row = nodes.commits[-1].topics[0].partitions[0]
        assert (row.committed_offset, row.committed_leader_epoch) == (4, 5)

    play(stage, script, group_id="g")


def test_who_does_not_read_does_not_fetch_aborted_records_on_and_on(stage):
    nodes = Nodes(stage)
    aborted = [AbortedTransaction(producer_id=7, first_offset=0)]

    def endless(request, node):
        response = fetch(request, node)
        for row, asked in zip(response.responses[0].partitions, rows_of(request), strict=True):
            at = asked.fetch_offset
            found = [Record(at + n, 0, None, bytes(50), ()) for n in range(20)]
            built = build_batch(
                found, base_offset=at, producer_id=7, producer_epoch=0, base_sequence=0,
                transactional=True,
            )  # fmt: skip
            row.records, row.aborted_transactions = bytes(built), aborted
        return response

    fetch, nodes.fetch = nodes.fetch, endless

    async def script(consumer):
        consumer.assign([T0])
        consumer.seek(T0, 0)
        await consumer.position(T0)
        await asyncio.sleep(60)
        assert 2 < len(nodes.fetched) < 40, "what is left out counts, too"
        before = len(nodes.fetched)
        assert await consumer.poll(1_000) == []
        assert len(nodes.fetched) > before, "and is passed by who reads"

    play(stage, script, isolation_level="read_committed", max_partition_fetch_bytes=1_000)


def rows_of(request):
    return [row for topic in request.topics for row in topic.partitions]


# ---- what is processed while the log under it changes


class Slow:
    """A handler that holds every record until it is let go, the first one before the others."""

    def __init__(self):
        self.begun, self.done = [], []
        self.first, self.others = asyncio.Event(), asyncio.Event()

    async def __call__(self, record):
        self.begun.append(record.offset)
        await (self.others if record.offset else self.first).wait()
        self.done.append(record.offset)


async def processing(consumer, nodes, change):
    """Process records 0 to 5, and let `change` happen while all are at work."""
    consumer.assign([T0])
    slow = Slow()
    task = asyncio.create_task(consumer.process(slow, concurrency=10, order="none"))
    await until(lambda: len(slow.begun) == 6)
    change()
    await until(lambda: not nodes.bad)
    await asyncio.sleep(3)
    slow.first.set()
    await asyncio.sleep(3)
    slow.others.set()
    await asyncio.sleep(3)
    consumer.stop_processing()
    await task
    return slow


def test_what_is_at_work_is_finished_when_its_log_is_gone(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        def retention():
            nodes.start, nodes.bad = 6, [[ErrorCode.OFFSET_OUT_OF_RANGE]]

        slow = await processing(consumer, nodes, retention)
        assert sorted(slow.done) == [0, 1, 2, 3, 4, 5]

    play(stage, script, group_id="g")


def test_what_is_at_work_is_finished_when_its_topic_is_made_anew(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        def anew():
            nodes.rows = [topic_row("t", 1, topic_id=NEW_ID)]
            nodes.start, nodes.bad = 6, [[ErrorCode.UNKNOWN_TOPIC_ID]]

        slow = await processing(consumer, nodes, anew)
        assert set(range(6)) <= set(slow.done)

    play(stage, script, group_id="g")


@pytest.mark.parametrize("end", [3, 6])
def test_what_is_at_work_is_not_lost_when_its_log_is_truncated(stage, end):
    nodes = Nodes(stage)

    async def script(consumer):
        def truncate():
            nodes.rows = [topic_row("t", 2, epoch=2)]
            where = EpochEndOffset(epoch=1, end_offset=end)
            row = PartitionData(
                partition_index=0, high_watermark=end, records=b"", diverging_epoch=where
            )
            nodes.bad = [[ErrorCode.NOT_LEADER_OR_FOLLOWER], row]

        slow = await processing(consumer, nodes, truncate)
        assert set(range(6)) <= set(slow.done)

    play(stage, script, group_id="g")


# ---- a topic that is made anew, seen by one partition first


def test_offsets_are_committed_for_the_topic_that_they_are_of(stage):
    nodes = Nodes(stage)
    nodes.rows = [topic_row("t", 1, 1)]

    async def script(consumer):
        consumer.assign([T0, T1])
        await offsets(consumer, 12)
        consumer._states[T1].topic_id = NEW_ID
        await consumer.commit()
        ids = {
            (topic.topic_id, row.partition_index)
            for topic in nodes.commits[-1].topics
            for row in topic.partitions
        }
        assert len(ids) == 2 and (NEW_ID, 1) in ids and (NEW_ID, 0) not in ids

    play(stage, script, group_id="g")

"""A consumer and brokers that refuse, lie, lag behind and forget, as the test says."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition, Uuid
from ottla.client import records
from ottla.client.consumer import Consumer
from ottla.client.errors import (
    BadAnswerError,
    ClientError,
    LogTruncatedError,
    NoOffsetError,
    TimedOutError,
)
from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchResponse,
    PartitionData,
)
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.metadata import MetadataResponse, MetadataResponseBroker
from ottla.protocol.messages.offset_commit import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_fetch import OffsetFetchResponse, OffsetFetchResponseGroup
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.client.test_cluster import TOPIC_ID, topic_row
from tests.rpc.conftest import PORT, FakeBroker, versions_answer

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
GARBAGE = [b"\x7f\xff\xff\xff", b"\0\0\0\x09garbage!!"]


def batch(base, count=2, epoch=1):
    records = [Record(base + n, n, None, b"%d" % n, ()) for n in range(count)]
    return bytes(build_batch(records, base_offset=base, leader_epoch=epoch))


class Nodes:
    """Nodes 1 and 2 with the topic t. `log` is what a partition of it holds: a batch of two records
    by base offset. What stands in `bad` is answered first to a Fetch: bytes or None to send
    instead of an answer, an error code of the whole or (in a list) of the row, or a row."""

    def __init__(self, stage, *bad):
        self.rows = [topic_row("t", 1)]
        self.log = {at: batch(at) for at in (0, 2, 4)}
        self.bad = list(bad)
        self.start = 0
        self.on_offset_fetch = lambda: None
        self.commits = []
        self.commit_code = 0
        self.fetched = []
        """Of each row that was asked for: the node, and the row."""
        self.refused = set()
        """Partitions of which a leader gives no offset."""
        stage.listen(partial(self.answer, node=1))
        stage.broker_world.network.listen(
            "", PORT + 1, lambda each: FakeBroker(each, partial(self.answer, node=2))
        )

    def answer(self, header, request, *, node):
        match header.api_key:
            case ApiKey.METADATA:
                brokers = [
                    MetadataResponseBroker(node_id=n, host="broker", port=PORT + n - 1, rack="r")
                    for n in (1, 2)
                ]
                wanted = [each.name for each in request.topics or ()]
                rows = [row for row in self.rows if row.name in wanted]
                rows += [
                    topic_row(name, error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                    for name in wanted
                    if name not in [row.name for row in self.rows]
                ]
                return MetadataResponse(brokers=brokers, controller_id=1, topics=rows)
            case ApiKey.LIST_OFFSETS:
                return self.offsets(request)
            case ApiKey.FETCH:
                return self.fetch(request, node)
            case ApiKey.FIND_COORDINATOR:
                found = Coordinator(key="g", node_id=1, host="broker", port=PORT)
                return FindCoordinatorResponse(coordinators=[found])
            case ApiKey.OFFSET_FETCH:
                self.on_offset_fetch()
                return OffsetFetchResponse(groups=[OffsetFetchResponseGroup(group_id="g")])
            case ApiKey.OFFSET_COMMIT:
                return self.commit(request)
        return versions_answer(header, request)

    def offsets(self, request):
        topics = []
        for topic in request.topics:
            rows = [
                ListOffsetsPartitionResponse(
                    partition_index=row.partition_index,
                    offset=self.start,
                    error_code=6 if row.partition_index in self.refused else 0,
                )
                for row in topic.partitions
            ]
            topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=rows))
        return ListOffsetsResponse(topics=topics)

    def fetch(self, request, node):
        rows = [row for topic in request.topics for row in topic.partitions]
        self.fetched += [(node, row) for row in rows]
        bad = self.bad.pop(0) if self.bad else self
        if bad is None or isinstance(bad, bytes):
            return bad
        if isinstance(bad, int):
            return FetchResponse(error_code=bad, responses=[])
        data = []
        for row in rows:
            one = PartitionData(partition_index=row.partition, high_watermark=6, records=b"")
            if bad is self:
                at = row.fetch_offset // 2 * 2
                one.records = self.log.get(at, b"")
            elif isinstance(bad, list):
                (one.error_code,) = bad
            else:
                one = bad
            data.append(one)
        topic = FetchableTopicResponse(topic="t", topic_id=TOPIC_ID, partitions=data)
        return FetchResponse(responses=[topic])

    def commit(self, request):
        self.commits.append(request)
        return OffsetCommitResponse(
            topics=[
                OffsetCommitResponseTopic(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partitions=[
                        OffsetCommitResponsePartition(
                            partition_index=row.partition_index, error_code=self.commit_code
                        )
                        for row in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )


def play(stage, script, **options):
    async def whole():
        consumer = Consumer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            **{
                "auto_offset_reset": "earliest",
                "request_timeout_ms": 1_000,
                "fetch_max_wait_ms": 100,
                "default_api_timeout_ms": 20_000,
                "enable_auto_commit": False,
                **options,
            },
        )
        async with asyncio.timeout(300), consumer:
            await script(consumer)

    stage.play(whole)


async def offsets(consumer, count, timeout_ms=5_000):
    found = []
    while len(found) < count:
        records = await consumer.poll(timeout_ms)
        assert records, f"nothing more after {found}"
        found += [each.offset for each in records]
    return found


# ---- answers to a Fetch


@pytest.mark.parametrize("bad", GARBAGE)
def test_garbage_is_told_and_reading_goes_on(stage, bad):
    nodes = Nodes(stage, bad)

    async def script(consumer):
        consumer.assign([T0])
        with pytest.raises(BadAnswerError, match="fetch from node 1"):
            await consumer.poll(5_000)
        assert await offsets(consumer, 6) == list(range(6))

    play(stage, script)
    assert nodes.bad == []


PASSING = [
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.REPLICA_NOT_AVAILABLE,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.OFFSET_NOT_AVAILABLE,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.INCONSISTENT_TOPIC_ID,
]
SESSION = [
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
    ErrorCode.INVALID_FETCH_SESSION_EPOCH,
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
]


@pytest.mark.parametrize("bad", [*([code] for code in PASSING), *SESSION, None], ids=str)
def test_what_passes_is_waited_out_and_nothing_is_passed_over(stage, bad):
    nodes = Nodes(stage)
    nodes.bad = [nodes, bad, bad] if bad is not None else [bad]

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))

    play(stage, script)
    assert nodes.bad == []


@pytest.mark.parametrize("code", [ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.CORRUPT_MESSAGE])
def test_what_does_not_pass_is_told_behind_what_came_before(stage, code):
    nodes = Nodes(stage)
    nodes.bad = [nodes, [code]]

    async def script(consumer):
        consumer.assign([T0])
        await consumer.position(T0)
        while nodes.bad:
            await asyncio.sleep(0.01)
        assert [each.offset for each in await consumer.poll(5_000)] == [0, 1]
        with pytest.raises(KafkaError, match=f"t-0 from offset 2: {code.name}") as told:
            await consumer.poll(5_000)
        assert told.value.code is code
        assert await offsets(consumer, 4) == [2, 3, 4, 5], "once it has passed"

    play(stage, script)


def test_a_damaged_batch_is_told_in_its_place_and_can_be_sought_past(stage):
    nodes = Nodes(stage)
    damaged = bytearray(batch(2))
    damaged[-1] ^= 1
    nodes.log[0] = batch(0) + damaged
    nodes.log[2] = bytes(damaged)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 2) == [0, 1], "what came before it comes first"
        for _ in range(2):
            with pytest.raises(KafkaError, match="batch at offset 2: bad CRC") as told:
                await consumer.poll(5_000)
            assert told.value.code is ErrorCode.CORRUPT_MESSAGE
            assert await consumer.position(T0) == 2
        consumer.seek(T0, 4)
        assert await offsets(consumer, 2) == [4, 5]

    play(stage, script)


# ---- replicas and leaders


def test_a_follower_that_is_behind_is_no_reason_to_begin_anew(stage):
    nodes = Nodes(
        stage,
        PartitionData(partition_index=0, high_watermark=6, records=b"", preferred_read_replica=2),
        [ErrorCode.OFFSET_OUT_OF_RANGE],
    )

    async def script(consumer):
        consumer.assign([T0])
        consumer.seek(T0, 4)
        assert await offsets(consumer, 2) == [4, 5]

    play(stage, script)
    assert [node for node, _ in nodes.fetched[:3]] == [1, 2, 1]


def test_a_leader_is_asked_again_which_replica_it_prefers(stage):
    prefers = PartitionData(
        partition_index=0, high_watermark=6, records=b"", preferred_read_replica=2
    )
    nodes = Nodes(stage, prefers)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))
        assert {node for node, _ in nodes.fetched[1:]} == {2}
        await consumer.poll(3_000)
        assert nodes.fetched[-1][0] == 1

    play(stage, script, metadata_max_age_ms=2_000)


def new_leader(nodes):
    nodes.rows = [topic_row("t", 2, epoch=2)]
    diverging = EpochEndOffset(epoch=1, end_offset=3)
    row = PartitionData(partition_index=0, high_watermark=3, records=b"", diverging_epoch=diverging)
    nodes.bad = [[ErrorCode.NOT_LEADER_OR_FOLLOWER], row]
    nodes.log = {2: batch(2, epoch=1), 4: batch(4, epoch=2)}


def test_a_log_that_was_truncated_is_read_again_from_where_it_diverges(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))
        assert {row.last_fetched_epoch for _, row in nodes.fetched} == {-1}, "nothing to check"
        new_leader(nodes)
        assert await offsets(consumer, 3) == [3, 4, 5]
        row = next(row for node, row in nodes.fetched if node == 2)
        assert (row.fetch_offset, row.last_fetched_epoch, row.current_leader_epoch) == (6, 1, 2)
        assert nodes.fetched[-1][1].last_fetched_epoch == -1, "it was checked"

    play(stage, script)


def test_a_log_that_was_truncated_is_told_where_there_is_no_reset(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        consumer.seek(T0, 0)
        assert await offsets(consumer, 6) == list(range(6))
        new_leader(nodes)
        with pytest.raises(LogTruncatedError, match="t-0: the log was truncated to 3") as told:
            await consumer.poll(5_000)
        consumer.seek(T0, told.value.offset)
        assert await offsets(consumer, 3) == [3, 4, 5]

    play(stage, script, auto_offset_reset="none")


def test_a_topic_that_is_made_anew_is_read_from_where_the_policy_says(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))
        nodes.rows = [topic_row("t", 1, topic_id=Uuid(bytes(16 * [9])))]
        nodes.bad = [[ErrorCode.UNKNOWN_TOPIC_ID]]
        while nodes.bad:
            await consumer.poll(100)
        await consumer.poll(1_000)
        assert nodes.fetched[-1][1].fetch_offset in (0, 2, 4, 6)
        assert 0 in {row.fetch_offset for _, row in nodes.fetched[-6:]}

    play(stage, script)


# ---- positions


def test_what_has_no_leader_and_what_does_not_exist_hold_up_no_other(stage):
    nodes = Nodes(stage)
    nodes.rows = [topic_row("t", -1, 1, 2)]
    nodes.refused = {2}

    async def script(consumer):
        consumer.assign([("nowhere", 0), T0, ("t", 2), T1])
        assert await offsets(consumer, 6) == list(range(6))
        assert await consumer.position(T1) == 6
        told = []
        for _ in range(3):
            with pytest.raises((TimedOutError, KafkaError)) as error:
                await consumer.poll(30_000)
            told.append(str(error.value))
        assert "'nowhere' did not come up" in " ".join(told)

    play(stage, script)


def test_partitions_that_come_later_do_not_wait_for_those_that_have_no_position(stage):
    nodes = Nodes(stage)
    nodes.rows = [topic_row("t", -1, 1)]

    async def script(consumer):
        consumer.assign([T0])
        assert await consumer.poll(500) == []
        consumer.assign([T0, T1])
        assert await offsets(consumer, 6) == list(range(6))

    play(stage, script)


def test_a_seek_while_the_position_is_looked_for_is_no_error(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        nodes.on_offset_fetch = lambda: consumer.seek(T0, 2)
        consumer.assign([T0])
        assert await offsets(consumer, 4) == [2, 3, 4, 5]

    play(stage, script, group_id="g", auto_offset_reset="none")


def test_who_waits_for_the_position_of_what_is_given_up_is_told(stage):
    nodes = Nodes(stage)
    nodes.rows = [topic_row("t", -1)]

    async def script(consumer):
        consumer.assign([T0])
        waiting = asyncio.create_task(consumer.position(T0))
        await asyncio.sleep(0.1)
        consumer.assign([])
        with pytest.raises(ClientError, match="t-0 is not assigned"):
            await waiting

    play(stage, script)


def test_a_topic_that_may_not_be_read_is_told_also_where_the_position_is_known(stage):
    nodes = Nodes(stage)
    nodes.rows = [topic_row("t", error=ErrorCode.TOPIC_AUTHORIZATION_FAILED)]

    async def script(consumer):
        consumer.assign([T0])
        consumer.seek(T0, 0)
        with pytest.raises(KafkaError, match="topic 't': TOPIC_AUTHORIZATION_FAILED"):
            await consumer.poll(5_000)
        nodes.rows = [topic_row("t", 1)]
        found = []
        while len(found) < 6:
            with suppress(KafkaError):  # it is told until it is known to be over
                found += await consumer.poll(500)

    play(stage, script)


def test_a_position_by_age_of_records(stage):
    nodes = Nodes(stage)
    seen = []
    asked = nodes.offsets

    def noted(request):
        seen.append(request.topics[0].partitions[0].timestamp)
        response = asked(request)
        response.topics[0].partitions[0].offset = -1 if len(seen) == 1 else 2
        return response

    nodes.offsets = noted

    async def script(consumer):
        consumer.assign([T0])
        now = stage.world.clock.time_ms()
        assert await consumer.position(T0) == 2, "the end, where there is nothing so young"
        assert 0 <= seen[0] - (now - 5_400_000) < 1_000
        assert seen[1:] == [-1]

    play(stage, script, auto_offset_reset="by_duration:PT1H30M")


# ---- commits


def test_a_commit_to_a_topic_that_was_deleted_is_refused_at_once(stage):
    nodes = Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))
        nodes.commit_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        with pytest.raises(KafkaError, match="t-0: UNKNOWN_TOPIC_OR_PARTITION"):
            await consumer.commit()
        nodes.commit_code = 0
        await consumer.commit()
        assert len(nodes.commits) == 2
        (topic,) = nodes.commits[-1].topics
        assert topic.topic_id == TOPIC_ID, "and no topic of the same name"
        row = topic.partitions[0]
        assert (row.committed_offset, row.committed_leader_epoch) == (6, 1)

    play(stage, script, group_id="g")


def test_no_offset_and_no_policy_is_told(stage):
    Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        with pytest.raises(NoOffsetError, match="t-0: no offset"):
            await consumer.poll(5_000)

    play(stage, script, auto_offset_reset="none")


# ---- batches


def test_a_batch_beyond_all_limits_of_a_fetch_is_read(stage):
    Nodes(stage)

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 6) == list(range(6))

    play(stage, script, max_partition_fetch_bytes=1, fetch_max_bytes=1)


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_unpacks_to_too_much_is_told_and_can_be_sought_past(stage, codec, monkeypatch):
    monkeypatch.setattr(records, "DECOMPRESSED_BYTES", 1_000)
    nodes = Nodes(stage)
    bomb = Record(2, 0, None, bytes(100_000), ())
    nodes.log[2] = bytes(build_batch([bomb], base_offset=2, codec=codec))

    async def script(consumer):
        consumer.assign([T0])
        assert await offsets(consumer, 2) == [0, 1]
        for _ in range(2):
            with pytest.raises(KafkaError, match="t-0 from offset 2"):
                await consumer.poll(5_000)
        consumer.seek(T0, 4)
        assert await offsets(consumer, 2) == [4, 5]

    play(stage, script)


def test_an_answer_that_is_longer_than_is_taken_is_told(stage):
    nodes = Nodes(stage)
    nodes.log[0] = bytes(build_batch([Record(0, 0, None, bytes(300_000), ())]))

    async def script(consumer):
        consumer.assign([T0])
        with pytest.raises(BadAnswerError, match="a response of 3"):
            await consumer.poll(5_000)
        consumer.seek(T0, 2)
        assert await offsets(consumer, 4) == [2, 3, 4, 5]

    play(stage, script, receive_message_max_bytes=200_000)

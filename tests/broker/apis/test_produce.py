"""Produce: what is appended and when it is answered; what is refused, and with which code."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.broker.context import CloseConnection
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.compression import CODEC_NUMBERS
from ottla.records.record import Record

VERSIONS = range(3, 14)
BY_NAME = range(3, 13)
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
ALL, LEADER, NONE = -1, 1, 0
FOR_EVER_MS = 3_600_000
NOWHERE = bytes(range(16))


def batch(node, count=1, timestamp=None, key=None, **options):
    if timestamp is None:
        timestamp = node.services.world.clock.time_ms()
    records = [Record(n, timestamp, key, b"v%d" % n) for n in range(count)]
    return build_batch(records, **options)


def produce(node, *rows, acks=ALL, timeout_ms=FOR_EVER_MS, **options):
    """`rows` are (topic, index, batch); a topic goes by name and by id, as the version has it."""
    topics = []
    for topic, index, records in rows:
        image = node.image.topics.get(topic)
        topics.append(
            TopicProduceData(
                name=topic,
                topic_id=image.id if image else NOWHERE,
                partition_data=[PartitionProduceData(index=index, records=records)],
            )
        )
    return ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=topics, **options)


def answers(response):
    return [row for topic in response.responses for row in topic.partition_responses]


async def one(node, records, version=13, **options):
    (row,) = answers(await node.ask(produce(node, ("a", 0, records), **options), version))
    return row


def log_of(node, topic="a", index=0):
    return node.services.replicas.leader_of(topic, index).log


async def turns(count=5):
    """Give whatever could happen the time to."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("acks", [ALL, LEADER])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_version_answers(on_node, version, acks):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 3)
        log_of(node).advance_start(2)
        response = await node.ask(produce(node, ("a", 0, batch(node, 2)), acks=acks), version)
        (topic,) = response.responses
        if version >= 13:
            assert (topic.name, topic.topic_id) == ("", node.image.topics["a"].id)
        else:
            assert topic.name == "a"
        (row,) = topic.partition_responses
        assert (row.index, row.error_code, row.base_offset) == (0, 0, 3)
        assert row.log_append_time_ms == -1
        assert row.log_start_offset == (2 if version >= 5 else -1)
        assert (row.record_errors, row.error_message, row.current_leader) == ([], None, None)
        assert log_of(node).log_end_offset == 5

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_acks_0_has_no_answer(on_node, version):
    async def test(node):
        await node.topic("a")
        assert await node.ask(produce(node, ("a", 0, batch(node)), acks=NONE), version) is None
        assert log_of(node).log_end_offset == 1

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_that_cannot_be_answered_closes(on_node, version):
    async def test(node):
        await node.topic("a")
        rows = [("a", 0, batch(node)), ("none", 0, batch(node))]
        with pytest.raises(CloseConnection, match="acks=0"):
            await node.ask(produce(node, *rows, acks=NONE), version)
        assert log_of(node).log_end_offset == 1

    on_node(test)


@pytest.mark.parametrize("acks", [2, -2, 32767, -32768])
@pytest.mark.parametrize("version", VERSIONS)
def test_acks_that_nobody_knows(on_node, version, acks):
    async def test(node):
        await node.topic("a")
        row = await one(node, batch(node), version, acks=acks)
        assert (row.error_code, row.base_offset) == (ErrorCode.INVALID_REQUIRED_ACKS, -1)
        assert log_of(node).log_end_offset == 0

    on_node(test)


@pytest.mark.parametrize("acks", [ALL, LEADER, NONE, 2])
def test_nothing_to_append(on_node, acks):
    async def test(node):
        response = await node.ask(produce(node, acks=acks))
        assert response is None if acks == NONE else response.responses == []

    on_node(test)


@pytest.mark.parametrize("version", BY_NAME)
def test_each_partition_is_answered_on_its_own(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        bad = batch(node)
        bad[-1] ^= 1
        rows = [
            ("none", 0, batch(node)),
            ("a", 2, batch(node)),
            ("a", -1, batch(node)),
            ("a", 1, bad),
            ("a", 0, batch(node)),
        ]
        response = await node.ask(produce(node, *rows), version)
        assert [row.error_code for row in answers(response)] == [
            UNKNOWN,
            UNKNOWN,
            UNKNOWN,
            ErrorCode.CORRUPT_MESSAGE,
            0,
        ]
        assert [row.base_offset for row in answers(response)] == [-1, -1, -1, -1, 0]
        assert (log_of(node).log_end_offset, log_of(node, index=1).log_end_offset) == (1, 0)

    on_node(test)


def test_an_id_that_is_not_there(on_node):
    async def test(node):
        await node.topic("a")
        rows = [("none", 0, batch(node)), ("a", 1, batch(node))]
        response = await node.ask(produce(node, *rows))
        assert response.responses[0].topic_id == NOWHERE
        codes = [row.error_code for row in answers(response)]
        assert codes == [ErrorCode.UNKNOWN_TOPIC_ID, UNKNOWN]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_that_were_refused(on_node, version):
    """From version 8 on the answer says which, and why."""

    async def test(node):
        await node.topic("a", cleanup_policy="compact")
        row = await one(node, batch(node, 2), version)
        assert (row.error_code, row.base_offset) == (ErrorCode.INVALID_RECORD, -1)
        if version < 8:
            assert (row.record_errors, row.error_message) == ([], None)
        else:
            assert row.error_message
            assert [each.batch_index for each in row.record_errors] == [0, 1]
            assert all(each.batch_index_error_message for each in row.record_errors)
        assert log_of(node).log_end_offset == 0

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("codec", sorted(CODEC_NUMBERS))
def test_codecs(on_node, version, codec):
    """zstd came with version 7."""

    async def test(node):
        await node.topic("a")
        row = await one(node, batch(node, 3, codec=CODEC_NUMBERS[codec]), version)
        refused = codec == "zstd" and version < 7
        assert row.error_code == (ErrorCode.UNSUPPORTED_COMPRESSION_TYPE if refused else 0)
        assert log_of(node).log_end_offset == (0 if refused else 3)

    on_node(test)


@pytest.mark.parametrize("records", [None, b"", b"\0" * 61])
def test_no_records(on_node, records):
    async def test(node):
        await node.topic("a")
        row = await one(node, records)
        assert row.error_code in (ErrorCode.INVALID_RECORD, ErrorCode.CORRUPT_MESSAGE)
        assert log_of(node).log_end_offset == 0

    on_node(test)


def test_two_batches_for_one_partition(on_node):
    async def test(node):
        await node.topic("a")
        row = await one(node, batch(node) + batch(node))
        assert row.error_code == ErrorCode.INVALID_RECORD
        assert log_of(node).log_end_offset == 0

    on_node(test)


def test_a_partition_named_twice_is_appended_to_twice(on_node):
    async def test(node):
        await node.topic("a")
        rows = [("a", 0, batch(node, 2)), ("a", 0, batch(node, 2))]
        response = await node.ask(produce(node, *rows))
        assert [row.base_offset for row in answers(response)] == [0, 2]

    on_node(test)


@pytest.mark.parametrize("version", BY_NAME)
def test_a_transaction_that_no_coordinator_knows(on_node, version):
    async def test(node):
        await node.topic("a")
        options = {"producer_id": 1, "producer_epoch": 0, "base_sequence": 0}
        records = batch(node, transactional=True, **options)
        row = await one(node, records, version, transactional_id="t")
        assert row.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
        records = batch(node, transactional=True, **options)
        row = await one(node, records, version)
        assert row.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert log_of(node).log_end_offset == 0

    on_node(test)


# -- when it is answered


def test_acks_1_does_not_wait_for_the_flush(on_node, flushes):
    async def test(node):
        await node.topic("a")
        with flushes.held():
            row = await one(node, batch(node), acks=LEADER)
            assert (row.error_code, row.base_offset) == (0, 0)
            assert node.services.replicas.leader_of("a", 0).high_watermark == 0

    on_node(test)


def test_acks_all_waits_for_the_flush_of_every_partition(on_node, flushes):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        with flushes.held():
            rows = [("a", 0, batch(node)), ("none", 0, batch(node)), ("b", 0, batch(node))]
            answer = node.begin(produce(node, *rows), 9)
            await turns()
            assert not answer.done()
        response = await answer
        assert [row.error_code for row in answers(response)] == [0, UNKNOWN, 0]
        assert node.services.replicas.leader_of("b", 0).high_watermark == 1

    on_node(test)


def test_where_acknowledgements_do_not_flush_nothing_is_waited_for(on_node, flushes):
    async def test(node):
        await node.topic("a", flush_on_ack="false")
        with flushes.held():
            answer = node.begin(produce(node, ("a", 0, batch(node))))
            assert answers(answer.result())[0].base_offset == 0

    on_node(test)


@pytest.mark.parametrize("timeout_ms", [1, 0, -1, -(2**31)])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_timeout_leaves_the_records(on_node, flushes, version, timeout_ms):
    async def test(node):
        await node.topic("a")
        with flushes.held():
            row = await one(node, batch(node, 2), version, timeout_ms=timeout_ms)
            assert (row.error_code, row.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
            assert log_of(node).log_end_offset == 2
        row = await one(node, batch(node), version)
        assert (row.error_code, row.base_offset) == (0, 2)

    on_node(test)


def test_only_what_is_not_safe_has_timed_out(on_node, flushes):
    async def test(node):
        await node.topic("a")
        await node.topic("b", flush_on_ack="false")
        with flushes.held():
            rows = [("a", 0, batch(node)), ("b", 0, batch(node))]
            response = await node.ask(produce(node, *rows, timeout_ms=1))
        codes = [row.error_code for row in answers(response)]
        assert codes == [ErrorCode.REQUEST_TIMED_OUT, 0]

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_topic_is_deleted_under_a_parked_produce(on_node, flushes, version):
    async def test(node):
        await node.topic("a")
        await node.topic("b")
        with flushes.held():
            rows = [("a", 0, batch(node)), ("b", 0, batch(node))]
            answer = node.begin(produce(node, *rows), version)
            await turns()
            assert not answer.done()
            await node.services.controller.delete_topic(node.image.topics["a"].id)
            await turns()
        codes = [row.error_code for row in answers(await answer)]
        assert codes[0] == UNKNOWN
        assert codes[1] in (0, ErrorCode.REQUEST_TIMED_OUT)

    on_node(test)


def test_the_disk_fails_under_a_parked_produce(on_node, flushes):
    async def test(node):
        await node.topic("a")
        (directory,) = node.services.replicas.directories
        with flushes.held():
            answer = node.begin(produce(node, ("a", 0, batch(node))))
            directory.go_offline(OSError(5, "Input/output error"))
        (row,) = answers(await answer)
        assert (row.error_code, row.base_offset) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
        assert (await one(node, batch(node))).error_code == ErrorCode.KAFKA_STORAGE_ERROR

    on_node(test)


def test_a_full_disk_refuses_and_is_waited_out(on_node, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    async def test(node):
        await node.topic("a")
        with monkeypatch.context() as patched:
            patched.setattr("ottla.storage.segment.Segment.append", full)
            row = await one(node, batch(node))
            assert (row.error_code, row.base_offset) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
            assert row.error_message == "No space left on device"
        row = await one(node, batch(node))
        assert (row.error_code, row.base_offset) == (0, 0)

    on_node(test)


def test_a_connection_that_is_gone_is_not_answered(on_node, flushes):
    async def test(node):
        await node.topic("a")
        with flushes.held():
            answer = node.begin(produce(node, ("a", 0, batch(node))))
            node.parked.abandon()
        await node.flushed(node.services.replicas.leader_of("a", 0))
        await turns()
        assert not answer.done()

    on_node(test)


def test_answers_come_in_the_order_of_the_appends(on_node, flushes):
    async def test(node):
        await node.topic("a")
        done = []
        with flushes.held():
            for number in range(5):
                answer = node.begin(produce(node, ("a", 0, batch(node))))
                answer.add_done_callback(lambda _, number=number: done.append(number))
            await turns()
            assert done == []
        await node.flushed(node.services.replicas.leader_of("a", 0))
        await turns()
        assert done == [0, 1, 2, 3, 4]

    on_node(test)


# -- min.insync.replicas, idempotence


def test_too_few_replicas_concern_acks_all_alone(on_node):
    async def test(node):
        await node.topic("a", min_insync_replicas="2")
        row = await one(node, batch(node))
        assert (row.error_code, row.base_offset) == (ErrorCode.NOT_ENOUGH_REPLICAS, -1)
        assert log_of(node).log_end_offset == 0
        assert (await one(node, batch(node), acks=LEADER)).error_code == 0

    on_node(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_repeat_is_answered_with_the_first_offset(on_node, flushes, version):
    async def test(node):
        await node.topic("a")
        await node.produce("a", 3)

        def sent(sequence):
            ids = {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence}
            return produce(node, ("a", 0, batch(node, 2, **ids)))

        with flushes.held():
            first, again = node.begin(sent(0), version), node.begin(sent(0), version)
            await turns()
            assert not first.done()
            assert not again.done(), "the original is not safe yet"
        assert [answers(await each)[0].base_offset for each in (first, again)] == [3, 3]
        (row,) = answers(await node.ask(sent(4), version))
        assert row.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert log_of(node).log_end_offset == 5

    on_node(test)


def test_a_repeat_has_the_time_of_the_original(on_node, monkeypatch):
    async def test(node):
        await node.topic("a", message_timestamp_type="LogAppendTime")
        clock = type(node.services.world.clock)
        ids = {"producer_id": 7, "producer_epoch": 0, "base_sequence": 0}
        times = []
        for now_ms in (1_700_000_000_000, 1_700_000_000_777):
            monkeypatch.setattr(clock, "time_ms", lambda _, now_ms=now_ms: now_ms)
            row = await one(node, batch(node, timestamp=5, **ids))
            times.append((row.base_offset, row.log_append_time_ms))
        assert times == [(0, 1_700_000_000_000)] * 2

    on_node(test)

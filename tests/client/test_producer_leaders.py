"""A producer when topics and leaders go, move and come back, and when brokers forget it."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.client.errors import ConfigError, DeliveryError
from ottla.client.producer import Producer
from tests.client.partitions import Partitions, played
from tests.client.test_cluster import topic_row
from tests.rpc.conftest import PORT

OTHER_ID = Uuid(bytes(range(1, 17)))


def test_records_wait_for_a_partition_that_has_no_leader(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"before")
        broker.topics = [topic_row("t", -1, epoch=2)]
        broker.codes = [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 50
        waiting = [await producer.send("t", b"%d" % n) for n in range(3)]
        await asyncio.sleep(5)
        assert not waiting[0].done()
        broker.codes, broker.topics = [], [topic_row("t", 1, epoch=3)]
        assert [(await each).offset for each in waiting] == [1, 2, 3]

    played(stage, script, linger_ms=0)


def test_a_leader_that_does_not_come_back_is_told_in_time(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"before")
        broker.topics = [topic_row("t", -1, epoch=2)]
        broker.codes = [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 50
        started = asyncio.get_running_loop().time()
        with pytest.raises(DeliveryError, match="delivery_timeout_ms"):
            await producer.send_and_wait("t", b"x")
        assert asyncio.get_running_loop().time() - started < 3.1

    played(stage, script, linger_ms=0, delivery_timeout_ms=3_000)


def test_a_leader_that_moves_is_followed_and_nothing_is_twice_or_out_of_order(stage):
    first, second = Partitions(stage, nodes=2), Partitions(stage, nodes=2, port=PORT + 1)

    async def script(producer):
        await producer.send_and_wait("t", b"0")
        deliveries = [await producer.send("t", b"%d" % n) for n in range(1, 6)]
        first.codes = [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 50
        first.topics = second.topics = [topic_row("t", 2, epoch=2)]
        for each in deliveries:
            await each

    played(stage, script, linger_ms=0, batch_size=1)
    assert first.logs[0] + second.logs[0] == [b"%d" % n for n in range(6)]
    assert second.logs[0], "the leader moved before they came"


def test_a_topic_that_was_made_anew_gets_what_is_sent_from_then_on(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"old")
        broker.topic_id, broker.logs[0] = OTHER_ID, []
        broker.topics = [topic_row("t", 1, epoch=0, topic_id=OTHER_ID)]
        deliveries = [await producer.send("t", b"%d" % n) for n in range(4)]
        assert [(await each).offset for each in deliveries] == [0, 1, 2, 3]

    played(stage, script, linger_ms=0, batch_size=1)
    assert broker.logs[0] == [b"0", b"1", b"2", b"3"]


def test_a_topic_that_is_deleted_is_told(stage):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"x")
        broker.topic_id = OTHER_ID
        broker.topics = [topic_row("t", error=3)]
        with pytest.raises(DeliveryError, match="delivery_timeout_ms") as told:
            await producer.send_and_wait("t", b"y")
        assert told.value.is_uncertain
        with pytest.raises(KafkaError) as refused:
            await producer.send("t", b"z")
        assert refused.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    played(stage, script, delivery_timeout_ms=3_000, max_block_ms=1_000)


def test_partitions_that_are_added_are_used_when_metadata_show_them(stage):
    broker = Partitions(stage, count=4)
    broker.topics = [topic_row("t", 1)]

    async def script(producer):
        await producer.send_and_wait("t", b"x", partition=0)
        broker.topics = [topic_row("t", 1, 1, 1, 1)]
        await asyncio.sleep(2)
        await producer.send_and_wait("t", b"y", partition=3)

    played(stage, script, metadata_max_age_ms=1_000)
    assert broker.logs[3] == [b"y"]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    ],
)
def test_a_broker_that_does_not_know_the_epoch_gets_the_records_in_the_next(stage, code):
    broker = Partitions(stage)

    async def script(producer):
        await producer.send_and_wait("t", b"0")
        broker.codes = [code] * 3
        deliveries = [await producer.send("t", b"%d" % n) for n in range(1, 4)]
        assert [(await each).offset for each in deliveries] == [1, 2, 3]

    played(stage, script, linger_ms=0, batch_size=1)
    assert broker.logs[0] == [b"%d" % n for n in range(4)]
    (epoch,) = {epoch for epoch, _ in broker.epochs[-3:]}
    assert epoch > 0 and [sequence for _, sequence in broker.epochs[-3:]] == [0, 1, 2]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.POLICY_VIOLATION,
    ],
)
def test_what_is_refused_for_good_is_told_by_its_code_and_the_next_goes_on(stage, code):
    broker = Partitions(stage)

    async def script(producer):
        broker.codes = [code]
        with pytest.raises(DeliveryError, match=code.name) as told:
            await producer.send_and_wait("t", b"x")
        assert told.value.code is code and not told.value.is_uncertain
        assert (await producer.send_and_wait("t", b"y")).offset == 0

    played(stage, script)
    assert broker.epochs == [(0, 0), (1, 0)]


def test_an_answer_above_the_cap_of_responses_is_told(stage):
    broker = Partitions(stage)
    broker.topics = [topic_row("t" * 249, 1)] * 20

    async def script():
        producer = Producer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            receive_message_max_bytes=2_000,
            max_block_ms=1_000,
        )
        with pytest.raises(Exception, match=r"a response of \d+ bytes"):
            await producer.start()

    stage.play(script)


def test_the_cap_of_responses_has_a_floor():
    with pytest.raises(ConfigError, match="receive_message_max_bytes"):
        Producer(receive_message_max_bytes=1)

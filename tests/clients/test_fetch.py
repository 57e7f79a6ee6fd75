"""When and how much a Fetch answers: long polls, byte limits, offsets inside a batch, sessions."""

from collections.abc import Callable
from typing import Any

import confluent_kafka as rd
import pytest

from ottla.records.batch import BatchHeader
from tests.clients.peers import MARKS, PEERS, kafka
from tests.clients.records import WAIT_S, Sent

pytestmark = MARKS

Maker = Callable[..., Any]
LIBRARIES = ("confluent", "kafka-python", "aiokafka")
LONGER_THAN_THE_TEST_MS = 60_000


def one_batch(bootstrap: str, topic: str, records: list[Sent], codec: str = "none") -> None:
    """librdkafka sends what was produced before a flush as one batch."""
    PEERS["confluent"].produce(bootstrap, topic, records, codec=codec, **{"linger.ms": 60_000})


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_consumer_may_start_at_any_record_of_a_batch(
    name: str,
    codec: str,
    bootstrap: str,
    make_topic: Maker,
    batches_of: Callable[..., list[BatchHeader]],
) -> None:
    topic = make_topic()
    records = [Sent(b"k%d" % n, b"v%d" % n, (), 1_000 + n) for n in range(5)]
    one_batch(bootstrap, topic, records, codec)
    one_batch(bootstrap, topic, records, codec)
    assert [header.record_count for header in batches_of(topic)] == [5, 5]
    everything = records * 2
    for start in range(10):
        seen = PEERS[name].consume(bootstrap, topic, {0: start}, 10 - start)
        assert [row.offset for row in seen] == list(range(start, 10))
        assert [row.sent for row in seen] == everything[start:]


def polling(consumer: rd.Consumer, topic: str) -> rd.Consumer:
    """The consumer with a Fetch under way that found nothing."""
    consumer.assign([rd.TopicPartition(topic, 0, 0)])
    assert consumer.poll(0.5) is None
    return consumer


def test_a_parked_fetch_is_answered_when_a_record_arrives(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    topic = make_topic()
    consumer = polling(rd_consumer(fetch_wait_max_ms=LONGER_THAN_THE_TEST_MS), topic)
    one_batch(bootstrap, topic, [Sent(b"k", b"v")])
    assert consumer.poll(WAIT_S).value() == b"v"


def test_a_parked_fetch_waits_for_its_min_bytes(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    topic = make_topic()
    consumer = rd_consumer(fetch_min_bytes=5_000, fetch_wait_max_ms=LONGER_THAN_THE_TEST_MS)
    polling(consumer, topic)
    one_batch(bootstrap, topic, [Sent(b"k", b"small")])
    assert consumer.poll(0.5) is None
    one_batch(bootstrap, topic, [Sent(b"k", b"x" * 6_000)])
    assert consumer.poll(WAIT_S).value() == b"small"
    assert len(consumer.poll(WAIT_S).value()) == 6_000


def test_a_parked_fetch_answers_what_there_is_when_its_time_is_over(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    topic = make_topic()
    consumer = polling(rd_consumer(fetch_min_bytes=5_000, fetch_wait_max_ms=100), topic)
    one_batch(bootstrap, topic, [Sent(b"k", b"small")])
    assert consumer.poll(WAIT_S).value() == b"small"


def test_an_idle_fetch_of_one_partition_delays_no_other_client(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    idle, busy = make_topic(), make_topic()
    polling(rd_consumer(fetch_wait_max_ms=LONGER_THAN_THE_TEST_MS), idle)
    one_batch(bootstrap, busy, [Sent(b"k", b"v")])
    assert len(PEERS["kafka-python"].consume(bootstrap, busy, {0: 0}, 1)) == 1


@pytest.mark.parametrize("name", ["kafka-python", "aiokafka"])
def test_a_batch_larger_than_any_limit_is_still_fetched(
    name: str, bootstrap: str, make_topic: Maker
) -> None:
    """KIP-74: byte limits bound what is answered beyond the first batch."""
    topic = make_topic(3)
    records = [Sent(b"k%d" % n, b"%d" % n * 3_000) for n in range(6)]
    for partition in range(3):
        for record in records:
            PEERS["confluent"].produce(bootstrap, topic, [record], partition=partition)
    limits = {"max_partition_fetch_bytes": 100, "fetch_max_bytes": 100}
    seen = PEERS[name].consume(bootstrap, topic, dict.fromkeys(range(3), 0), 18, **limits)
    for partition in range(3):
        rows = [row for row in seen if row.partition == partition]
        assert [row.value for row in rows] == [record.value for record in records]


def test_a_byte_limit_starves_no_partition(bootstrap: str, make_topic: Maker) -> None:
    """All partitions have more than the limit; those answered go to the end of the order."""
    topic = make_topic(4)
    records = [Sent(None, b"x" * 900) for _ in range(20)]
    for partition in range(4):
        one = PEERS["confluent"].produce
        one(bootstrap, topic, records, partition=partition, **{"batch.num.messages": 1})
    consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, fetch_max_bytes=2_000)
    partitions = [kafka.TopicPartition(topic, index) for index in range(4)]
    try:
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        seen: dict[int, int] = dict.fromkeys(range(4), 0)
        while sum(seen.values()) < 40:
            for partition, rows in consumer.poll(timeout_ms=1000 * WAIT_S).items():
                seen[partition.partition] += len(rows)
        assert min(seen.values()) > 0
    finally:
        consumer.close()


@pytest.mark.parametrize("sessions", [True, False], ids=["sessions", "full fetches"])
def test_partitions_that_were_silent_are_heard_again(
    sessions: bool, bootstrap: str, make_topic: Maker
) -> None:
    """KIP-227: an incremental fetch lists only changes, and is answered only with changes."""
    topic, count = make_topic(40), 40
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_incremental_fetch_sessions=sessions,
        fetch_max_wait_ms=50,
    )
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    try:
        consumer.assign([kafka.TopicPartition(topic, index) for index in range(count)])
        consumer.seek_to_beginning()
        for number in range(6):
            chosen = range(number % 3, count, number + 1)
            for index in chosen:
                producer.send(topic, b"%d" % number, partition=index)
            producer.flush(WAIT_S)
            seen: list[tuple[int, bytes]] = []
            while len(seen) < len(chosen):
                rows = consumer.poll(timeout_ms=1000 * WAIT_S)
                assert rows, "nothing came in time"
                seen += [(row.partition, row.value) for part in rows.values() for row in part]
            assert sorted(seen) == [(index, b"%d" % number) for index in chosen]
        consumer.assign([kafka.TopicPartition(topic, 1)])  # all others are forgotten
        consumer.seek_to_beginning()
        assert {p.partition for p in consumer.poll(timeout_ms=1000 * WAIT_S)} == {1}
    finally:
        producer.close()
        consumer.close()


@pytest.mark.parametrize("offset", [3, 1000])
def test_an_offset_that_is_not_there_is_out_of_range(
    offset: int, bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    topic = make_topic()
    one_batch(bootstrap, topic, [Sent(b"k", b"v%d" % n) for n in range(2)])
    consumer = rd_consumer(auto_offset_reset="error")
    consumer.assign([rd.TopicPartition(topic, 0, offset)])
    assert consumer.poll(WAIT_S).error().code() == rd.KafkaError._AUTO_OFFSET_RESET
    reset = rd_consumer(auto_offset_reset="earliest")
    reset.assign([rd.TopicPartition(topic, 0, offset)])
    assert reset.poll(WAIT_S).value() == b"v0"

"""Every knob, on each client of others: what was sent is there once, whatever the fault."""

import time

import pytest

from tests.clients.peers import MARKS, AioKafka, Confluent, KafkaPython, kafka
from tests.clients.records import Sent

pytestmark = MARKS

PEERS = [Confluent, AioKafka, KafkaPython]
RECORD = Sent(b"k", b"hello", timestamp=1_000)
HASTE = {
    Confluent: {"socket.timeout.ms": 1_000},
    AioKafka: {"request_timeout_ms": 1_000},
    KafkaPython: {"request_timeout_ms": 1_000},
}
"""A client finds out that a connection is dead by its own timeout."""
PRODUCING = {
    "error": lambda faults: faults.error("Produce", "NOT_LEADER_OR_FOLLOWER", times=2),
    "delay": lambda faults: faults.delay("Produce", ms=200),
    "disconnect-request": lambda faults: faults.disconnect("Produce", when="request"),
    "disconnect-response": lambda faults: faults.disconnect("Produce", when="response"),
    "disconnect-mid-response": lambda faults: faults.disconnect("Produce", when="mid-response"),
    "drop-request": lambda faults: faults.drop("Produce", when="request"),
    "drop-response": lambda faults: faults.drop("Produce", when="response"),
}
CONSUMING = {
    "error": lambda faults, topic: faults.error("Fetch", "NOT_LEADER_OR_FOLLOWER", topic=topic),
    "delay": lambda faults, topic: faults.delay("Fetch", ms=200, topic=topic),
    "disconnect": lambda faults, topic: faults.disconnect("Fetch", topic=topic),
    "disconnect-mid-response": lambda faults, topic: faults.disconnect(
        "Fetch", when="mid-response", topic=topic
    ),
    "drop": lambda faults, topic: faults.drop("Fetch", topic=topic),
}


def named(peer):
    return peer.name


@pytest.mark.parametrize("order", PRODUCING)
@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_a_fault_of_producing(kafka_broker, kafka_topic, peer, order):
    servers = kafka_broker.bootstrap_servers
    fault = PRODUCING[order](kafka_broker.faults)
    peer.produce(servers, kafka_topic, [RECORD], idempotent=True, **HASTE[peer])
    assert fault.count == (2 if order == "error" else 1)
    kafka_broker.faults.clear()
    peer.produce(servers, kafka_topic, [RECORD])
    assert [seen.offset for seen in peer.consume(servers, kafka_topic, {0: 0}, 2)] == [0, 1]


@pytest.mark.parametrize("order", CONSUMING)
@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_a_fault_of_consuming(kafka_broker, kafka_topic, peer, order):
    servers = kafka_broker.bootstrap_servers
    peer.produce(servers, kafka_topic, [RECORD] * 3)
    fault = CONSUMING[order](kafka_broker.faults, kafka_topic)
    seen = peer.consume(servers, kafka_topic, {0: 0}, 3, **HASTE[peer])
    assert [each.sent for each in seen] == [RECORD] * 3
    assert fault.count == 1


@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_a_slow_disk(kafka_broker, kafka_topic, peer):
    kafka_broker.faults.slow_disk(300)
    begun = time.monotonic()
    peer.produce(kafka_broker.bootstrap_servers, kafka_topic, [RECORD], acks="all")
    assert time.monotonic() - begun >= 0.3


def test_a_fetch_within_a_session_meets_the_fault_of_its_topic(
    kafka_broker, kafka_topic, kafka_producer
):
    """kafka-python keeps sessions: while nothing happens, its fetches name nothing."""
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=kafka_broker.bootstrap_servers, fetch_max_wait_ms=50
    )
    try:
        consumer.assign([kafka.TopicPartition(kafka_topic, 0)])
        consumer.seek_to_beginning()
        for _ in range(20):  # it rests
            consumer.poll(timeout_ms=10)
        fault = kafka_broker.faults.error("Fetch", "NOT_LEADER_OR_FOLLOWER", topic=kafka_topic)
        deadline = time.monotonic() + 30
        while not fault.count and time.monotonic() < deadline:
            consumer.poll(timeout_ms=10)
        fault.wait(timeout_s=0)
        kafka_producer.send_and_wait(kafka_topic, b"hello")
        found = []
        while not found and time.monotonic() < deadline:
            found = [row.value for rows in consumer.poll(100).values() for row in rows]
        assert found == [b"hello"]
    finally:
        consumer.close()


@pytest.mark.kafka_broker({"message.max.bytes": "9000000"})
@pytest.mark.kafka_topic(configs={"max.message.bytes": "9000000"})
def test_a_request_of_many_reads_is_judged_whole(kafka_broker, kafka_topic, kafka_consumer):
    fault = kafka_broker.faults.error("Produce", "NOT_LEADER_OR_FOLLOWER", topic=kafka_topic)
    large = RECORD._replace(value=bytes(8_000_000))
    Confluent.produce(
        kafka_broker.bootstrap_servers, kafka_topic, [large], **{"message.max.bytes": 9_000_000}
    )
    assert fault.count == 1
    assert len(next(iter(kafka_consumer)).value) == 8_000_000

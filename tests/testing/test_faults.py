"""Each fault, as clients of others meet it."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

import ottla
from ottla.base.errors import ErrorCode
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.framing import decode_response, encode_response
from ottla.protocol.registry import APIS, ApiKey, request_class
from ottla.testing.faults import Faults, api_name
from ottla.testing.refusals import refusal

pytestmark = [pytest.mark.clients]
WAIT_S = 30


def produced(broker, topic, **options):
    """The outcome of one record of confluent-kafka's: (error, message)."""
    outcomes = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **options})
    producer.produce(topic, b"hello", callback=lambda *outcome: outcomes.append(outcome))
    assert producer.flush(WAIT_S) == 0
    return outcomes[0]


def values_in(broker, topic):
    with ottla.SyncConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([(topic, 0)])
        end = consumer.end_offsets((topic, 0))[topic, 0]
        found = []
        while len(found) < end:
            found += consumer.poll(1000)
        return [record.value for record in found]


def test_an_error_is_seen_once_and_retried(kafka_broker, kafka_topic):
    fault = kafka_broker.faults.error("Produce", "NOT_LEADER_OR_FOLLOWER", topic=kafka_topic)
    error, message = produced(kafka_broker, kafka_topic)
    assert error is None and message.offset() == 0
    assert fault.count == 1


def test_an_error_that_is_final_reaches_the_caller(kafka_broker, kafka_topic):
    kafka_broker.faults.error("Produce", "MESSAGE_TOO_LARGE")
    error, _ = produced(kafka_broker, kafka_topic)
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert values_in(kafka_broker, kafka_topic) == []


def test_an_error_of_another_topic_does_not_strike(kafka_broker, kafka_topic):
    fault = kafka_broker.faults.error("Produce", "MESSAGE_TOO_LARGE", topic="another", times=None)
    assert produced(kafka_broker, kafka_topic)[0] is None
    assert fault.count == 0


def test_an_error_strikes_after_some(kafka_broker, kafka_topic):
    kafka_broker.faults.error("Produce", "MESSAGE_TOO_LARGE", after=1)
    assert produced(kafka_broker, kafka_topic)[0] is None
    assert produced(kafka_broker, kafka_topic)[0] is not None
    assert produced(kafka_broker, kafka_topic)[0] is None


def test_an_error_with_acks_0_closes_the_connection(kafka_broker, kafka_topic):
    fault = kafka_broker.faults.error("Produce", "NOT_LEADER_OR_FOLLOWER")
    produced(kafka_broker, kafka_topic, acks=0)
    fault.wait()
    assert values_in(kafka_broker, kafka_topic) == []


def test_metadata_tells_an_error_and_then_the_truth(kafka_broker, kafka_topic):
    fault = kafka_broker.faults.error("Metadata", "LEADER_NOT_AVAILABLE", topic=kafka_topic)
    assert produced(kafka_broker, kafka_topic)[0] is None
    assert fault.count == 1


def test_aiokafka_retries_an_error(kafka_broker, kafka_topic):
    async def main():
        async with AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
            fault = kafka_broker.faults.error(
                "Produce", "NOT_LEADER_OR_FOLLOWER", topic=kafka_topic, times=2
            )
            assert (await producer.send_and_wait(kafka_topic, b"hello")).offset == 0
            assert fault.count == 2

    asyncio.run(main())


def test_a_fetch_that_is_refused_is_asked_again(kafka_broker, kafka_topic):
    async def main():
        servers = kafka_broker.bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            await producer.send_and_wait(kafka_topic, b"hello")
        fault = kafka_broker.faults.error("Fetch", "NOT_LEADER_OR_FOLLOWER", times=2)
        async with AIOKafkaConsumer(
            kafka_topic, bootstrap_servers=servers, auto_offset_reset="earliest"
        ) as consumer:
            assert (await consumer.getone()).value == b"hello"
        assert fault.count == 2

    asyncio.run(main())


def test_a_delay_past_the_timeout_of_the_request(kafka_broker, kafka_topic):
    kafka_broker.faults.delay("Produce", ms=2_000, times=None)
    options = {"request.timeout.ms": 300, "message.timeout.ms": 1_000, "acks": 1}
    error, _ = produced(kafka_broker, kafka_topic, **options)
    assert error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT)


def test_a_delay_is_felt(kafka_broker, kafka_topic):
    fault = kafka_broker.faults.delay("Produce", ms=300, times=1)
    begun = time.monotonic()
    assert produced(kafka_broker, kafka_topic)[0] is None
    assert time.monotonic() - begun >= 0.3
    assert fault.count == 1


@pytest.mark.parametrize("when", ["request", "response", "mid-response"])
def test_a_disconnect_loses_and_doubles_nothing(kafka_broker, kafka_topic, when):
    fault = kafka_broker.faults.disconnect("Produce", when=when)
    error, _ = produced(kafka_broker, kafka_topic, **{"enable.idempotence": True})
    assert error is None and fault.count == 1
    assert values_in(kafka_broker, kafka_topic) == [b"hello"]


@pytest.mark.parametrize(("when", "count"), [("request", 0), ("response", 1)])
def test_what_is_dropped_was_handled_or_not(kafka_broker, kafka_topic, when, count):
    kafka_broker.faults.drop("Produce", when=when)
    options = {"retries": 0, "request.timeout.ms": 1_000, "message.timeout.ms": 2_000}
    error, _ = produced(kafka_broker, kafka_topic, **options)
    assert error is not None
    assert values_in(kafka_broker, kafka_topic) == [b"hello"] * count


def test_a_response_in_two_halves_of_a_fetch(kafka_broker, kafka_topic, kafka_producer):
    kafka_producer.send_and_wait(kafka_topic, b"x" * 10_000)
    fault = kafka_broker.faults.disconnect("Fetch", when="mid-response", after=0)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka_broker.bootstrap_servers,
            "group.id": kafka_topic,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([kafka_topic])
        deadline, message = time.monotonic() + WAIT_S, None
        while (message is None or message.error()) and time.monotonic() < deadline:
            message = consumer.poll(1)
        assert message is not None and message.value() == b"x" * 10_000
        assert fault.count == 1
    finally:
        consumer.close()


def test_a_slow_disk_delays_acks_all_alone(kafka_broker, kafka_topic):
    kafka_broker.faults.slow_disk(60_000)
    assert produced(kafka_broker, kafka_topic, acks=1)[0] is None
    options = {"acks": "all", "message.timeout.ms": 500}
    assert produced(kafka_broker, kafka_topic, **options)[0] is not None
    kafka_broker.faults.slow_disk(0)
    assert produced(kafka_broker, kafka_topic, acks="all")[0] is None


def test_replies_keep_their_order_around_a_refusal(kafka_broker, kafka_topic):
    """aiokafka gives a connection up whose responses are out of order."""

    async def main():
        async with ottla.Producer(
            bootstrap_servers=kafka_broker.bootstrap_servers, linger_ms=0, batch_size=1
        ) as producer:
            kafka_broker.faults.slow_disk(50)
            kafka_broker.faults.error("Produce", "NOT_LEADER_OR_FOLLOWER", after=2)
            sent = [await producer.send(kafka_topic, b"%d" % each) for each in range(20)]
            await producer.flush()
            assert [(await each).offset for each in sent] == list(range(20))

    asyncio.run(main())


def test_a_fault_can_be_waited_for_and_lifted(kafka_broker, kafka_topic):
    with kafka_broker.faults.error("Produce", "MESSAGE_TOO_LARGE", times=None) as fault:
        assert produced(kafka_broker, kafka_topic)[0] is not None
        fault.wait(1)
        with pytest.raises(TimeoutError, match="not 2"):
            fault.wait(2, timeout_s=0)
    assert produced(kafka_broker, kafka_topic)[0] is None


def test_admin_calls_are_refused_too(kafka_broker):
    from confluent_kafka.admin import AdminClient, NewTopic

    kafka_broker.faults.error("CreateTopics", "POLICY_VIOLATION")
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap_servers})
    made = admin.create_topics([NewTopic("refused", 1)])["refused"]
    with pytest.raises(KafkaException, match="POLICY_VIOLATION"):
        made.result(WAIT_S)


@pytest.mark.parametrize(
    ("order", "match"),
    [
        (lambda faults: faults.delay("Produced", ms=1), "no request that is served"),
        (lambda faults: faults.delay("Produce", ms=-1), "ms=-1"),
        (lambda faults: faults.error("Produce", "OOPS"), "no error code"),
        (lambda faults: faults.error("Produce", "NONE"), "no error code"),
        (lambda faults: faults.drop("Produce", when="never"), "when='never'"),
        (lambda faults: faults.drop("Produce", times=0), "times=0"),
        (lambda faults: faults.slow_disk(-1), "ms=-1"),
    ],
)
def test_an_order_that_is_none_is_refused(order, match):
    with pytest.raises(ValueError, match=match):
        order(Faults())


@pytest.mark.parametrize("key", [k for k in ENDPOINTS if k != ApiKey.WRITE_TXN_MARKERS])
def test_every_request_can_be_refused(key):
    """In every version; a request of nothing is refused where there is a place for a code."""
    cls = request_class(key)
    api = APIS[key]
    for version in range(api.first, api.last + 1):
        request = cls(**{f.name: f.missing() for f in cls.__fields__})
        refused = refusal(request, version, ErrorCode.UNKNOWN_SERVER_ERROR)
        frame = b"".join(encode_response(key, version, 7, refused))
        assert decode_response(key, version, memoryview(frame)[4:])[0] == 7, api_name(key)

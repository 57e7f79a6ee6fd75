"""What a topic's settings do to producers and consumers, and topics that are not there yet."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient

import ottla
from ottla.records.batch import BatchHeader
from ottla.records.compression import CODEC_NAMES
from tests.clients.peers import CODECS, MARKS, PEERS, kafka
from tests.clients.records import WAIT_S, Sent

pytestmark = MARKS

Maker = Callable[..., Any]
LIBRARIES = ("confluent", "kafka-python", "aiokafka")
RECORDS = [Sent(b"k%d" % n, b"value %d" % n * 20, (("h", b"%d" % n),), 1_000 + n) for n in range(9)]


@pytest.mark.parametrize("name", LIBRARIES)
def test_producing_makes_a_topic(name: str, bootstrap: str, admin: AdminClient) -> None:
    topic = f"made-by-{name}"
    PEERS[name].produce(bootstrap, topic, RECORDS)
    metadata = admin.list_topics(timeout=WAIT_S)  # of all topics
    assert len(metadata.topics[topic].partitions) == 1
    assert [row.sent for row in PEERS[name].consume(bootstrap, topic, {0: 0}, 9)] == RECORDS


def test_a_topic_that_may_not_be_made_is_unknown(start_broker: Callable[..., ottla.Broker]) -> None:
    bootstrap = start_broker(settings={"auto.create.topics.enable": "false"}).bootstrap_servers
    with pytest.raises(rd.KafkaException) as caught:
        impatient = {"topic.metadata.propagation.max.ms": 0}
        PEERS["confluent"].produce(bootstrap, "no", RECORDS, **impatient)
    assert caught.value.args[0].code() == rd.KafkaError.UNKNOWN_TOPIC_OR_PART
    seen = AdminClient({"bootstrap.servers": bootstrap}).list_topics("no", WAIT_S).topics["no"]
    assert seen.error.code() == rd.KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_partition_that_is_not_there(bootstrap: str, make_topic: Maker) -> None:
    with pytest.raises(rd.KafkaException) as caught:
        PEERS["confluent"].produce(bootstrap, make_topic(2), RECORDS, partition=2)
    assert caught.value.args[0].code() == rd.KafkaError._UNKNOWN_PARTITION


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_message_that_is_too_large_is_refused(
    name: str, codec: str, bootstrap: str, make_topic: Maker
) -> None:
    topic = make_topic(max_message_bytes="2000")
    large = [Sent(b"k", uuid.uuid4().bytes * 200 + noise(3_000))]
    with pytest.raises(Exception) as caught:
        PEERS[name].produce(bootstrap, topic, large, codec=codec)
    error = caught.value
    if name == "confluent":
        assert error.args[0].code() == rd.KafkaError.MSG_SIZE_TOO_LARGE
    else:
        assert error.__class__.__name__ == kafka.errors.MessageSizeTooLargeError.__name__
    PEERS[name].produce(bootstrap, topic, RECORDS[:1], codec=codec)
    assert len(PEERS[name].consume(bootstrap, topic, {0: 0}, 1)) == 1


def noise(count: int) -> bytes:
    """Bytes that no codec makes smaller."""
    return b"".join(uuid.uuid4().bytes for _ in range(count // 16))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_log_append_time_is_the_brokers(
    name: str, codec: str, bootstrap: str, make_topic: Maker
) -> None:
    topic = make_topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    PEERS[name].produce(bootstrap, topic, RECORDS, codec=codec)
    after = int(time.time() * 1000)
    for reader in LIBRARIES:
        seen = PEERS[reader].consume(bootstrap, topic, {0: 0}, len(RECORDS))
        assert all(before <= row.timestamp <= after for row in seen)
        assert [row.sent._replace(timestamp=0) for row in seen] == [
            record._replace(timestamp=0) for record in RECORDS
        ]


def test_a_consumer_is_told_whose_the_time_is(
    bootstrap: str, make_topic: Maker, rd_consumer: Maker
) -> None:
    for kind, expected in (
        ("CreateTime", rd.TIMESTAMP_CREATE_TIME),
        ("LogAppendTime", rd.TIMESTAMP_LOG_APPEND_TIME),
    ):
        topic = make_topic(message_timestamp_type=kind)
        PEERS["confluent"].produce(bootstrap, topic, RECORDS)
        consumer = rd_consumer()
        consumer.assign([rd.TopicPartition(topic, 0, 0)])
        assert consumer.poll(WAIT_S).timestamp()[0] == expected


@pytest.mark.parametrize("forced", [*CODECS[1:], "uncompressed"])
@pytest.mark.parametrize(
    ("name", "codec"), [("confluent", "none"), ("kafka-python", "gzip"), ("aiokafka", "lz4")]
)
def test_a_forced_codec_is_what_lies_in_the_log(
    forced: str,
    name: str,
    codec: str,
    bootstrap: str,
    make_topic: Maker,
    batches_of: Callable[..., list[BatchHeader]],
) -> None:
    topic = make_topic(compression_type=forced)
    PEERS[name].produce(bootstrap, topic, RECORDS, codec=codec, idempotent=True)
    written = {CODEC_NAMES[header.codec] for header in batches_of(topic)}
    assert written == {"none" if forced == "uncompressed" else forced}
    for reader in LIBRARIES:
        seen = PEERS[reader].consume(bootstrap, topic, {0: 0}, len(RECORDS))
        assert [row.sent for row in seen] == RECORDS


def test_records_spread_over_many_partitions_arrive_once(bootstrap: str, make_topic: Maker) -> None:
    topic = make_topic(100)
    producer = rd.Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    for number in range(2_000):
        producer.produce(topic, key=b"%d" % number, value=b"%d" % number)
    assert producer.flush(WAIT_S) == 0
    starts = dict.fromkeys(range(100), 0)
    for name in LIBRARIES:
        seen = PEERS[name].consume(bootstrap, topic, starts, 2_000)
        assert sorted(int(row.value or b"") for row in seen) == list(range(2_000))
        assert len({row.partition for row in seen}) == 100
        assert all(row.key == row.value for row in seen)


def test_a_topic_that_was_deleted_and_made_again_starts_anew(
    bootstrap: str, admin: AdminClient
) -> None:
    for number in range(2):
        PEERS["aiokafka"].produce(bootstrap, "again", RECORDS[number:])
        seen = PEERS["confluent"].consume(bootstrap, "again", {0: 0}, len(RECORDS) - number)
        assert [row.sent for row in seen] == RECORDS[number:]
        admin.delete_topics(["again"])["again"].result(WAIT_S)

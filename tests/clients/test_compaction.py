"""Compaction as clients see it: on a real node, with tiny segments, beside those who produce."""

import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.clients.peers import MARKS
from tests.tools.serving import Serving, serving

pytestmark = MARKS

SETTINGS = {
    "log.cleaner.backoff.ms": "20",
    "log.retention.check.interval.ms": "50",
    "log.flush.offset.checkpoint.interval.ms": "100",
}
COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.01",
    "segment.index.bytes": "60",
    "index.interval.bytes": "200",
    "file.delete.delay.ms": "0",
}
WAIT_S = 30.0
Record = tuple[int, bytes, bytes | None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "data", SETTINGS) as server:
        yield server


def make(server: Serving, name: str, **configs: str) -> Path:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    topic = NewTopic(name, 1, 1, config=COMPACTED | configs)
    admin.create_topics([topic])[name].result(WAIT_S)
    return server.data / f"{name}-0"


def produce(server: Serving, name: str, pairs: list[tuple[bytes, bytes | None]], **o: str) -> None:
    options = {"bootstrap.servers": server.bootstrap, "batch.num.messages": 4, "linger.ms": 1}
    producer = rd.Producer(options | o)
    for key, value in pairs:
        producer.produce(name, value, key)
    assert producer.flush(WAIT_S) == 0


def read(server: Serving, name: str) -> list[Record]:
    """All there is, from the beginning."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": server.bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([rd.TopicPartition(name, 0, 0)])
    records: list[Record] = []
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error():
            assert message.error().code() == rd.KafkaError._PARTITION_EOF, message.error()
            consumer.close()
            return records
        records.append((message.offset(), message.key(), message.value()))


def final(pairs: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    last = dict(pairs)
    return {key: value for key, value in last.items() if value is not None}


def wait_compacted(server: Serving, name: str, most: int) -> list[Record]:
    deadline = time.monotonic() + WAIT_S
    while True:
        records = read(server, name)
        if len(records) <= most:
            return records
        assert time.monotonic() < deadline, (len(records), server.log.read_text()[-2_000:])
        time.sleep(0.02)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_of_each_key_the_last_record_stays(server: Serving, codec: str) -> None:
    make(server, "t")
    pairs: list[tuple[bytes, bytes | None]] = [
        (b"key %d" % (n % 20), b"value %d" % n) for n in range(2_000)
    ]
    produce(server, "t", pairs, **{"compression.type": codec, "enable.idempotence": "true"})
    records = wait_compacted(server, "t", 200)
    assert final([(key, value) for _, key, value in records]) == final(pairs)
    for offset, key, value in records:
        assert pairs[offset] == (key, value), "offsets stay"
    # The producer's state, the log's ends and its place survive a kill.
    server.kill()
    server.start()
    again = read(server, "t")
    assert final([(key, value) for _, key, value in again]) == final(pairs)
    produce(server, "t", [(b"key 3", b"more")])
    assert read(server, "t")[-1] == (2_000, b"key 3", b"more")
    assert "Traceback" not in server.log.read_text()


def test_tombstones_go_when_their_time_has_come(server: Serving) -> None:
    make(server, "t", **{"delete.retention.ms": "0"})
    pairs: list[tuple[bytes, bytes | None]] = [(b"gone", b"v"), (b"gone", None), (b"stays", b"v")]
    produce(server, "t", pairs)
    others: list[tuple[bytes, bytes | None]] = [(b"k", b"v%d" % n) for n in range(1_000)]
    deadline = time.monotonic() + WAIT_S
    while True:  # each turn makes a segment that is dirty, and so another pass
        produce(server, "t", others)
        seen = {key for _, key, _ in read(server, "t")}
        assert {b"stays", b"k"} <= seen
        if b"gone" not in seen:
            return
        assert time.monotonic() < deadline


def test_a_topic_made_anew_is_compacted_anew(server: Serving) -> None:
    pairs: list[tuple[bytes, bytes | None]] = [(b"k%d" % (n % 5), b"%d" % n) for n in range(1_000)]
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for _ in range(2):
        make(server, "t")
        produce(server, "t", pairs)
        records = wait_compacted(server, "t", 100)
        assert final([(key, value) for _, key, value in records]) == final(pairs)
        admin.delete_topics(["t"])["t"].result(WAIT_S)
    text = server.log.read_text()
    assert "Traceback" not in text
    assert "ERROR" not in text

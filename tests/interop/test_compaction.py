"""Logs that Apache Kafka compacted are served here, and compacted further; Kafka serves those.

One journey over one directory, with keys, tombstones, all codecs and transactions:

    kafka    Kafka's cleaner has been over it
    ottla    the same directory, served by Ottla, before its cleaner runs
    further  more was produced, and Ottla's cleaner has been over it
    back     the same directory, served by Kafka again

Of every log that Ottla compacted `kafka-dump-log` has no complaint.
"""

import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.records.batch import iterate_headers
from ottla.storage.transaction_index import parse_entries
from tests.tools.kafka_broker import java, kafka_broker
from tests.tools.serving import Serving

pytestmark = [pytest.mark.java, pytest.mark.clients, pytest.mark.timeout(300)]

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
TOPICS: Final = ("plain", "marked", "packed")
COMPACTED: Final = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.01",
    "segment.index.bytes": "120",
    "index.interval.bytes": "300",
    "file.delete.delay.ms": "0",
    "delete.retention.ms": "600000",
}
CLEANER: Final = {"log.cleaner.backoff.ms": "50", "log.cleaner.dedupe.buffer.size": "2000000"}
ADOPTED: Final = {
    "log.cleanup.policy": "compact",
    "log.index.size.max.bytes": "120",
    "log.index.interval.bytes": "300",
}
"""Ottla does not know how Kafka's topics were configured."""
NUMBER: Final = r"-?\d+"
KNOWN: Final = re.compile(
    rf"Dumping \S+|Log starting offset: {NUMBER}"
    rf"|baseOffset: {NUMBER} lastOffset: {NUMBER} count: {NUMBER} .* isvalid: true"
    rf"|\| offset: {NUMBER} .*"
    rf"|offset: {NUMBER} position: {NUMBER}|timestamp: {NUMBER} offset: {NUMBER}"
    rf"|version: 0 producerId: {NUMBER} firstOffset: {NUMBER} lastOffset: .*"
    r"|\S+ passed sanity check\.|\S+ is empty\."
)
HOLES: Final = re.compile(rf"Non-consecutive offsets in \S+\n(  {NUMBER} is followed by \d+\n)+")
"""With --deep-iteration the tool tells of every hole; compaction makes holes."""
Record = tuple[int, bytes, bytes | None]


class Station(NamedTuple):
    records: dict[str, list[Record]]
    sizes: dict[str, int]


class Journey(NamedTuple):
    stations: dict[str, Station]
    history: dict[str, dict[bytes, bytes | None]]
    """Last committed value of each key, by topic."""
    logs: Path
    said: str
    warnings: str
    dumped: list[str]
    """What kafka-dump-log said that is not of a known form."""
    sane: int


def write(bootstrap: str, seed: int, history: dict[str, dict[bytes, bytes | None]]) -> None:
    rng = random.Random(seed)
    options = {"bootstrap.servers": bootstrap, "batch.num.messages": 6, "linger.ms": 2}

    def pairs(count: int) -> Iterator[tuple[bytes, bytes | None]]:
        for number in range(count):
            value = None if rng.random() < 0.1 else b"%d %d " % (seed, number) + rng.randbytes(60)
            yield b"key %d" % rng.randrange(40), value

    def send(producer: rd.Producer, topic: str, count: int) -> dict[bytes, bytes | None]:
        sent = {}
        for key, value in pairs(count):
            producer.produce(topic, value, key, headers=[("h", b"1")])
            sent[key] = value
        assert producer.flush(30) == 0
        return sent

    for codec in CODECS:
        for topic in ("plain", "packed"):
            idempotent = {"compression.type": codec, "enable.idempotence": codec != "lz4"}
            history[topic] |= send(rd.Producer(options | idempotent), topic, 300)


def write_transactions(bootstrap: str, history: dict[str, dict[bytes, bytes | None]]) -> None:
    options = {"bootstrap.servers": bootstrap, "batch.num.messages": 6, "linger.ms": 2}
    producer = rd.Producer(options | {"transactional.id": "t"})
    producer.init_transactions(30)
    for number in range(30):
        producer.begin_transaction()
        sent = {}
        for key in range(number % 7 + 1):
            value = b"%d of %d " % (key, number) + b"v" * 90
            producer.produce("marked", value, b"key %d" % key)
            sent[b"key %d" % key] = value
        if number % 3:
            producer.commit_transaction(30)
            history["marked"] |= sent
        else:
            producer.abort_transaction(30)
    # What follows keeps the last transactions out of the active segment.
    after = rd.Producer(options)
    for number in range(200):
        after.produce("marked", b"v" * 200, b"other %d" % (number % 3))
        history["marked"][b"other %d" % (number % 3)] = b"v" * 200
    assert after.flush(30) == 0


def read(bootstrap: str, topic: str) -> list[Record]:
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([rd.TopicPartition(topic, 0, 0)])
    records: list[Record] = []
    while True:
        message = consumer.poll(30)
        assert message is not None
        if message.error():
            assert message.error().code() == rd.KafkaError._PARTITION_EOF, message.error()
            consumer.close()
            return records
        records.append((message.offset(), message.key(), message.value()))


def look(bootstrap: str, logs: Path) -> Station:
    sizes = {
        topic: sum(path.stat().st_size for path in (logs / f"{topic}-0").glob("*.log"))
        for topic in TOPICS
    }
    return Station({topic: read(bootstrap, topic) for topic in TOPICS}, sizes)


def wait(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def cleaned_up_to(logs: Path) -> dict[str, int]:
    path = logs / "cleaner-offset-checkpoint"
    lines = path.read_text().splitlines()[2:] if path.exists() else []
    return {line.split()[0]: int(line.split()[2]) for line in lines if len(line.split()) == 3}


def wait_compacted(logs: Path) -> None:
    """All that is in sealed segments has been compacted."""

    def is_clean() -> bool:
        done = cleaned_up_to(logs)
        return all(
            done.get(topic, -1)
            >= max(int(path.stem) for path in (logs / f"{topic}-0").glob("*.log"))
            for topic in TOPICS
        )

    wait(is_clean, lambda: str(cleaned_up_to(logs)))


def dump(logs: Path) -> tuple[list[str], int]:
    tool = "org.apache.kafka.tools.DumpLogSegments"
    files = [
        str(path)
        for topic in TOPICS
        for path in sorted((logs / f"{topic}-0").iterdir())
        if path.suffix in (".log", ".index", ".timeindex", ".txnindex")
    ]
    texts = []
    indexes = [path for path in files if path.endswith(".index")]
    for words in (
        ("--deep-iteration", "--files", ",".join(files)),
        ("--index-sanity-check", "--files", ",".join(indexes)),
    ):
        done = subprocess.run(java(tool, *words), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        texts.append(HOLES.sub("", done.stdout + done.stderr))
    lines = [line for text in texts for line in text.splitlines() if line]
    unknown = [line for line in lines if not KNOWN.fullmatch(line)]
    return unknown, sum(line.endswith("passed sanity check.") for line in lines)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    home = tmp_path_factory.mktemp("compaction")
    history: dict[str, dict[bytes, bytes | None]] = {topic: {} for topic in TOPICS}
    stations: dict[str, Station] = {}
    with kafka_broker(home, CLEANER) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        made = [
            NewTopic(
                name,
                1,
                1,
                config=COMPACTED | ({"compression.type": "zstd"} if name == "packed" else {}),
            )
            for name in TOPICS
        ]
        for future in admin.create_topics(made).values():
            future.result(30)
        write(kafka.bootstrap, 1, history)
        write_transactions(kafka.bootstrap, history)
        wait_compacted(kafka.logs)
        stations["kafka"] = look(kafka.bootstrap, kafka.logs)
        kafka.stop()
        server = Serving(kafka.logs, ADOPTED | {"log.cleaner.enable": "false"})
        server.port = kafka.port
        try:
            server.start()
            stations["ottla"] = look(server.bootstrap, kafka.logs)
            server.stop()
            server.settings = ADOPTED | CLEANER
            server.start()
            admin = AdminClient({"bootstrap.servers": server.bootstrap})
            resources = [
                rd.admin.ConfigResource(rd.admin.ConfigResource.Type.TOPIC, name) for name in TOPICS
            ]
            for resource in resources:
                for key, value in COMPACTED.items():
                    resource.add_incremental_config(
                        rd.admin.ConfigEntry(
                            key,
                            value,
                            incremental_operation=rd.admin.AlterConfigOpType.SET,
                        )
                    )
            for future in admin.incremental_alter_configs(resources).values():
                future.result(30)
            write(server.bootstrap, 2, history)
            more = rd.Producer({"bootstrap.servers": server.bootstrap, "batch.num.messages": 6})
            for number in range(300):
                more.produce("marked", b"w" * 100, b"other %d" % (number % 3))
                history["marked"][b"other %d" % (number % 3)] = b"w" * 100
            assert more.flush(30) == 0
            wait_compacted(kafka.logs)
            stations["further"] = look(server.bootstrap, kafka.logs)
        finally:
            assert server.stop() == 0
        dumped, sane = dump(kafka.logs)
        kafka.start()
        stations["back"] = look(kafka.bootstrap, kafka.logs)
        said = kafka.said()
        logs = kafka.logs
    warnings = [
        line for line in server.log.read_text().splitlines() if "WARN" in line or "ERR" in line
    ]
    return Journey(stations, history, logs, said, "\n".join(warnings), dumped, sane)


def alive(pairs: list[Record]) -> dict[bytes, bytes]:
    last = {key: value for _, key, value in pairs}
    return {key: value for key, value in last.items() if value is not None}


def test_what_kafka_compacted_reads_the_same(journey: Journey) -> None:
    assert journey.stations["ottla"].records == journey.stations["kafka"].records
    assert len(journey.stations["kafka"].records["plain"]) < 600, "Kafka's cleaner was there"


@pytest.mark.parametrize("station", ["further", "back"])
@pytest.mark.parametrize("topic", TOPICS)
def test_the_last_value_of_each_key_is_there(journey: Journey, station: str, topic: str) -> None:
    expected = {k: v for k, v in journey.history[topic].items() if v is not None}
    records = journey.stations[station].records[topic]
    assert alive(records) == expected
    assert len(records) < 600, "compacted"
    offsets = [offset for offset, _, _ in records]
    assert offsets == sorted(set(offsets))


def test_kafka_reads_what_ottla_compacted(journey: Journey) -> None:
    for topic in TOPICS:
        back = journey.stations["back"].records[topic]
        left = journey.stations["further"].records[topic]
        # Kafka's own cleaner may have been over it in the meantime.
        assert set(back) <= set(left)
    words = ("ERROR", "orrupt", "Rebuilding", "uncleanable", "index file not found")
    complaints = [
        line
        for line in journey.said.splitlines()
        if any(word in line for word in words) and "__cluster_metadata" not in line
    ]
    assert complaints == []


def test_kafka_dump_log_has_no_complaint(journey: Journey) -> None:
    assert journey.dumped == []
    assert journey.sane >= len(TOPICS)


def test_nothing_was_wrong(journey: Journey) -> None:
    assert journey.warnings == ""


def test_transactions_are_left_as_kafka_would(journey: Journey) -> None:
    """Every abort marker that is left with an index entry has one of its own."""
    directory = journey.logs / "marked-0"
    for path in directory.glob("*.txnindex"):
        entries = parse_entries(path.read_bytes(), str(path))
        log = path.with_suffix(".log").read_bytes()
        markers = {header.last_offset for _, header in iterate_headers(log) if header.is_control}
        assert {entry.last_offset for entry in entries} <= markers


def test_batches_are_packed_as_the_topic_says(journey: Journey) -> None:
    logs = sorted((journey.logs / "packed-0").glob("*.log"))
    codecs: dict[int, Any] = {}
    for path in logs[:-1]:
        for _, header in iterate_headers(path.read_bytes()):
            if header.record_count:
                codecs[header.codec] = path
    assert 4 in codecs

"""A log directory that Apache Kafka wrote is served by Ottla, and then by Kafka again.

One journey, whose stations are pictures of what clients see; the tests compare them:

    kafka    Kafka's producers wrote: all codecs, idempotent, transactions, DeleteRecords, a group
    killed   Ottla over a copy made while Kafka ran: what SIGKILL of Kafka would have left
    ottla    Ottla over the directory after Kafka's clean stop
    more     the same after one of Kafka's producers, which never stopped, went on
    back     Kafka over what Ottla left
    again    Ottla over what Kafka left then
    last     the same after the producer went on
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.base.errors import ErrorCode
from ottla.protocol.messages import describe_producers as producers_api
from ottla.protocol.messages import offset_for_leader_epoch as epochs_api
from ottla.protocol.messages import produce as produce_api
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.tools.kafka_broker import CLUSTER_ID, NODE_ID, KafkaBroker, java, kafka_broker
from tests.tools.serving import Serving, serving
from tests.tools.wire import ask

pytestmark = [pytest.mark.java, pytest.mark.clients, pytest.mark.timeout(400)]

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
TINY: Final = {"segment.index.bytes": "120", "index.interval.bytes": "400"}
TOPICS: Final = {
    **{f"java-{codec}": 2 for codec in CODECS},
    "native": 2,
    "cut": 1,
    "marked": 1,
    "stamped": 1,
}
INTERNAL: Final = {"__consumer_offsets": 3, "__transaction_state": 3}
SETTINGS: Final = {"log.flush.start.offset.checkpoint.interval.ms": "100"}
CONFIGS: Final = {"stamped": {"message.timestamp.type": "LogAppendTime"}}


class View(NamedTuple):
    """What clients see of a partition."""

    watermarks: tuple[int, int]
    records: list[tuple[Any, ...]]
    by_time: list[int]
    """Offset of the first record at or past the timestamps of some of the records."""
    epoch_ends: list[tuple[int, int]]
    producers: dict[int, tuple[int, int, int]]
    """(epoch, last sequence, start of the open transaction) by id."""


Picture = dict[tuple[str, int], View]


class Journey(NamedTuple):
    pictures: dict[str, Picture]
    topic_ids: dict[str, dict[str, str]]
    """By station, by topic."""
    clusters: dict[str, tuple[str, int]]
    repeated: Any
    """Answer to a batch of a Kafka producer that is sent to Ottla a second time."""
    skipped: Any
    """Answer to one whose sequence leaves a gap."""
    new_producer_id: int
    said: str
    """What Kafka logged when it came back."""
    logs: Path
    kraft: list[dict[str, bytes]]
    """Kafka's own files, before and after Ottla had the directory."""
    warnings: str


# -- writing


def write(broker: KafkaBroker) -> rd.Producer:
    """Fill the topics; returns a producer that is to go on."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topics = [
        NewTopic(name, count, 1, config=TINY | CONFIGS.get(name, {}))
        for name, count in TOPICS.items()
    ]
    for future in admin.create_topics(topics).values():
        future.result(30)
    for codec in CODECS:
        write_with_java(broker, codec)
    options = {"bootstrap.servers": broker.bootstrap, "batch.num.messages": 5}
    producer = rd.Producer(options | {"enable.idempotence": True})
    fill(producer, "native", 300)
    fill(producer, "native", 1)  # a batch that `send_again` can make
    fill(producer, "stamped", 60)
    fill(producer, "cut", 200)
    admin.delete_records([rd.TopicPartition("cut", 0, 77)])[rd.TopicPartition("cut", 0, 77)].result(
        30
    )
    write_transactions(options)
    commit_offsets(broker)
    wait_for_log_start(broker.logs / "log-start-offset-checkpoint")
    return producer


def wait_for_log_start(checkpoint: Path) -> None:
    """Kafka writes down where a log starts now and then."""
    deadline = time.monotonic() + 30
    while "cut 0 77" not in checkpoint.read_text():
        assert time.monotonic() < deadline, "Kafka wrote no checkpoint"
        time.sleep(0.02)


def write_with_java(broker: KafkaBroker, codec: str) -> None:
    lines = "".join(f"h:{n},e:é\tkey {n}\tvalue {n} of {codec}\n" for n in range(200))
    properties = ("parse.key=true", "parse.headers=true")
    words = [word for text in properties for word in ("--reader-property", text)]
    command = java(
        "org.apache.kafka.tools.ConsoleProducer",
        *("--bootstrap-server", broker.bootstrap, "--topic", f"java-{codec}"),
        *("--compression-codec", codec, "--command-property", "batch.size=600"),
        *words,
    )
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def fill(producer: rd.Producer, topic: str, count: int) -> None:
    for number in range(count):
        value = f"value {number}".encode() * (number % 7)
        producer.produce(
            topic, value, f"key {number}", partition=number % TOPICS[topic], headers=[("n", b"1")]
        )
    assert producer.flush(30) == 0


def write_transactions(options: dict[str, Any]) -> None:
    """One committed and one aborted."""
    producer = rd.Producer(options | {"transactional.id": "t"})
    producer.init_transactions(30)
    for is_kept in (True, False):
        producer.begin_transaction()
        fill(producer, "marked", 20)
        producer.commit_transaction(30) if is_kept else producer.abort_transaction(30)


def commit_offsets(broker: KafkaBroker) -> None:
    consumer = rd.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "readers"})
    consumer.commit(offsets=[rd.TopicPartition("native", 0, 42)], asynchronous=False)
    consumer.close()


# -- looking


def look(bootstrap: str) -> Picture:
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 5,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "error",
        }
    )
    port = int(bootstrap.rpartition(":")[2])
    partitions = [(name, index) for name, count in TOPICS.items() for index in range(count)]
    picture = {(name, index): view(consumer, port, name, index) for name, index in partitions}
    consumer.close()
    return picture


def view(consumer: rd.Consumer, port: int, name: str, index: int) -> View:
    watermarks = consumer.get_watermark_offsets(rd.TopicPartition(name, index), 30)
    records = read(consumer, rd.TopicPartition(name, index, watermarks[0]))
    times = [record[1] + shift for record in records[::41] for shift in (0, 1)]
    asked = [rd.TopicPartition(name, index, time) for time in times]
    found = [consumer.offsets_for_times([each], 30)[0].offset for each in asked]
    return View(
        watermarks, records, found, epoch_ends(port, name, index), producers(port, name, index)
    )


def read(consumer: rd.Consumer, start: rd.TopicPartition) -> list[tuple[Any, ...]]:
    consumer.assign([start])
    records: list[tuple[Any, ...]] = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"{start} has no end"
        if message.error():
            assert message.error().code() == rd.KafkaError._PARTITION_EOF, message.error()
            return records
        records.append(
            (
                message.offset(),
                message.timestamp()[1],
                message.timestamp()[0],
                message.key(),
                message.value(),
                message.headers(),
                message.leader_epoch(),
            )
        )


def epoch_ends(port: int, name: str, index: int) -> list[tuple[int, int]]:
    ends = []
    for epoch in range(2):
        partition = epochs_api.OffsetForLeaderPartition(partition=index, leader_epoch=epoch)
        topic = epochs_api.OffsetForLeaderTopic(topic=name, partitions=[partition])
        request = epochs_api.OffsetForLeaderEpochRequest(replica_id=-1, topics=[topic])
        answer = ask(port, request, 4).topics[0].partitions[0]
        assert answer.error_code == 0
        ends.append((answer.leader_epoch, answer.end_offset))
    return ends


def producers(port: int, name: str, index: int) -> dict[int, tuple[int, int, int]]:
    topic = producers_api.TopicRequest(name=name, partition_indexes=[index])
    answer = ask(port, producers_api.DescribeProducersRequest(topics=[topic]), 0)
    (partition,) = answer.topics[0].partitions
    assert partition.error_code == 0
    return {
        each.producer_id: (each.producer_epoch, each.last_sequence, each.current_txn_start_offset)
        for each in partition.active_producers
    }


def topic_ids(bootstrap: str) -> dict[str, str]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = rd.TopicCollection([*TOPICS, *INTERNAL])
    found = {name: future.result(30) for name, future in admin.describe_topics(names).items()}
    assert {name: len(each.partitions) for name, each in found.items()} == {**TOPICS, **INTERNAL}
    return {name: str(each.topic_id) for name, each in found.items()}


def cluster(bootstrap: str) -> tuple[str, int]:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_cluster().result(30)
    return found.cluster_id, found.nodes[0].id


def send_again(port: int, seen: View, producer_id: int, shift: int) -> Any:
    """The last record of a Kafka producer in native-0 once more, its sequence shifted."""
    epoch, last, _ = seen.producers[producer_id]
    _, timestamp, _, key, value, _, _ = seen.records[-1]
    batch = build_batch(
        [Record(0, timestamp, key, value, (("n", b"1"),))],
        codec=0,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=last + shift,
    )
    data = produce_api.PartitionProduceData(index=0, records=memoryview(batch))
    topic = produce_api.TopicProduceData(name="native", partition_data=[data])
    request = produce_api.ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic])
    return ask(port, request, 9).responses[0].partition_responses[0]


def kraft_files(logs: Path) -> dict[str, bytes]:
    names = ("__cluster_metadata-0/*", "bootstrap.checkpoint", "meta.properties")
    return {str(path): path.read_bytes() for name in names for path in logs.glob(name)}


# -- the journey


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    home = tmp_path_factory.mktemp("kafka")
    pictures: dict[str, Picture] = {}
    ids: dict[str, dict[str, str]] = {}
    clusters: dict[str, tuple[str, int]] = {}

    def note(station: str, bootstrap: str) -> None:
        pictures[station] = look(bootstrap)
        ids[station] = topic_ids(bootstrap)
        clusters[station] = cluster(bootstrap)

    with kafka_broker(home, SETTINGS) as kafka:
        producer = write(kafka)
        note("kafka", kafka.bootstrap)
        shutil.copytree(kafka.logs, home / "killed")
        with serving(home / "killed") as killed:
            note("killed", killed.bootstrap)
        kafka.stop()
        kraft = [kraft_files(kafka.logs)]
        server = Serving(kafka.logs)
        server.port = kafka.port
        try:
            server.start()
            note("ottla", server.bootstrap)
            before = pictures["ottla"]["native", 0]
            (producer_id,) = before.producers
            repeated, skipped = (send_again(server.port, before, producer_id, n) for n in (0, 9))
            fill(producer, "native", 100)
            fresh = rd.Producer({"bootstrap.servers": server.bootstrap, "enable.idempotence": True})
            fill(fresh, "java-zstd", 100)
            note("more", server.bootstrap)
        finally:
            assert server.stop() == 0
        kraft.append(kraft_files(kafka.logs))
        (new_producer_id,) = (
            pictures["more"]["java-zstd", 0].producers.keys()
            - pictures["ottla"]["java-zstd", 0].producers.keys()
        )
        kafka.start()
        fill(producer, "native", 100)
        note("back", kafka.bootstrap)
        kafka.stop()
        server.start()
        try:
            note("again", server.bootstrap)
            fill(producer, "native", 10)
            note("last", server.bootstrap)
        finally:
            server.stop()
    warnings = [line for line in server.log.read_text().splitlines() if "WARNING" in line]
    yield Journey(
        pictures,
        ids,
        clusters,
        repeated,
        skipped,
        new_producer_id,
        kafka.said(),
        kafka.logs,
        kraft,
        "\n".join(warnings),
    )


def test_who_it_is_comes_from_the_directory(journey: Journey) -> None:
    assert set(journey.clusters.values()) == {(CLUSTER_ID, NODE_ID)}


def test_topics_keep_their_ids(journey: Journey) -> None:
    assert len(set(journey.topic_ids["kafka"].values())) == len(TOPICS | INTERNAL)
    for station, ids in journey.topic_ids.items():
        assert ids == journey.topic_ids["kafka"], station


@pytest.mark.parametrize("station", ["ottla", "killed"])
def test_clients_see_what_they_saw(journey: Journey, station: str) -> None:
    for partition, seen in journey.pictures["kafka"].items():
        served = journey.pictures[station][partition]
        assert served.watermarks == seen.watermarks, partition
        assert served.records == seen.records, partition
        assert served.by_time == seen.by_time, partition
        assert served.epoch_ends == seen.epoch_ends, partition
        assert served.producers == seen.producers, partition
    assert journey.pictures["kafka"]["cut", 0].watermarks == (77, 200)


def test_an_idempotent_producer_goes_on(journey: Journey) -> None:
    before, after = (journey.pictures[each]["native", 0] for each in ("ottla", "more"))
    assert journey.repeated.error_code == 0
    assert journey.repeated.base_offset == before.records[-1][0], "known as a duplicate"
    assert journey.skipped.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert after.records[: len(before.records)] == before.records
    assert len(after.records) == len(before.records) + 50
    ((producer_id, (_, last, _)),) = before.producers.items()
    assert after.producers[producer_id][1] == last + 50


def test_a_new_producer_gets_an_id_that_kafka_did_not_give(journey: Journey) -> None:
    given = [key for view in journey.pictures["kafka"].values() for key in view.producers]
    assert journey.new_producer_id > max(given) + 1_000


def test_kafka_serves_what_ottla_left(journey: Journey) -> None:
    """The topics that its own metadata knows, with what Ottla appended to them."""
    for partition, left in journey.pictures["more"].items():
        served = journey.pictures["back"][partition]
        more = len(served.records) - len(left.records)
        assert more == (50 if partition[0] == "native" else 0)
        assert served.watermarks[0] == left.watermarks[0], partition
        assert served.records[: len(left.records)] == left.records, partition
        for now, then in zip(served.by_time, left.by_time, strict=False):
            assert now == then or then == -1, partition
    words = ("ERROR", "stray", "orrupt", "Rebuilding", "unflushed", "index file not found")
    complaints = [
        line
        for line in journey.said.splitlines()
        if any(word in line for word in words) and "__cluster_metadata" not in line
    ]
    assert complaints == []


def test_ottla_serves_what_kafka_left_then(journey: Journey) -> None:
    for partition, left in journey.pictures["back"].items():
        served = journey.pictures["again"][partition]
        assert served._replace(epoch_ends=[]) == left._replace(epoch_ends=[]), partition
        if partition[0] == "native":
            assert served.epoch_ends == left.epoch_ends, "of records under Kafka's later epoch"


def test_leader_epochs_never_go_back(journey: Journey) -> None:
    records = journey.pictures["last"]["native", 0].records
    epochs = [record[-1] for record in records]
    assert len(set(epochs)) > 1, "Kafka's second start has an epoch of its own"
    assert epochs == sorted(epochs)


def test_what_is_no_topics_is_left_alone(journey: Journey) -> None:
    before, after = journey.kraft
    assert len(before) > 5
    assert after == before
    assert not list(journey.logs.glob("*-stray"))
    assert journey.warnings == ""

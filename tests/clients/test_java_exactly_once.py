"""Exactly once in Java, over SIGKILL of the application and of the broker: Kafka's own copier, and
Kafka Streams' own word count with `exactly_once_v2` (KIP-447).

The word count writes words to a repartition topic, counts them in a state store that a compacted
changelog keeps, and emits each new count. Whatever is killed when: every word's counts are 1, 2, 3
and so on to the last, each once.
"""

import contextlib
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from tests.clients.peers import MARKS, PEERS
from tests.clients.records import WAIT_S, Sent
from tests.clients.test_java import JVM
from tests.tools.kafka_jars import require_classpath
from tests.tools.serving import Serving, serving

pytestmark = [*MARKS, pytest.mark.java, pytest.mark.timeout(900)]

COPIER = "org.apache.kafka.tools.TransactionalMessageCopier"
WORD_COUNT = "org.apache.kafka.streams.examples.wordcount.WordCountDemo"
SOURCE, COUNTS = "streams-plaintext-input", "streams-wordcount-output"
SETTINGS = {
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}


class Application:
    """A Java application that is killed and begun anew."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "application.log"
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"
        self.command = ["java", *JVM, logging, "-cp", require_classpath(), *words]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Application":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def running(application: Application) -> Iterator[Application]:
    try:
        yield application.start()
    finally:
        application.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    require_classpath()
    with serving(tmp_path / "data", SETTINGS) as server:
        yield server


def make_topics(bootstrap: str, **partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(name.replace("_", "-"), count, 1) for name, count in partitions.items()]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)


def committed(bootstrap: str, topic: str, partitions: int) -> list[tuple[bytes, bytes]]:
    """Keys and values that a read_committed consumer sees, to the end."""
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "reader",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = rd.Consumer(config)
    consumer.assign([rd.TopicPartition(topic, index, 0) for index in range(partitions)])
    seen: list[tuple[bytes, bytes]] = []
    ends = 0
    try:
        while ends < partitions:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"after {len(seen)}"
            if message.error() is None:
                seen.append((message.key(), message.value()))
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                ends += 1
        return seen
    finally:
        consumer.close()


def eventually(is_so: Callable[[], bool], what: str, application: Application) -> None:
    deadline = time.monotonic() + 180
    while not is_so():
        assert time.monotonic() < deadline, f"not {what}: {application.said()[-4_000:]}"
        time.sleep(0.1)


def test_javas_copier_copies_exactly_once(server: Serving, tmp_path: Path) -> None:
    """Killed at random, with its transactions open; the broker too."""
    count, rng = 3_000, random.Random(5)
    make_topics(server.bootstrap, source=1, target=1)
    values = [b"v%d" % number for number in range(count)]
    PEERS["confluent"].produce(server.bootstrap, "source", [Sent(None, v, ()) for v in values])
    copier = Application(
        tmp_path,
        COPIER,
        *("--broker-list", server.bootstrap, "--input-topic", "source", "--input-partition", "0"),
        *("--output-topic", "target", "--consumer-group", "copier", "--transactional-id", "copier"),
        *("--transaction-size", "40", "--transaction-timeout", "5000"),
        *("--enable-random-aborts", "--use-group-metadata"),
    )
    goals = [count // 5, count // 3, count // 2]
    kills: list[Callable[[], object]] = [copier.kill, server.kill, copier.kill]
    with running(copier):
        while goals or copier.process is None or copier.process.poll() is None:
            if copier.process is None or copier.process.poll() is not None:
                copier.start()  # it gives up where it is fenced, or where nobody answers
            done = _high(server, "target")
            if goals and done >= goals[0]:
                time.sleep(rng.random() * 0.1)
                goals.pop(0)
                kills.pop(0)()
                if server.process is None:
                    server.start()
            time.sleep(0.02)
        assert copier.process.returncode == 0, copier.said()[-4_000:]
    copied = Counter(value for _, value in committed(server.bootstrap, "target", 1))
    assert copied == Counter(values)


def _high(server: Serving, topic: str) -> int:
    consumer = rd.Consumer({"bootstrap.servers": server.bootstrap, "group.id": "watch"})
    try:
        return consumer.get_watermark_offsets(rd.TopicPartition(topic, 0), WAIT_S)[1]
    except rd.KafkaException:
        return 0
    finally:
        consumer.close()


def test_streams_count_words_exactly_once(server: Serving, tmp_path: Path) -> None:
    make_topics(server.bootstrap, **{SOURCE: 2, COUNTS: 2})
    properties = tmp_path / "streams.properties"
    properties.write_text(
        f"application.id=words\nbootstrap.servers={server.bootstrap}\n"
        f"state.dir={tmp_path}/state\nprocessing.guarantee=exactly_once_v2\n"
        "commit.interval.ms=50\nreplication.factor=1\nstatestore.cache.max.bytes=0\n"
        "session.timeout.ms=6000\nproducer.transaction.timeout.ms=5000\n"
    )
    application = Application(tmp_path, WORD_COUNT, str(properties))
    rng, wanted = random.Random(7), Counter[bytes]()

    def feed(lines: int) -> None:
        for index in (0, 1):
            sent = []
            for _ in range(lines):
                words = [rng.choice((b"a", b"be", b"sea", b"dead")) for _ in range(5)]
                wanted.update(words)
                sent.append(Sent(None, b" ".join(words), ()))
            PEERS["confluent"].produce(server.bootstrap, SOURCE, sent, partition=index)

    def counted() -> int:
        return len(committed(server.bootstrap, COUNTS, 2))

    def all_counted() -> bool:
        return counted() >= wanted.total()

    with running(application):
        feed(100)
        eventually(lambda: counted() > 0, "begun", application)
        feed(100)
        application.kill()
        application.start()
        eventually(all_counted, "counted after the application was killed", application)
        feed(100)
        time.sleep(rng.random() * 0.2)
        server.kill()
        server.start()
        feed(100)
        eventually(all_counted, "counted after the broker was killed", application)
    series: dict[bytes, list[int]] = {}
    for word, number in committed(server.bootstrap, COUNTS, 2):
        series.setdefault(word, []).append(int.from_bytes(number, "big"))
    assert {word: numbers[-1] for word, numbers in series.items()} == dict(wanted)
    for word, numbers in series.items():
        assert numbers == list(range(1, wanted[word] + 1)), "a count was lost or doubled"
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for kind, policy in (("changelog", "compact"), ("repartition", "delete")):
        (name,) = (each for each in admin.list_topics().topics if each.endswith(kind))
        (future,) = admin.describe_configs([ConfigResource("topic", name)]).values()
        assert future.result(WAIT_S)["cleanup.policy"].value == policy, name

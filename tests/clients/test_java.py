"""Kafka's own console and perf tools, in Java: the newest form of every request.

The producer is idempotent by default and names topics by id (Produce 13); the consumer fetches
by id in sessions (Fetch 18). Consumers are given their partition: nothing here needs a group.
"""

import subprocess
from collections.abc import Callable, Sequence

import pytest

from tests.clients.peers import CODECS, MARKS, PEERS
from tests.tools.kafka_jars import require_classpath

pytestmark = [*MARKS, pytest.mark.java, pytest.mark.timeout(900)]

WAIT_S = 120
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
PRODUCER_PERF = "org.apache.kafka.tools.ProducerPerformance"
GET_OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
UTF_8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


@pytest.fixture(scope="session")
def java(bootstrap: str) -> Callable[..., str]:
    """`java(main_class, *arguments, text=…)` is what it prints; the test fails if it fails."""
    classpath = require_classpath()

    def run(main_class: str, *arguments: str, text: str = "") -> str:
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = ["java", *JVM, *UTF_8, logging, "-cp", classpath, main_class]
        command += ["--bootstrap-server", bootstrap, *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr, done.stderr
        return done.stdout

    return run


def properties(flag: str, values: dict[str, str]) -> Sequence[str]:
    return [word for key, value in values.items() for word in (flag, f"{key}={value}")]


def consume(java: Callable[..., str], topic: str, count: int) -> list[str]:
    """`timestamp, headers, key, value` of each record, as Kafka's formatter shows them."""
    shown = {f"print.{part}": "true" for part in ("timestamp", "headers", "key", "offset")}
    output = java(
        CONSUMER,
        *("--topic", topic, "--partition", "0", "--offset", "earliest"),
        *("--max-messages", str(count), "--timeout-ms", str(WAIT_S * 500)),
        *properties("--formatter-property", {**shown, "null.literal": "NULL"}),
    )
    return output.splitlines()


@pytest.mark.parametrize("codec", CODECS)
def test_what_java_produced_java_and_librdkafka_consume(
    codec: str, java: Callable[..., str], bootstrap: str, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    lines = ["h1:a,h2:ž\tkey\tvalue", "h:x\tNULL\tno key", "h:x\ttombstone\tNULL", "h:x\t\t"]
    lines += [f"n:{n}\tk{n}\t{'value ' * (n % 50)}{n}" for n in range(300)]
    reader = {"parse.key": "true", "parse.headers": "true", "null.marker": "NULL"}
    java(
        PRODUCER,
        *("--topic", topic, "--compression-codec", codec),
        *properties("--reader-property", reader),
        text="\n".join(lines) + "\n",
    )
    seen = PEERS["confluent"].consume(bootstrap, topic, {0: 0}, len(lines))
    assert [row.offset for row in seen] == list(range(len(lines)))
    assert [said_of(row) for row in seen] == lines
    shown = [
        f"CreateTime:{row.timestamp}\tOffset:{row.offset}\t{line}"
        for row, line in zip(seen, lines, strict=True)
    ]
    assert consume(java, topic, len(lines)) == shown


def said_of(row) -> str:
    """The line that the console producer was given for this record."""
    headers = ",".join(f"{name}:{value.decode()}" for name, value in row.headers)
    key, value = ("NULL" if part is None else part.decode() for part in (row.key, row.value))
    return f"{headers}\t{key}\t{value}"


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_the_perf_tool_delivers_every_record(
    acks: str, java: Callable[..., str], make_topic: Callable[..., str]
) -> None:
    topic = make_topic(3)
    report = java(
        PRODUCER_PERF,
        *("--topic", topic, "--num-records", "20000", "--record-size", "100"),
        *("--throughput", "-1", "--command-property", f"acks={acks}"),
    )
    assert "20000 records sent" in report
    offsets = java(GET_OFFSETS, "--topic", topic, "--time", "-1").splitlines()
    assert sum(int(line.rpartition(":")[2]) for line in offsets) == 20_000

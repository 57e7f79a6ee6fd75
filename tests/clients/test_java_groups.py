"""Kafka's own tools with groups: the console consumer, kafka-consumer-groups, kafka-dump-log."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.clients.peers import MARKS, PEERS
from tests.clients.records import Sent
from tests.clients.test_java import CONSUMER, JVM, WAIT_S, java, properties
from tests.tools.kafka_jars import require_classpath

__all__ = ["java"]
pytestmark = [*MARKS, pytest.mark.java, pytest.mark.timeout(900)]

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
CLASSIC = {"group.protocol": "classic", "auto.offset.reset": "earliest"}


def consume(
    java: Callable[..., str],
    topic: str,
    group: str,
    count: int,
    extra: Mapping[str, str] | None = None,
) -> list[str]:
    output = java(
        CONSUMER,
        *("--topic", topic, "--group", group, "--max-messages", str(count)),
        *("--timeout-ms", str(WAIT_S * 500)),
        *properties("--command-property", {**CLASSIC, **(extra or {})}),
    )
    return sorted(output.splitlines())


def rows(table: str, group: str) -> dict[tuple[str, str], dict[str, str]]:
    """{(topic, partition): {column: value}} of what the tool prints."""
    lines = [line.split() for line in table.splitlines() if line.strip()]
    (head,) = (line for line in lines if line[0] == "GROUP")
    return {
        (line[1], line[2]): dict(zip(head, line, strict=False))
        for line in lines
        if line[0] == group
    }


def test_a_group_of_java(
    java: Callable[..., str], bootstrap: str, make_topic: Callable[..., str], data: Path
) -> None:
    topic = make_topic(2)
    for partition in (0, 1):
        sent = [Sent(None, b"%d-%d" % (partition, n)) for n in range(10)]
        PEERS["confluent"].produce(bootstrap, topic, sent, partition=partition)
    everything = sorted(f"{partition}-{n}" for partition in (0, 1) for n in range(10))
    group = f"java-{topic}"
    assert consume(java, topic, group, 20) == everything
    PEERS["confluent"].produce(bootstrap, topic, [Sent(None, b"new")], partition=1)
    assert consume(java, topic, group, 1) == ["new"]

    listed = java(GROUPS, "--list", "--state")
    assert re.search(rf"^{group}\s+Empty", listed, re.MULTILINE)
    described = rows(java(GROUPS, "--describe", "--group", group), group)
    offsets = {each: (row["CURRENT-OFFSET"], row["LAG"]) for each, row in described.items()}
    assert offsets == {(topic, "0"): ("10", "0"), (topic, "1"): ("11", "0")}
    state = java(GROUPS, "--describe", "--group", group, "--state")
    assert "Empty" in state

    target = ("--group", group, "--topic", f"{topic}:0")
    java(GROUPS, "--reset-offsets", *target, "--to-offset", "8", "--execute")
    assert consume(java, topic, group, 2) == ["0-8", "0-9"]
    java(GROUPS, "--delete-offsets", *target)
    assert set(rows(java(GROUPS, "--describe", "--group", group), group)) == {(topic, "1")}

    dumped = dump(data)
    assert f'"group":"{group}","topic":"{topic}","partition":1' in dumped
    assert f'{{"type":"2","data":{{"group":"{group}"}}}}' in dumped
    assert '"protocolType":"consumer"' in dumped

    assert "was successful" in java(GROUPS, "--delete", "--group", group)
    assert group not in java(GROUPS, "--list")


def dump(data: Path) -> str:
    """All of `__consumer_offsets`, as Kafka reads it."""
    files = sorted(path for path in data.glob("__consumer_offsets-*/*.log") if path.stat().st_size)
    names = ",".join(map(str, files))
    done = subprocess.run(
        ["java", *JVM, "-cp", require_classpath(), DUMP, "--offsets-decoder", "--files", names],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_consumer_group_of_java(
    java: Callable[..., str], bootstrap: str, make_topic: Callable[..., str], data: Path
) -> None:
    """The new protocol (KIP-848), and the same group with the old one after that."""
    topic = make_topic(2)
    for partition in (0, 1):
        sent = [Sent(None, b"%d-%d" % (partition, n)) for n in range(10)]
        PEERS["confluent"].produce(bootstrap, topic, sent, partition=partition)
    everything = sorted(f"{partition}-{n}" for partition in (0, 1) for n in range(10))
    group = f"new-{topic}"
    new = {"group.protocol": "consumer"}
    assert consume(java, topic, group, 20, new) == everything

    listed = java(GROUPS, "--list", "--state", "--type")
    assert re.search(rf"^{group}\s+Consumer\s+Empty", listed, re.MULTILINE)
    described = rows(java(GROUPS, "--describe", "--group", group), group)
    offsets = {each: (row["CURRENT-OFFSET"], row["LAG"]) for each, row in described.items()}
    assert offsets == {(topic, "0"): ("10", "0"), (topic, "1"): ("10", "0")}
    state = java(GROUPS, "--describe", "--group", group, "--state", "--verbose")
    assert "uniform" in state

    PEERS["confluent"].produce(bootstrap, topic, [Sent(None, b"new")], partition=1)
    pattern = java(
        CONSUMER,
        *("--include", topic, "--group", group, "--max-messages", "1"),
        *("--timeout-ms", str(WAIT_S * 500)),
        *properties("--command-property", {**CLASSIC, **new}),
    )
    assert pattern.splitlines() == ["new"]

    dumped = dump(data)
    for kind in (3, 5, 6, 7, 8):
        assert f'{{"type":"{kind}","data":{{"groupId":"{group}"' in dumped
    assert '"assignmentEpochs":[' in dumped

    PEERS["confluent"].produce(bootstrap, topic, [Sent(None, b"old")], partition=0)
    assert consume(java, topic, group, 1) == ["old"]
    listed = java(GROUPS, "--list", "--type")
    assert re.search(rf"^{group}\s+Classic", listed, re.MULTILINE)
    assert "was successful" in java(GROUPS, "--delete", "--group", group)


def test_the_console_consumer_reads_the_topic_of_offsets(
    java: Callable[..., str], bootstrap: str, make_topic: Callable[..., str]
) -> None:
    """With Kafka's formatters of its records, as people look into it."""
    topic = make_topic(1)
    PEERS["confluent"].produce(bootstrap, topic, [Sent(None, b"%d" % n) for n in range(10)])
    groups = {"classic": f"seen-old-{topic}", "consumer": f"seen-new-{topic}"}
    for protocol, group in groups.items():
        consume(java, topic, group, 10, {"group.protocol": protocol})

    def read(formatter: str) -> str:
        """All that is there: it ends when nothing comes any more, and says that as an error."""
        tool = ["java", *JVM, "-cp", require_classpath(), CONSUMER, "--from-beginning"]
        tool += ["--bootstrap-server", bootstrap, "--topic", "__consumer_offsets"]
        tool += ["--timeout-ms", "10000"]
        tool += ["--formatter", f"org.apache.kafka.tools.consumer.{formatter}"]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    offsets = read("OffsetsMessageFormatter")
    for group in groups.values():
        assert f'"group":"{group}","topic":"{topic}","partition":0' in offsets
    assert '"offset":10' in offsets
    members = read("GroupMetadataMessageFormatter")
    assert f'{{"group":"{groups["classic"]}"}}' in members
    assert '"protocolType":"consumer"' in members

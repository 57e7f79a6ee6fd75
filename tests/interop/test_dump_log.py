"""Kafka's own `kafka-dump-log` reads what Ottla writes, and has nothing to say against it.

Every line that the tool prints is either of a known form or a complaint. Starting Java is slow,
so all states of the directory (after a clean stop, after SIGKILL and a restart while it runs,
after a stop again) are copied aside and dumped in one call, and a second one for the check that
a broker does of its indexes at start.
"""

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.tools.kafka_jars import require_classpath
from tests.tools.serving import Serving, serving

pytestmark = [pytest.mark.java, pytest.mark.clients, pytest.mark.timeout(300)]

TOOL: Final = "org.apache.kafka.tools.DumpLogSegments"
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS: Final = 3
# Kafka 4 has a floor of 1 MiB for segment.bytes: a full index is what rolls these segments.
TINY: Final = {
    "segment.index.bytes": "120",
    "index.interval.bytes": "400",
    "file.delete.delay.ms": "0",
}
TOPICS: Final = {
    "mixed": {},
    "cut": {},  # DeleteRecords
    "short": {"retention.bytes": "10000"},
    "stamped": {"message.timestamp.type": "LogAppendTime"},
    "packed": {"compression.type": "lz4"},
}
SETTINGS: Final = {"log.retention.check.interval.ms": "100"}

NUMBER: Final = r"-?\d+"
KNOWN: Final = re.compile(
    rf"Dumping (?P<file>\S+)|Log starting offset: {NUMBER}"
    rf"|baseOffset: (?P<base>{NUMBER}) lastOffset: (?P<last>{NUMBER}) count: (?P<count>{NUMBER}) "
    rf".* magic: 2 compresscodec: (?P<codec>\w+) crc: \d+ isvalid: true"
    rf"|\| offset: (?P<record>{NUMBER}) (?:CreateTime|LogAppendTime): {NUMBER} .*"
    rf"|offset: {NUMBER} position: {NUMBER}|timestamp: {NUMBER} offset: {NUMBER}"
    # Without sequences: the producer's first batch made the segment roll, and follows.
    rf"|producerId: {NUMBER} producerEpoch: .* lastTimestamp: {NUMBER}"
    rf"(?: .* lastSequence: (?P<sequence>{NUMBER}) .*)?"
    r"|(?P<sane>\S+) passed sanity check\.|\S+ is empty\.",
)
# With --deep-iteration the tool takes every segment to go on behind offset -1.
FIRST_OFFSET: Final = re.compile(
    r"Non-consecutive offsets in \S+/0*(?P<base>\d+)\.log\n  -1 is followed by (?P=base)\n"
)


class Dump(NamedTuple):
    complaints: list[str]
    records: Counter[str]
    """Records by the directory they are in, counted one by one."""
    ends: dict[str, int]
    """Offset behind the last record, by directory."""
    codecs: set[str]
    sequences: int
    sane: int


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, int]]]:
    """{state: {directory of a partition: its log end}}, the copies in the working directory."""
    require_classpath()
    home = tmp_path_factory.mktemp("dump")
    ends: dict[str, dict[str, int]] = {}
    data = home / "data"
    with serving(data, SETTINGS) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        made = [NewTopic(name, PARTITIONS, 1, config=TINY | more) for name, more in TOPICS.items()]
        for future in admin.create_topics(made).values():
            future.result(30)
        load(server, 1)
        cut(server, admin)
        ends["clean"] = log_ends(server)
        server.stop()
        shutil.copytree(data, home / "clean")
        server.start()
        load(server, 2)
        server.kill()
        server.start()
        ends["killed"] = log_ends(server)
        shutil.copytree(data, home / "killed")
        load(server, 3)
        ends["stopped"] = log_ends(server)
        server.stop()
        shutil.copytree(data, home / "stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        yield ends


def load(server: Serving, seed: int) -> None:
    """Every codec, idempotent and not, into every partition, in small batches."""
    rng = random.Random(seed)
    for codec in CODECS:
        for idempotent in (False, True):
            producer = rd.Producer(
                {
                    "bootstrap.servers": server.bootstrap,
                    "compression.type": codec,
                    "enable.idempotence": idempotent,
                    "batch.num.messages": 7,
                    "linger.ms": 2,
                }
            )
            for topic in TOPICS:
                for number in range(90):
                    value = rng.randbytes(rng.randrange(150)) + b"a" * rng.randrange(150)
                    headers = [("h", b"v")] if number % 5 == 0 else []
                    producer.produce(
                        topic, value, b"k", partition=number % PARTITIONS, headers=headers
                    )
            assert producer.flush(30) == 0


def cut(server: Serving, admin: AdminClient) -> None:
    """DeleteRecords into the middle of a segment; and wait for retention to have run."""
    wanted = [rd.TopicPartition("cut", partition, 155) for partition in range(PARTITIONS)]
    for future in admin.delete_records(wanted).values():
        future.result(30)
    consumer = consumer_of(server)
    deadline = time.monotonic() + 30
    for partition in range(PARTITIONS):
        while not consumer.get_watermark_offsets(rd.TopicPartition("short", partition), 10)[0]:
            assert time.monotonic() < deadline, "retention did not run"
            time.sleep(0.05)
    consumer.close()


def consumer_of(server: Serving) -> rd.Consumer:
    return rd.Consumer({"bootstrap.servers": server.bootstrap, "group.id": "none"})


def log_ends(server: Serving) -> dict[str, int]:
    consumer = consumer_of(server)
    ends = {
        f"{topic}-{partition}": consumer.get_watermark_offsets(
            rd.TopicPartition(topic, partition), 10
        )[1]
        for topic in TOPICS
        for partition in range(PARTITIONS)
    }
    consumer.close()
    return ends


def dump(files: list[Path], *options: str) -> Dump:
    """What the tool says of the files, in one call."""
    words = ["java", "-Xmx256m", "-cp", require_classpath(), TOOL, *options]
    done = subprocess.run(
        [*words, "--files", ",".join(map(str, files))], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = Dump([], Counter(), {}, set(), 0, 0)
    sequences = sane = 0
    directory = ""
    for line in done.stdout.splitlines():
        match = KNOWN.fullmatch(line)
        if match is None:
            found.complaints.append(line)
        elif match["file"]:
            directory = str(Path(match["file"]).parent)
        elif match["record"]:
            found.records[directory] += 1
        elif match["base"]:
            found.ends[directory] = max(found.ends.get(directory, 0), int(match["last"]) + 1)
            found.codecs.add(match["codec"])
        sequences += bool(match and match["sequence"])
        sane += bool(match and match["sane"])
    errors = FIRST_OFFSET.sub("", done.stderr).splitlines()
    return found._replace(complaints=found.complaints + errors, sequences=sequences, sane=sane)


def files_of(states: dict[str, dict[str, int]], *suffixes: str) -> list[Path]:
    found = [path for state in states for path in sorted(Path(state).glob("*-*/*"))]
    return [path for suffix in suffixes for path in found if path.suffix == suffix]


def test_kafka_dump_log_has_no_complaint(states: dict[str, dict[str, int]]) -> None:
    files = files_of(states, ".log", ".index", ".timeindex", ".snapshot")
    assert len(files) > 200
    found = dump(files, "--deep-iteration")
    assert found.complaints == []
    assert found.codecs == set(CODECS)
    assert found.sequences > 0
    for state, ends in states.items():
        for directory, end in ends.items():
            path = Path(state, directory)
            first = min(int(each.stem) for each in path.glob("*.log"))
            assert found.ends[str(path)] == end
            assert found.records[str(path)] == end - first
    assert min(int(each.stem) for each in Path("clean", "short-0").glob("*.log")) > 0


def test_kafka_finds_the_indexes_sane(states: dict[str, dict[str, int]]) -> None:
    """Of directories that were stopped: the index of a segment that is written to is longer
    than what it holds, as Kafka's is."""
    states = {state: ends for state, ends in states.items() if state != "killed"}
    files = files_of(states, ".index", ".timeindex")
    found = dump(files, "--index-sanity-check")
    assert found.complaints == []
    assert found.sane == len([path for path in files if path.stat().st_size])

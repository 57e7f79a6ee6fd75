"""Kafka's own kafka-dump-log over what this storage wrote, with tiny segments and indexes."""

import random
import re
import subprocess
from pathlib import Path

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.host.disk import HostDisk
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log_dir import LogDir
from tests.tools.kafka_jars import require_classpath

from .makers import append, batch_of
from .test_log_dir import IDENTITY, TOPIC_ID, Clock

TOOL = "org.apache.kafka.tools.DumpLogSegments"
CONFIG = LogConfig(segment_bytes=20_000, segment_index_bytes=240, index_interval_bytes=300)
COMPLAINTS = re.compile(r"mismatch|error|exception|corrupt|should|out of order|not found", re.I)


def dump(classpath: str, *arguments: str) -> str:
    done = subprocess.run(
        ["java", "-cp", classpath, TOOL, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_mixed(path: Path) -> None:
    """Two partitions over two lives: all codecs, idempotent and not, time going to and fro,
    epochs that change, more than one batch in an append."""
    rng = random.Random(5)
    now_ms = 1_700_000_000_000
    for life in range(2):
        log_dir = LogDir.open(
            str(path), IDENTITY, lambda _: CONFIG, disk=HostDisk(), rng=rng, clock=Clock()
        )
        for partition in range(2):
            name = TopicPartition("orders", PartitionIndex(partition))
            log = log_dir.create(name, TOPIC_ID, CONFIG)
            for turn in range(120):
                now_ms += rng.randrange(-500, 1_500)
                count = rng.randrange(1, 6)
                known = log.producer_state.get(7)
                sequence = known.last_sequence + 1 if known else 0
                batch = batch_of(
                    count,
                    timestamp=now_ms,
                    producer=(7, 0, sequence) if partition else (-1, -1, -1),
                    codec=rng.randrange(5),
                    value=bytes(rng.randrange(97, 120) for _ in range(rng.randrange(1, 300))),
                )
                others = [batch_of(2, timestamp=now_ms - 1_000)] if turn % 7 == 0 else []
                append(log, batch, *others, leader_epoch=life * 2 + turn // 60, now_ms=now_ms)
            flush_now(log_dir.disk, [log])
        log_dir.close()


def test_kafka_dump_log_has_no_complaint(tmp_path: Path) -> None:
    classpath = require_classpath()
    write_mixed(tmp_path / "data")
    for partition in range(2):
        directory = tmp_path / "data" / f"orders-{partition}"
        files = sorted(
            str(path)
            for path in directory.iterdir()
            if path.suffix in (".log", ".index", ".timeindex", ".snapshot")
        )
        indexes = [path for path in files if path.endswith(".index")]
        assert len(indexes) > 4
        text = dump(classpath, "--deep-iteration", "--files", ",".join(files))
        # The tool says of every segment but the first that "-1 is followed by" its base offset.
        pairs = re.findall(r"^\s+(-?\d+) is followed by (\d+)$", text, re.M)
        assert all(before == "-1" for before, _ in pairs)
        assert text.count("isvalid: true") > 100
        assert not [line for line in text.splitlines() if COMPLAINTS.search(line)]
        assert "isvalid: false" not in text
        text = dump(classpath, "--index-sanity-check", "--files", ",".join(indexes))
        assert text.count("passed sanity check") == len(indexes)


def test_the_tool_does_complain(tmp_path: Path) -> None:
    classpath = require_classpath()
    write_mixed(tmp_path / "data")
    path = tmp_path / "data" / "orders-0" / f"{0:020d}.index"
    data = bytearray(path.read_bytes())
    data[3] += 1
    path.write_bytes(data)
    assert COMPLAINTS.search(dump(classpath, "--files", str(path)))

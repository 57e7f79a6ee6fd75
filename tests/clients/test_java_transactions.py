"""Kafka's own transactional producer and tools, in Java: the second protocol (KIP-890)."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka as rd
import pytest

import ottla
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.clients.peers import MARKS, PEERS
from tests.clients.records import Sent
from tests.clients.test_java import JVM, PRODUCER_PERF, WAIT_S
from tests.clients.test_transactions import committed
from tests.tools.kafka_jars import require_classpath

pytestmark = [*MARKS, pytest.mark.java, pytest.mark.timeout(900)]

TOOL = "org.apache.kafka.tools.TransactionsCommand"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
COUNT = 1_000


@pytest.fixture
def run() -> Callable[..., str]:
    classpath = require_classpath()

    def java(main_class: str, *arguments: str) -> str:
        logging = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = ["java", *JVM, logging, "-cp", classpath, main_class, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return java


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ottla.Broker]:
    with ottla.Broker(tmp_path) as broker:
        yield broker


def dumped(run: Callable[..., str], files: list[Path], *options: str) -> str:
    names = ",".join(str(each) for each in files if each.stat().st_size)
    output = run(DUMP, "--files", names, *options)
    for complaint in ("Found timestamp", "Mismatches", "Non-consecutive", "isvalid: false"):
        assert complaint not in output
    return output


def test_java_transactions_and_what_tools_read_of_them(
    run: Callable[..., str], broker: ottla.Broker, tmp_path: Path
) -> None:
    bootstrap = broker.bootstrap_servers
    at = ("--bootstrap-server", bootstrap)
    run(
        PRODUCER_PERF,
        *at,
        *("--topic", "a", "--num-records", str(COUNT), "--record-size", "20"),
        *("--throughput", "-1", "--transaction-duration-ms", "20", "--transactional-id", "perf"),
        *("--command-property", "acks=all"),
    )
    assert len(committed(bootstrap, "a", COUNT)) == COUNT
    assert re.search(r"perf\s+1\s+\d+\s+CompleteCommit", run(TOOL, *at, "list"))
    described = run(TOOL, *at, "describe", "--transactional-id", "perf")
    (epoch,) = re.findall(r"perf\s+\d+\s+(\d+)\s+CompleteCommit", described)
    assert int(epoch) >= 1, "each end has bumped it"
    producer = rd.Producer({"bootstrap.servers": bootstrap, "transactional.id": "odd"})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce("a", b"aborted")
    producer.flush(WAIT_S)
    producers = run(TOOL, *at, "describe-producers", "--topic", "a", "--partition", "0")
    (start,) = re.findall(r"(\d+)\s*\n", producers + "\n")  # others have None in that column
    run(TOOL, *at, "abort", "--topic", "a", "--partition", "0", "--start-offset", start)
    assert len(committed(bootstrap, "a", COUNT)) == COUNT
    logs = sorted((tmp_path / "a-0").glob("*.log"))
    output = dumped(run, [*logs, *(tmp_path / "a-0").glob("*.txnindex")])
    assert "endTxnMarker: ABORT" in dumped(run, logs, "--print-data-log")
    assert f"firstOffset: {start}" in output
    states = sorted(tmp_path.glob("__transaction_state-*/*.log"))
    output = dumped(run, states, "--transaction-log-decoder")
    assert '"transactionalId":"perf"' in output
    assert '"clientTransactionVersion":2' in output
    producer.produce("a", b"left open")  # as far as its coordinator knows it is open still
    assert producer.flush(WAIT_S) == 0
    broker.stop()
    snapshots = sorted((tmp_path / "a-0").glob("*.snapshot"))
    output = dumped(run, snapshots)
    assert re.search(r"currentTxnFirstOffset: Optional(Long)?\[\d+\]", output), output


def test_java_finds_and_ends_a_transaction_that_hangs(
    run: Callable[..., str], tmp_path: Path
) -> None:
    """Ottla lets none hang: one is put into the log by hand, as a directory of an old Kafka may
    hold it. One that its coordinator knows is not taken for it, however old it is."""
    with ottla.Broker(tmp_path) as broker:
        PEERS["confluent"].produce(broker.bootstrap_servers, "a", [Sent(None, b"plain", ())])
    hour_ago_ms = int(time.time() * 1000) - 3_600_000
    hanging = build_batch(
        [Record(1, hour_ago_ms, None, b"hanging")],
        base_offset=1,
        producer_id=9_999,
        producer_epoch=3,
        base_sequence=0,
        transactional=True,
    )
    with (tmp_path / "a-0" / f"{0:020}.log").open("ab") as log:
        log.write(hanging)
    (tmp_path / ".kafka_cleanshutdown").unlink()  # so that the next start reads the log
    for path in tmp_path.glob("a-0/*.snapshot"):
        path.unlink()
    with ottla.Broker(tmp_path) as broker:
        bootstrap = broker.bootstrap_servers
        producer = rd.Producer({"bootstrap.servers": bootstrap, "transactional.id": "old"})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        producer.produce("a", b"open", timestamp=hour_ago_ms)
        assert producer.flush(WAIT_S) == 0
        at = ("--bootstrap-server", bootstrap)
        search = ("find-hanging", "--topic", "a", "--max-transaction-timeout", "1")
        (row,) = run(TOOL, *at, *search).splitlines()[1:]
        assert row.split()[:4] == ["a", "0", "9999", "3"]
        assert committed(bootstrap, "a", 1) == [b"plain"]
        run(TOOL, *at, "abort", "--topic", "a", "--partition", "0", "--start-offset", "1")
        assert not run(TOOL, *at, *search).splitlines()[1:]
        producer.commit_transaction(WAIT_S)
        assert committed(bootstrap, "a", 2) == [b"plain", b"open"]


def test_java_speaks_the_first_protocol_where_the_feature_says_so(
    run: Callable[..., str], broker: ottla.Broker, tmp_path: Path
) -> None:
    """`transaction.version` 1: Java adds partitions by itself, and an epoch lives for long. Raised
    again, the same transactional id goes on in the second protocol."""
    bootstrap = broker.bootstrap_servers
    at = ("--bootstrap-server", bootstrap)

    def perform(count: int) -> int:
        """The epoch after some transactions."""
        run(
            PRODUCER_PERF,
            *at,
            *("--topic", "a", "--num-records", str(COUNT), "--record-size", "20"),
            *("--throughput", "-1", "--transaction-duration-ms", "20"),
            *("--transactional-id", "perf", "--command-property", "acks=all"),
        )
        assert len(committed(bootstrap, "a", count)) == count
        described = run(TOOL, *at, "describe", "--transactional-id", "perf")
        (epoch,) = re.findall(r"perf\s+\d+\s+(\d+)\s+CompleteCommit", described)
        return int(epoch)

    run(FEATURES, *at, "downgrade", "--feature", "transaction.version=1")
    assert perform(COUNT) == 0, "no end has bumped it"
    run(FEATURES, *at, "upgrade", "--feature", "transaction.version=2")
    assert perform(2 * COUNT) >= 2, "each end has bumped it"
    states = sorted(tmp_path.glob("__transaction_state-*/*.log"))
    output = dumped(run, states, "--transaction-log-decoder")
    assert '"clientTransactionVersion":2' in output

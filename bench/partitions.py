"""`./dev bench partitions`: what a node with many partitions costs, and how fast a start recovers.

    ./dev bench partitions [COUNT ...] [--crash-mb N] [--readme]

For each COUNT (1,000 and 10,000 unless told): topics of a hundred partitions each are made.
Measured are the seconds from the spawn of the process to `ottla ready`, after a clean stop and
after a SIGKILL, and the resident memory and the open descriptors of the idle node, which are set
against a node without partitions; once with partitions that were never written to, and once with
a record in each.
Recovery: N MB of records in as many segments of 64 MB, in two log directories, after a SIGKILL with
nothing checkpointed: from the spawn to the first answer of the last partition.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.bench import write_between
from tests.tools.serving import Serving

COUNTS: Final = (1_000, 10_000)
PER_TOPIC: Final = 100
QUIET: Final = {"log_level": 0}
LATE: Final = {
    "log.flush.offset.checkpoint.interval.ms": "86400000",
    "log.segment.bytes": str(64 << 20),
}


def timed_start(server: Serving) -> float:
    began = time.monotonic()
    server.start()
    return time.monotonic() - began


def resident_bytes(server: Serving) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def descriptor_count(server: Serving) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def make_partitions(server: Serving, count: int, *, written: bool) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({**QUIET, "bootstrap.servers": server.bootstrap})
    names = [f"topic-{number:03}" for number in range(count // PER_TOPIC)]
    for start in range(0, len(names), 20):
        made = admin.create_topics([NewTopic(n, PER_TOPIC, 1) for n in names[start : start + 20]])
        for future in made.values():
            future.result(60)
    if not written:
        return
    producer = Producer({**QUIET, "bootstrap.servers": server.bootstrap, "acks": "all"})
    for name in names:
        for partition in range(PER_TOPIC):
            producer.produce(name, b"v" * 100, partition=partition)
        producer.flush(60)


def many(count: int, baseline: int, *, written: bool) -> str:
    directory = Path(tempfile.mkdtemp(prefix="ottla-partitions-"))
    server = Serving(directory / "data")
    try:
        server.start()
        make_partitions(server, count, written=written)
        open_after = descriptor_count(server)
        began = time.monotonic()
        server.stop()
        stopped = time.monotonic() - began
        clean = timed_start(server)
        time.sleep(1)
        memory, descriptors = resident_bytes(server), descriptor_count(server)
        server.kill()
        crashed = timed_start(server)
        server.stop()
    finally:
        server.stop()
        shutil.rmtree(directory)
    each = (memory - baseline) / count / 1024
    kind = "one record each" if written else "never written"
    return (
        f"| {count:,} | {kind} | {clean:.1f} s | {crashed:.1f} s | {stopped:.1f} s |"
        f" {memory / (1 << 20):.0f} MiB | {each:.1f} KiB | {descriptors} | {open_after:,} |"
    )


def baseline_bytes() -> int:
    directory = Path(tempfile.mkdtemp(prefix="ottla-partitions-"))
    server = Serving(directory / "data")
    try:
        server.start()
        time.sleep(1)
        return resident_bytes(server)
    finally:
        server.stop()
        shutil.rmtree(directory)


def recovery(megabytes: int) -> str:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    directory = Path(tempfile.mkdtemp(prefix="ottla-partitions-"))
    dirs = ",".join(str(directory / name) for name in ("one", "two"))
    server = Serving(directory / "data", {**LATE, "log.dirs": dirs})
    try:
        server.start()
        admin = AdminClient({**QUIET, "bootstrap.servers": server.bootstrap})
        admin.create_topics([NewTopic("t", 4, 1)])["t"].result(60)
        producer = Producer(
            {**QUIET, "bootstrap.servers": server.bootstrap, "batch.size": 500_000, "linger.ms": 5}
        )
        for number in range(megabytes * 100):
            while True:
                try:
                    producer.produce("t", b"v" * 10_000, partition=number % 4)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.flush(120)
        server.kill()
        size = sum(path.stat().st_size for path in directory.glob("*/t-*/*.log"))
        began = time.monotonic()
        server.start()
        ready = time.monotonic() - began
        consumer = Consumer({**QUIET, "bootstrap.servers": server.bootstrap, "group.id": "none"})
        for partition in range(4):
            consumer.assign([TopicPartition("t", partition, 0)])
            assert consumer.consume(1, 300)
        served = time.monotonic() - began
        consumer.close()
    finally:
        server.stop()
        shutil.rmtree(directory)
    return (
        f"{size / 1e9:.2f} GB in two log directories after a SIGKILL: ready after {ready:.1f} s,"
        f" all served after {served:.1f} s, {size / served / 1e9:.2f} GB/s."
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev bench partitions", description=__doc__)
    parser.add_argument("counts", metavar="COUNT", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--crash-mb", type=int, default=1_024)
    parser.add_argument("--readme", action="store_true")
    chosen = parser.parse_args(arguments)
    baseline = baseline_bytes()
    head = (
        "| partitions | | start, clean | start, killed | stop | memory | each | files open, idle"
        " | files open, written |"
    )
    rows = [
        head,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for count in chosen.counts:
        for written in (False, True):
            rows.append(many(count, baseline, written=written))
            print(rows[-1], flush=True)
    text = "\n".join(rows)
    if chosen.crash_mb:
        text += "\n\n" + recovery(chosen.crash_mb)
    print(text)
    if chosen.readme:
        write_between("partitions", f"`./dev bench partitions`.\n\n{text}")
    return 0

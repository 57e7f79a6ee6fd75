"""`./dev bench upkeep`: what cleaning costs those who produce, and what a large log costs a start.

    ./dev bench upkeep [--rounds N] [--readme]

Cleaning. Two topics of tiny segments are filled at a steady pace, the same in every run. Where
`upkeep` is on, one of them is compacted (a thousand keys over and over) and the other loses what
is past its size; where it is off, both keep everything. Beside that, the load of the main bench.
Start. From the spawn of the process to its first answered Metadata, with so much in the log:
after a clean stop, and after a SIGKILL, where all that was written since the last checkpoint is
read again.
"""

import argparse
import importlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench.bench import OTTLA, SHARED, shown, write_between

SPEEDY: Final = " --set log.cleaner.backoff.ms=200 --set log.retention.check.interval.ms=1000"
FILLED_BYTES_PER_S: Final = 2_000_000
KEYS: Final = 1_000
LOAD: Final = 1_000_000
SIZES_MB: Final = (0, 256, 1_024)
COMMON: Final = {"segment.bytes": "1048576", "segment.index.bytes": "65536"}
CLEANED: Final = {
    "compacted": {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.05",
        "file.delete.delay.ms": "1000",
    },
    "retained": {"retention.bytes": "4194304", "file.delete.delay.ms": "1000"},
}
Figures = dict[str, float]


class Filler(threading.Thread):
    """Keyed records of 1 KB into both topics, at a steady pace, until `stop`."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        from confluent_kafka import Producer

        self._producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}", "linger.ms": 20})
        self._is_over = threading.Event()
        self.sent_bytes = 0

    def run(self) -> None:
        value, began = b"v" * 1000, time.monotonic()
        while not self._is_over.wait(0.02):
            while self.sent_bytes < (time.monotonic() - began) * FILLED_BYTES_PER_S:
                key = b"%06d" % (self.sent_bytes // 2000 % KEYS)
                for topic in CLEANED:
                    self._producer.produce(topic, value, key, partition=0)
                self.sent_bytes += 2 * len(value)
            self._producer.poll(0)

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        self._producer.flush(10)


def make_topics(port: int, *, upkeep: bool) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    topics = [
        NewTopic(name, 1, 1, config=COMMON | (configs if upkeep else {}))
        for name, configs in CLEANED.items()
    ]
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
    for future in admin.create_topics(topics).values():
        future.result(30)


def beside(run: ModuleType, *, upkeep: bool) -> Figures:
    """The load of the main bench beside the filling, with and without cleaning."""
    broker = run.Broker("upkeep", OTTLA + SPEEDY)
    broker.start()
    try:
        make_topics(broker.port, upkeep=upkeep)
        for topic in ("warm", "p100", "req", "ea"):
            run.create_topic(broker.port, topic, 1)
        run.produce(broker, "warm", LOAD // 4, 100, acks=-1)
        filler = Filler(broker.port)
        filler.start()
        produced = run.produce(broker, "p100", LOAD, 100, acks=-1)
        requests = run.requests(broker, "req", -1, 16, 8, 5)
        latency = run.end_to_end(broker, "ea", -1, 2_000)
        filler.stop()
        left = sum(path.stat().st_size for name in CLEANED for path in log_files(broker.home, name))
    finally:
        broker.stop()
    return {
        "produce 100 B, msgs/s": produced["msgs_per_s"],
        "requests 16 conn x 8, requests/s": requests["requests_per_s"],
        "requests 16 conn x 8, p99 us": requests["p99_us"],
        "end to end, p50 us": latency["p50_us"],
        "end to end, p99 us": latency["p99_us"],
        "share of what was written to the two topics that is left": left / filler.sent_bytes,
    }


def log_files(home: Path, topic: str) -> Iterator[Path]:
    yield from (home / "data").rglob(f"{topic}-0/*.log")


@contextmanager
def serving(run: ModuleType, data: Path, took_ms: list[float]) -> Iterator[Any]:
    """Ottla on a directory that may be filled already; how long its start took goes to `took_ms`.
    It is ended by whoever uses it."""
    broker = run.Broker("start", "")
    broker.port = run.free_pair()
    began = time.perf_counter()
    command = ["bash", "-c", "exec " + OTTLA.format(port=broker.port, data=data)]
    broker.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                run.request(broker.port, 3, 1, bytes(4))
                break
            except OSError:
                if broker.process.poll() is not None:
                    raise RuntimeError("the broker did not start") from None
                time.sleep(0.002)
        took_ms.append((time.perf_counter() - began) * 1000)
        yield broker
    finally:
        broker.process.kill()
        broker.process.wait()


def end(broker: Any, how: signal.Signals) -> None:
    broker.process.send_signal(how)
    broker.process.wait(60)


def starts(run: ModuleType, size_mb: int) -> Figures:
    """Milliseconds of a start with so much in one log."""
    data = Path(tempfile.mkdtemp(prefix="bench-start-"))
    clean: list[float] = []
    killed: list[float] = []
    try:
        with serving(run, data, []) as broker:
            run.create_topic(broker.port, "big", 1)
            if size_mb:
                run.produce(broker, "big", size_mb << 10, 1024, acks=-1)
            end(broker, signal.SIGKILL)
        with serving(run, data, killed) as broker:
            end(broker, signal.SIGTERM)
        with serving(run, data, clean) as broker:
            end(broker, signal.SIGTERM)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return {"clean": clean[0], "killed": killed[0]}


def medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev bench upkeep", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    chosen = parser.parse_args(arguments)
    if not (SHARED / "run.py").exists():
        print("bench: ../shared/bench is not there, nothing is measured", file=sys.stderr)
        return 0
    sys.path.insert(0, str(SHARED))
    run = importlib.import_module("run")
    without: list[Figures] = []
    with_it: list[Figures] = []
    by_size: dict[int, list[Figures]] = {size: [] for size in SIZES_MB}
    for _ in range(chosen.rounds):
        without.append(beside(run, upkeep=False))
        with_it.append(beside(run, upkeep=True))
        for size, found in by_size.items():
            found.append(starts(run, size))
    text = "\n".join(table(medians(without), medians(with_it), by_size))
    print(text)
    if chosen.readme:
        note = (
            f"`./dev bench upkeep --rounds {chosen.rounds}`: medians, acks=all; the cleaner looks "
            "every 0.2 s, retention every second. Differences of some ten percent are noise."
        )
        write_between("upkeep", f"{note}\n\n{text}")
    return 0


def table(without: Figures, with_it: Figures, by_size: dict[int, list[Figures]]) -> Iterator[str]:
    yield "| beside 2 MB/s into two topics | kept whole | compacted and cut by retention |"
    yield "|---|---|---|"
    for name, before in without.items():
        yield f"| {name} | {shown(before)} | {shown(with_it[name])} |"
    yield ""
    yield "| start with so much in a log | after a clean stop, ms | after SIGKILL, ms |"
    yield "|---|---|---|"
    for size, found in by_size.items():
        figures = medians(found)
        yield f"| {size:,} MB | {shown(figures['clean'])} | {shown(figures['killed'])} |"

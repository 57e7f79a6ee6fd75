"""SIGKILL under load: what was acknowledged is there, in order, once. `--rounds 50` for long.

A real `ottla serve` process, and producers of librdkafka that write on while it is killed and
started again on the same port. Two are idempotent, so a record of theirs that was asked for twice
must be there once; a third is not, and may double what it did not hear of. A round: load, kill at
a random moment, often kill again while it recovers, start, some more load, let the producers
finish, and then read everything from the first record on.

What a broken broker is caught by (`check`):
    offsets           from the log start on, without a gap
    acknowledged      each value at the offset that was told, that and no other
    once, in order    per idempotent producer and partition the values count up by one
    readable          a fetch from any offset starts with that offset

    python -m tests.crash.kill --rounds 50 [--seed N] [--records N]
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka as rd
from confluent_kafka.admin import AdminClient, NewTopic

from tests.tools.serving import Serving

# A full index rolls a segment: Kafka has a floor of 1 MiB for segment.bytes.
TINY: Final = {"segment.index.bytes": "120", "index.interval.bytes": "400"}
TOPICS: Final = {"tiny": (4, TINY), "wide": (2, {})}
PARTITIONS: Final = [(name, index) for name, (n, _) in TOPICS.items() for index in range(n)]
IDEMPOTENT: Final = (True, True, False)
SETTINGS: Final = {"log.flush.offset.checkpoint.interval.ms": "50"}
CODECS: Final = ("none", "lz4", "zstd")
WAIT_S: Final = 60
SEEKS: Final = 10
QUEUE_RECORDS: Final = 2_000
SOONEST_KILL_S: Final = 0.3

Partition = tuple[str, int]
Log = list[tuple[int, bytes]]


class Broken(AssertionError):
    """The promise was not kept."""


@dataclass
class Writer:
    """A producer, its thread, and what it was told."""

    number: int
    bootstrap: str
    seed: int
    options: dict[str, Any]
    acked: dict[Partition, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    failed: list[str] = field(default_factory=list)
    count: int = 0
    _sent: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))
    _pausing: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)
    _idle: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._write()
        except rd.KafkaException as error:
            self.failed.append(str(error))

    def _write(self) -> None:
        rng = random.Random(self.seed)
        producer = rd.Producer({"bootstrap.servers": self.bootstrap, **self.options})
        while not self._ending.is_set():
            if self._pausing.is_set():
                if producer.flush(0.1) == 0:
                    self._idle.set()
                continue
            if len(producer) < QUEUE_RECORDS:
                for _ in range(rng.randrange(1, 40)):
                    self._send(producer, rng)
            producer.poll(rng.random() / 100)
        producer.flush(WAIT_S)

    def _send(self, producer: rd.Producer, rng: random.Random) -> None:
        where = rng.choice(PARTITIONS)
        value = b"%d.%d." % (self.number, self._sent[where]) + b"x" * rng.randrange(120)
        self._sent[where] += 1

        def told(error: Any, message: Any) -> None:
            if error is not None:
                self.failed.append(str(error))
                return
            self.acked[where][message.offset()] = value
            self.count += 1

        producer.produce(where[0], value, partition=where[1], on_delivery=told)

    def pause(self) -> None:
        """Until all that was sent is acknowledged or given up."""
        self._idle.clear()
        self._pausing.set()
        if not self._idle.wait(WAIT_S):
            raise Broken(f"producer {self.number} does not come to an end")

    def go_on(self) -> None:
        self._pausing.clear()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(WAIT_S)


def writer_options(is_idempotent: bool, number: int) -> dict[str, Any]:
    return {
        "enable.idempotence": is_idempotent,
        "acks": "all",
        "compression.type": CODECS[number % len(CODECS)],
        "linger.ms": 1,
        "retry.backoff.ms": 10,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 50,
        "log_level": 0,
    }


@contextmanager
def writers(server: Serving, seed: int) -> Iterator[list[Writer]]:
    """Producers at work, all of them over all partitions."""
    made = [
        Writer(number, server.bootstrap, seed + number, writer_options(is_idempotent, number))
        for number, is_idempotent in enumerate(IDEMPOTENT)
    ]
    try:
        yield made
    finally:
        for writer in made:
            writer.end()


def make_topics(server: Serving) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    topics = [NewTopic(name, count, 1, config=more) for name, (count, more) in TOPICS.items()]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)


def consumer_of(bootstrap: str) -> rd.Consumer:
    return rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 5,
            "log_level": 0,
        }
    )


def read_all(bootstrap: str) -> dict[Partition, Log]:
    consumer = consumer_of(bootstrap)
    logs: dict[Partition, Log] = {where: [] for where in PARTITIONS}
    consumer.assign([rd.TopicPartition(*where, 0) for where in PARTITIONS])
    ended: set[Partition] = set()
    deadline = time.monotonic() + WAIT_S
    while len(ended) < len(PARTITIONS):
        if time.monotonic() > deadline:
            raise Broken("a partition cannot be read to its end")
        messages = consumer.consume(1_000, 0.05)
        for message in messages:
            where = message.topic(), message.partition()
            if message.error() is None:
                logs[where].append((message.offset(), message.value()))
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                ended.add(where)
            else:
                raise Broken(f"{where}: {message.error()}")
    consumer.close()
    return logs


def check(logs: dict[Partition, Log], writers: Sequence[Writer]) -> None:
    for where, log in logs.items():
        if [offset for offset, _ in log] != list(range(len(log))):
            raise Broken(f"{where}: offsets have gaps")
        for writer in writers:
            for offset, value in writer.acked[where].items():
                if offset >= len(log) or log[offset][1] != value:
                    found = log[offset][1][:20] if offset < len(log) else "nothing"
                    raise Broken(f"{where}: {value[:20]!r} was told {offset}, there is {found!r}")
            if IDEMPOTENT[writer.number]:
                check_order(where, log, writer)


def check_order(where: Partition, log: Log, writer: Writer) -> None:
    prefix = b"%d." % writer.number
    numbers = [int(value.split(b".")[1]) for _, value in log if value.startswith(prefix)]
    if numbers != list(range(len(numbers))):
        at = next(i for i, number in enumerate(numbers) if number != i)
        raise Broken(f"{where}: producer {writer.number}, {numbers[at - 1 : at + 2]} at {at}")
    if writer.failed:
        raise Broken(f"producer {writer.number} failed: {writer.failed[0]}")


def check_seeks(bootstrap: str, logs: dict[Partition, Log], rng: random.Random) -> None:
    consumer = consumer_of(bootstrap)
    for where, log in logs.items():
        for _ in range(min(SEEKS, len(log))):
            offset = rng.randrange(len(log))
            consumer.assign([rd.TopicPartition(*where, offset)])
            message = consumer.poll(WAIT_S)
            if message is None or message.error() or message.offset() != offset:
                raise Broken(f"{where}: offset {offset} cannot be fetched")
            if message.value() != log[offset][1]:
                raise Broken(f"{where}: offset {offset} is another record from there")
    consumer.close()


class Figures(NamedTuple):
    kills: int
    starts_s: list[float]
    acked: int
    records: int


def run(home: Path, rounds: int, seed: int, records: int) -> Figures:
    """Rounds over one directory; Broken if the promise is not kept."""
    rng = random.Random(seed)
    server = Serving(home / "data", SETTINGS).start()
    make_topics(server)
    kills, starts_s, total = 0, [], 0
    try:
        with writers(server, seed) as working:
            for _ in range(rounds):
                load(working, records)
                time.sleep(rng.random() * 0.3)
                server.kill()
                kills += 1 + interrupt_recovery(server, rng)
                began = time.monotonic()
                server.start()
                starts_s.append(time.monotonic() - began)
                load(working, records // 4)
                for writer in working:
                    writer.pause()
                logs = read_all(server.bootstrap)
                check(logs, working)
                check_seeks(server.bootstrap, logs, rng)
                total = sum(map(len, logs.values()))
                for writer in working:
                    writer.go_on()
            return Figures(kills, starts_s, sum(writer.count for writer in working), total)
    finally:
        server.kill()


def load(writers: Sequence[Writer], records: int) -> None:
    """Wait until so many more were acknowledged to each."""
    wanted = [writer.count + records // len(writers) for writer in writers]
    deadline = time.monotonic() + WAIT_S
    while any(writer.count < count for writer, count in zip(writers, wanted, strict=True)):
        for writer in writers:
            if writer.failed and IDEMPOTENT[writer.number]:
                raise Broken(f"producer {writer.number} failed: {writer.failed[0]}")
        if time.monotonic() > deadline:
            raise Broken(f"no progress: {[writer.count for writer in writers]} of {wanted}")
        time.sleep(0.005)


def interrupt_recovery(server: Serving, rng: random.Random) -> int:
    """Start it and kill it soon, some times; how many."""
    times = rng.randrange(3)
    for _ in range(times):
        server.launch()
        time.sleep(SOONEST_KILL_S * rng.random() * 2)
        server.kill()
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=3_000, help="acknowledged before a kill")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="ottla-kill-"))
    try:
        figures = run(home, options.rounds, options.seed, options.records)
    except Broken as broken:
        sys.exit(f"{broken} (seed {options.seed}, its directory is {home})")
    log = (home / "data.log").read_text()
    shutil.rmtree(home)
    print(
        f"{options.rounds} rounds, {figures.kills} kills in {time.monotonic() - began:.0f} s;"
        f" {figures.acked} records acknowledged, {figures.records} in the logs;"
        f" start after a kill: median {statistics.median(figures.starts_s):.2f} s,"
        f" longest {max(figures.starts_s):.2f} s; tails cut: {log.count(': cut at position')}"
    )


if __name__ == "__main__":
    main()

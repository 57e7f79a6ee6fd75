"""SIGKILL of the broker and of workers with our client, in the middle of a copy.

With transactions each record of the source stands once in the target, for read_committed; by
`process` without them at least once. Records of one key come in their order (of those that came
twice, the first). Two workers share the source, so that each kill is a rebalance too.

For minutes: `python -m tests.crash.test_kill_process SECONDS`.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash.copier import LIVES
from tests.tools.serving import Serving, serving

pytestmark = pytest.mark.timeout(300)

WAIT_S = 120
PARTITIONS = 2
KEYS = 7
SETTINGS = {
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
}


class Worker:
    """A copier as a process of its own; what it says goes to `log`."""

    def __init__(self, bootstrap: str, name: str, kind: str, log: Path) -> None:
        self._command = [sys.executable, "-m", "tests.crash.copier", bootstrap, name, kind]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            assert self._process.poll() is None, self._log.read_text()
            self._process.kill()
            self._process.wait()
            self._process = None


class Progress:
    """How many records the group is past."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = rd.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "copy", "log_level": 0}
        )

    def count(self) -> int:
        keys = [rd.TopicPartition("source", index) for index in range(PARTITIONS)]
        with suppress(rd.KafkaException):  # it was just killed, or a transaction is open
            return sum(max(each.offset, 0) for each in self._consumer.committed(keys, 2))
        return 0

    def wait(self, goal: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.count() < goal:
            assert time.monotonic() < deadline, f"no {goal} records in {WAIT_S} s"
            time.sleep(0.01)

    def close(self) -> None:
        self._consumer.close()


def fill(bootstrap: str, count: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(name, PARTITIONS, 1) for name in ("source", "target")]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)
    producer = rd.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(count):
        key = number % KEYS
        producer.produce("source", b"%d" % number, b"%d" % key, partition=key % PARTITIONS)
    assert producer.flush(WAIT_S) == 0


def target(bootstrap: str, count: int) -> list[tuple[bytes, int]]:
    """Keys and values to the end, partition by partition. As in Kafka a commit is answered before
    its markers stand: until `count` are there, the end may still move."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([rd.TopicPartition("target", index, 0) for index in range(PARTITIONS)])
    found: list[tuple[bytes, int]] = []
    ended: set[int] = set()
    deadline = time.monotonic() + WAIT_S
    while len(ended) < PARTITIONS or len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            found.append((message.key(), int(message.value())))
            ended.discard(message.partition())
        elif message.error().code() == rd.KafkaError._PARTITION_EOF:
            ended.add(message.partition())
    consumer.close()
    return found


def check(found: list[tuple[bytes, int]], count: int, kind: str) -> int:
    """How many came more than once: none but at least once."""
    counts = Counter(number for _, number in found)
    assert sorted(counts) == list(range(count)), "each is there"
    doubled = [number for number, times in counts.items() if times > 1]
    assert kind == "process" or not doubled, f"came twice: {doubled}"
    firsts: dict[bytes, list[int]] = {}
    for key, number in dict.fromkeys(found):
        firsts.setdefault(key, []).append(number)
    for key, numbers in firsts.items():
        assert numbers == sorted(numbers), f"key {key!r} is out of order"
    return len(doubled)


def run(server: Serving, folder: Path, kind: str, count: int, kills: int, seed: int) -> int:
    """Copy so many records while broker and workers are killed, so many times in all."""
    rng = random.Random(seed)
    fill(server.bootstrap, count)
    workers = [
        Worker(server.bootstrap, f"worker-{n}", kind, folder / f"worker-{n}.log") for n in (1, 2)
    ]
    progress = Progress(server.bootstrap)
    with ExitStack() as stack:
        stack.callback(progress.close)
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        for number in range(kills):
            progress.wait(count * (number + 1) // (kills + 2))
            time.sleep(rng.random() * 0.2)
            victims = [[server], [workers[0]], [workers[1]], [server, rng.choice(workers)]]
            dying = victims[number % 4]
            for each in dying:
                each.kill()
            for each in dying:
                each.start()
        progress.wait(count)
    return check(target(server.bootstrap, count), count, kind)


@pytest.mark.parametrize("kind", LIVES)
def test_a_copy_holds_over_sigkills_of_broker_and_workers(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path / "data", SETTINGS) as server:
        run(server, tmp_path, kind, 600, 4, 1)


def main(seconds: float) -> None:
    deadline, seed = time.monotonic() + seconds, 100
    while time.monotonic() < deadline:
        kind = list(LIVES)[seed % len(LIVES)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with serving(folder / "data", SETTINGS) as server:
                doubled = run(server, folder, kind, 4_000, 12, seed)
        print(f"seed {seed}, {kind}: held over 12 kills, {doubled} came twice", flush=True)
        seed += 1


if __name__ == "__main__":
    main(float(sys.argv[1]))

"""SIGKILL at each failpoint of a real broker: afterwards all that was promised is there.

A run is one kill. `ottla serve` starts with a failpoint armed (`ottla.sim.failpoints`) and is
worked with until it dies there: records to partitions of tiny segments, retention, DeleteRecords,
topics that come and go, checkpoints, compaction, a clean stop. It is started again without one,
must serve without help, and everything is read:

    records     each acknowledged one at the offset that was told, from the log start on without a
                gap, of each partition in order and once
    starts      where DeleteRecords was told, or was asked; 0 where nobody asked
    topics      those whose making was told are there, those whose deletion was told are not
    the log     no partition is refused, no directory is offline
    again       it takes more records, and stops cleanly

`life` arms the failpoint in the first life of an empty directory, `recovery` in one that starts
over what a SIGKILL under load left. A first round without a kill counts which are hit, and how
often; each is then killed at its first hit, its last, and some between.

    python -m tests.crash.failpoints [--times N] [--only NAME …] [--phase life|recovery]
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import confluent_kafka as rd
from confluent_kafka.admin import AdminClient, NewTopic

from tests.crash.kill import Broken, consumer_of
from tests.tools.serving import Serving

Phase = Literal["life", "recovery"]
Partition = tuple[str, int]

FAILPOINT: Final = "OTTLA_FAILPOINT"
COUNT: Final = "*:1+:log"
WAIT_S: Final = 60
ROUNDS: Final = 4
SETTINGS: Final = {
    "auto.create.topics.enable": "false",  # a producer goes on asking for what was deleted
    "log.flush.offset.checkpoint.interval.ms": "60",
    "log.retention.check.interval.ms": "50",
    "log.cleaner.backoff.ms": "20",
}
# A full index rolls a segment: Kafka has a floor of 1 MiB for segment.bytes.
TINY: Final = {
    "segment.index.bytes": "60",
    "index.interval.bytes": "200",
    "file.delete.delay.ms": "100",
}
TOPICS: Final = {
    "kept": TINY,
    "cut": TINY,
    "short": {**TINY, "retention.bytes": "1500"},
    "compacted": {
        **TINY,
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "0",
    },
}


class Dead(Exception):
    """The broker ended while it was worked with: what the run is for."""


@dataclass
class Load:
    """What clients do, and what they were told."""

    server: Serving
    acked: dict[Partition, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    sent: Counter[Partition] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    there: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    asked_start: Counter[Partition] = field(default_factory=Counter)
    told_start: Counter[Partition] = field(default_factory=Counter)
    names: int = 0

    def __post_init__(self) -> None:
        common = {"bootstrap.servers": self.server.bootstrap, "log_level": 0}
        quick = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
        self.admin = AdminClient({**common, **quick})
        self.producer = rd.Producer(
            {**common, **quick, "enable.idempotence": True, "linger.ms": 0, "retry.backoff.ms": 10}
        )

    def work(self, rounds: int = ROUNDS) -> None:
        """Dead where the broker dies over it."""
        for name, config in TOPICS.items():
            if name not in self.there:
                self.make(name, config)
        for _ in range(rounds):
            for name in TOPICS:
                for _ in range(6):
                    self.send(name, 3)
                    self.flush()
            self.cut("cut")
            self.come_and_go()
            time.sleep(0.06)  # some of what goes by the clock falls into the run

    def _wait(self, future: "Future[Any]") -> bool:
        """Whether it was done; unknown, hence False, where the answer was an error."""
        while not future.done():
            self.look()
            time.sleep(0.002)
        with suppress(rd.KafkaException):
            future.result(0)
            return True
        self.look()
        return False

    def look(self) -> None:
        process = self.server.process
        if process is None or process.poll() is not None:
            raise Dead

    def make(self, name: str, config: dict[str, str]) -> None:
        new = NewTopic(name, 1, 1, config=config)
        (future,) = self.admin.create_topics([new], request_timeout=5).values()
        if self._wait(future):
            self.there[name] = None

    def come_and_go(self) -> None:
        name = f"passing-{self.names}"
        self.names += 1
        self.make(name, TINY)
        if name not in self.there:
            return
        self.send(name, 1)
        self.flush()
        (future,) = self.admin.delete_topics([name], request_timeout=5).values()
        del self.there[name]
        if self._wait(future):
            self.gone[name] = None

    def cut(self, name: str) -> None:
        where = name, 0
        offset = max(self.acked[where], default=0) // 2
        self.asked_start[where] = max(self.asked_start[where], offset)
        topic_partition = rd.TopicPartition(name, 0, offset)
        (future,) = self.admin.delete_records([topic_partition], request_timeout=5).values()
        if self._wait(future):
            self.told_start[where] = max(self.told_start[where], offset)

    def send(self, name: str, count: int) -> None:
        where = name, 0
        for _ in range(count):
            number = self.sent[where]
            self.sent[where] += 1
            value = b"%d." % number + b"x" * 40

            def told(error: Any, message: Any, value: bytes = value) -> None:
                if error is not None:
                    self.failed.append(f"{where}: {error}")
                else:
                    self.acked[where][message.offset()] = value

            self.producer.produce(name, value, b"%d" % (number % 5), 0, on_delivery=told)

    def flush(self) -> None:
        while self.producer.flush(0.02):
            self.look()


# ---- what must hold


def read(bootstrap: str, name: str) -> tuple[int, dict[int, bytes], int]:
    """(log start, values by offset, log end) of a partition."""
    consumer = consumer_of(bootstrap)
    try:
        start, end = consumer.get_watermark_offsets(rd.TopicPartition(name, 0), WAIT_S)
        consumer.assign([rd.TopicPartition(name, 0, start)])
        found: dict[int, bytes] = {}
        while True:
            message = consumer.poll(WAIT_S)
            if message is None:
                raise Broken(f"{name}: cannot be read to its end")
            if message.error() is None:
                found[message.offset()] = message.value()
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                return start, found, end
            else:
                raise Broken(f"{name}: {message.error()}")
    finally:
        consumer.close()


def check(load: Load) -> None:
    server = load.server
    names = dict.fromkeys(load.admin.list_topics(timeout=WAIT_S).topics)
    for name in load.there:
        if name not in names:
            raise Broken(f"topic {name} was made, and is not there")
    for name in load.gone:
        if name in names:
            raise Broken(f"topic {name} was deleted, and is there")
    if load.failed:
        raise Broken(load.failed[0])
    for name in TOPICS:
        if name in load.there:
            check_partition(load, name, *read(server.bootstrap, name))
    for complaint in ("is not served", "goes offline", "Traceback", "cannot be used"):
        if complaint in server.log.read_text():
            raise Broken(f"the broker's log says {complaint!r}")


def check_partition(load: Load, name: str, start: int, found: dict[int, bytes], end: int) -> None:
    where = name, 0
    acked = load.acked[where]
    if acked and end <= max(acked):
        raise Broken(f"{name}: ends at {end}, {max(acked)} was told")
    if name != "short" and not load.told_start[where] <= start <= load.asked_start[where]:
        raise Broken(f"{name}: starts at {start}, not {load.told_start[where]}")
    is_compacted = name == "compacted"
    if not is_compacted and list(found) != list(range(start, end)):
        raise Broken(f"{name}: {start}..{end} has gaps")
    for offset, value in acked.items():
        at = found.get(offset)
        if offset >= start and at != value and not (is_compacted and at is None):
            raise Broken(f"{name}: {value[:9]!r} was told {offset}, there is {at and at[:9]!r}")
    numbers = [int(value.split(b".")[0]) for value in found.values()]
    if sorted(dict.fromkeys(numbers)) != numbers:
        raise Broken(f"{name}: out of order or twice: {numbers}")
    if is_compacted:
        latest = {number % 5: number for number in range(load.sent[where])}
        kept = {number % 5: number for number in numbers}
        if kept != latest:
            raise Broken(f"{name}: latest values {kept}, not {latest}")
    elif numbers and numbers != list(range(numbers[0], load.sent[where])):
        raise Broken(f"{name}: {numbers[0]}..{numbers[-1]} of {load.sent[where]} has gaps")


# ---- a run


class Outcome(NamedTuple):
    was_killed: bool
    violation: str = ""


def start_armed(server: Serving, plan: str) -> bool:
    """Start it; False where it died on the way."""
    server.environment = {FAILPOINT: plan}
    try:
        server.start()
    except RuntimeError:
        if server.process is None or server.process.poll() != -signal.SIGKILL:
            raise
        return False
    finally:
        server.environment = {}
    return True


def stop(server: Serving) -> bool:
    """A clean stop; False where it died on the way."""
    code = server.stop()
    if code not in (0, -signal.SIGKILL):
        raise Broken(f"the stop ended with {code}")
    return code == 0


def prepare(home: Path, phase: Phase) -> Load:
    """A server that has found its port, and does not run."""
    server = Serving(home / "data", SETTINGS).start()
    load = Load(server)
    if phase == "recovery":
        load.work(2)
        load.send("kept", 3)
        server.kill()
        return load
    stop(server)
    shutil.rmtree(server.data)
    return load


def play(load: Load, plan: str) -> bool:
    """Work with a broker that is armed, to a clean stop; whether it died."""
    if not start_armed(load.server, plan):
        return True
    try:
        load.work()
        return not stop(load.server)
    except Dead:
        return True


def run(home: Path, phase: Phase, plan: str) -> Outcome:
    load = prepare(home, phase)
    server = load.server
    try:
        was_killed = play(load, plan)
        server.kill()
        server.start()
        load.flush()
        check(load)
        load.work(1)
        load.flush()
        check(load)
        if not stop(server):
            raise Broken("it died once more")
    except (Broken, Dead, RuntimeError, rd.KafkaException) as error:
        return Outcome(True, f"{type(error).__name__}: {error}"[:300])
    finally:
        server.kill()
    return Outcome(was_killed)


def count(home: Path, phase: Phase) -> Counter[str]:
    """How often each failpoint is hit where nothing kills."""
    load = prepare(home, phase)
    try:
        if play(load, COUNT):
            raise Broken("it died, and nobody killed it")
    finally:
        load.server.kill()
    lines = load.server.log.read_text().splitlines()
    return Counter(line.split()[-1] for line in lines if " failpoint " in line)


def chosen(hits: int, times: int) -> list[int]:
    """At which hits to kill: the first, the last but one (the last may not come again), and
    some evenly between."""
    last = max(hits - 1, 1)
    if times == 1 or last == 1:
        return [1] if times == 1 else sorted({1, hits})
    return sorted({1 + (last - 1) * number // (times - 1) for number in range(times)})


# ---- the command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="kills at each failpoint, at most")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--phase", choices=("life", "recovery"))
    options = parser.parse_args(arguments)
    phases: list[Phase] = [options.phase] if options.phase else ["life", "recovery"]
    began, kills, runs, broken = time.monotonic(), 0, 0, []
    print(f"{'phase':9} {'failpoint':28} {'hits':>5} {'kills':>5} {'violations':>10}", flush=True)
    for phase in phases:
        hits = in_directory(lambda home, phase=phase: count(home, phase))  # type: ignore[misc]
        for name in sorted(hits):
            if options.only and name not in options.only:
                continue
            killed, violations = 0, []
            for nth in chosen(hits[name], options.times):
                plan = f"{name}:{nth}:kill"
                outcome = in_directory(lambda home, plan=plan, phase=phase: run(home, phase, plan))  # type: ignore[misc]
                runs += 1
                killed += outcome.was_killed
                if outcome.violation:
                    violations.append(f"{phase} {plan}: {outcome.violation}")
            kills += killed
            broken += violations
            row = f"{phase:9} {name:28} {hits[name]:5} {killed:5} {len(violations):10}"
            print("\n  ".join([row, *violations]), flush=True)
    seconds = time.monotonic() - began
    print(f"{runs} runs, {kills} kills, {len(broken)} violations in {seconds:.0f} s")
    return int(bool(broken))


def in_directory(call: Any) -> Any:
    """Call it with a directory of its own, which stays where something was broken."""
    home = Path(tempfile.mkdtemp(prefix="ottla-failpoint-"))
    result = call(home)
    if not (isinstance(result, Outcome) and result.violation):
        shutil.rmtree(home)
        return result
    return result._replace(violation=f"{result.violation} (its directory is {home})")


if __name__ == "__main__":
    sys.exit(main())

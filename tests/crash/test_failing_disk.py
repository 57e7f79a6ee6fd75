"""A real broker on disks that fail or are full, used by a real client.

EIO and EMFILE come from a shim (`failing_calls.c`) that the C compiler of the machine makes and
LD_PRELOAD puts before libc; ENOSPC from a small tmpfs, which needs leave to mount. Where the
machine has no compiler or does not let us, the test is skipped and says so.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.tools.serving import Serving

SHIM = Path(__file__).with_name("failing_calls.c")
WAIT_S = 60


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the shim that makes calls fail cannot be made")
    made = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(made), str(SHIM), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the shim cannot be made here: {done.stderr[-300:]}")
    return made


@pytest.fixture
def plan(tmp_path: Path, shim: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file by which faults begin and end."""
    path = tmp_path / "plan"
    monkeypatch.setenv("OTTLA_FAULT", str(path))
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    return path


@contextlib.contextmanager
def broker(tmp_path: Path, dirs: list[Path], **settings: str) -> Iterator[Serving]:
    known = {"log.dirs": ",".join(map(str, dirs)), **settings}
    server = Serving(tmp_path / "data", known)
    try:
        yield server.start()
    finally:
        server.stop()


def make_topics(server: Serving, *names: str) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(WAIT_S)


def home_of(name: str, dirs: list[Path]) -> Path:
    [home] = [each for each in dirs if (each / f"{name}-0").is_dir()]
    return home


def produce(server: Serving, topic: str, value: bytes = b"v", timeout_s: float = WAIT_S) -> int:
    """The offset that a record got; KafkaException where it got none."""
    outcome = []
    producer = Producer(
        {
            "bootstrap.servers": server.bootstrap,
            "acks": "all",
            "message.timeout.ms": int(timeout_s * 1000),
            "linger.ms": 0,
        }
    )
    producer.produce(topic, value, partition=0, callback=lambda *both: outcome.append(both))
    producer.flush(timeout_s + 10)
    [(error, message)] = outcome
    if error is not None:
        raise KafkaException(error)
    offset = message.offset()
    assert offset is not None
    return offset


def read_all(server: Serving, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": server.bootstrap,
            "group.id": "none",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, WAIT_S)]
    finally:
        consumer.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines(server: Serving, part: str) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if part in line]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("write", errno.EIO),
        ("write", errno.EROFS),  # a file system that its kernel has made read-only
        ("sync", errno.EIO),
        ("read", errno.EIO),
    ],
)
def test_a_directory_whose_disk_fails_goes_alone(
    tmp_path: Path, plan: Path, call: str, code: int
) -> None:
    dirs = [tmp_path / "one", tmp_path / "two"]
    with broker(tmp_path, dirs) as server:
        make_topics(server, "a", "b")
        for topic in ("a", "b"):
            assert produce(server, topic, b"first") == 0
        failing, sound = ("a", "b") if home_of("a", dirs) == dirs[1] else ("b", "a")
        part = f"/two/{failing}-0/"
        if call == "read":  # nothing of the index or the log is in memory, as after a start
            server.stop()
            server.start()
        plan.write_text(f"{call} {code} {part}")
        if call == "read":
            with pytest.raises((KafkaException, AssertionError)):
                server_times_out(server, failing)
        else:
            with pytest.raises(KafkaException):
                produce(server, failing, b"lost", timeout_s=5)
        until(lambda: bool(lines(server, "goes offline")))
        [line] = lines(server, "goes offline")
        assert "two" in line
        assert produce(server, sound, b"second") == 1
        assert read_all(server, sound, 2) == [b"first", b"second"]
        plan.unlink()
        with pytest.raises(KafkaException):
            produce(server, failing, b"still offline", timeout_s=2)
        server.stop()
        server.start()
        assert read_all(server, failing, 1) == [b"first"]
        assert produce(server, failing, b"again") >= 1


def server_times_out(server: Serving, topic: str) -> None:
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "none"})
    try:
        consumer.list_topics(timeout=WAIT_S)
        found = consumer.offsets_for_times([TopicPartition(topic, 0, 1)], timeout=5)
        assert found[0].error is None, found[0].error
    finally:
        consumer.close()


def test_no_descriptor_for_a_checkpoint_takes_nothing_offline(tmp_path: Path, plan: Path) -> None:
    dirs = [tmp_path / "one"]
    every = {"log.flush.offset.checkpoint.interval.ms": "50"}
    with broker(tmp_path, dirs, **every) as server:
        make_topics(server, "a")
        assert produce(server, "a", b"first") == 0
        plan.write_text(f"open {errno.EMFILE} -checkpoint")
        until(lambda: bool(lines(server, "refused or put off")))
        assert produce(server, "a", b"second") == 1
        plan.unlink()
        path = dirs[0] / "recovery-point-offset-checkpoint"
        until(lambda: path.exists() and "a 0 2" in path.read_text().splitlines())
        assert not lines(server, "offline")
        assert len(lines(server, "refused or put off")) == 1, "it is told once"


# --- at start


def test_a_directory_that_cannot_be_used_at_start_is_done_without(
    tmp_path: Path, plan: Path
) -> None:
    dirs = [tmp_path / "one", tmp_path / "two"]
    with broker(tmp_path, dirs) as server:
        make_topics(server, "a", "b")
        for topic in ("a", "b"):
            produce(server, topic, b"first")
        failing, sound = ("a", "b") if home_of("a", dirs) == dirs[1] else ("b", "a")
        server.stop()
        plan.write_text(f"open {errno.EIO} /two/.lock")
        server.start()
        assert len(lines(server, "cannot be used")) == 1
        assert read_all(server, sound, 1) == [b"first"]
        with pytest.raises(KafkaException):
            produce(server, failing, timeout_s=2)
        assert not (dirs[0] / f"{failing}-0").exists(), "it is not made anew elsewhere"
        make_topics(server, "c")
        assert produce(server, "c") == 0
        server.stop()
        plan.unlink()
        server.start()
        assert read_all(server, failing, 1) == [b"first"]


# --- no room


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("not root: a small file system cannot be mounted")
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            for size in (1 << 16, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            raise OSError


def test_a_full_disk_refuses_is_read_and_recovers(tmp_path: Path, small: Path) -> None:
    dirs = [small / "one"]
    often = {"log.flush.offset.checkpoint.interval.ms": "50"}
    with broker(tmp_path, dirs, **often) as server:
        make_topics(server, "a")
        values = [bytes([number]) * 1000 for number in range(20)]
        for number, value in enumerate(values):
            assert produce(server, "a", value) == number
        ballast = small / "ballast"
        fill(ballast)
        with pytest.raises(KafkaException):
            for _ in range(20):
                values.append(b"x" * 100_000)
                produce(server, "a", values[-1], timeout_s=3)
        values.pop()
        assert read_all(server, "a", len(values)) == values
        with pytest.raises(KafkaException, match="disk is full"):
            make_topics(server, "made-while-full")
        assert not lines(server, "goes offline")
        assert len(lines(server, "refused or put off")) == 1
        ballast.unlink()
        end = produce(server, "a", b"room")
        assert end >= len(values)
        make_topics(server, "made-while-full")
        assert produce(server, "made-while-full") == 0
        assert server.stop() == 0
        server.start()
        assert read_all(server, "a", len(values)) == values
        assert read_all(server, "made-while-full", 1) == [b"v"]

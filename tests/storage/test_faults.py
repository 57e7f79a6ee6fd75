"""Appends, rolls and closings on a disk that fails at the n-th call, for every n, and power cuts
on a disk that loses, tears and reorders what was not synced."""

import errno
import random
from collections.abc import Callable

import pytest

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.trace import Trace
from ottla.storage.flusher import Flusher
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir

from .makers import TINY, append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk
from .test_log_dir import IDENTITY, TOPIC_ID, Clock, InlineOffload


def step(log: Log, sequence: int) -> bool:
    try:
        append(log, batch_of(1, producer=(7, 0, sequence)), now_ms=1_000 + sequence)
    except OSError:
        return False
    return True


def test_an_append_that_fails_leaves_the_log_as_it_was() -> None:
    """One failing call anywhere in a run of appends over several segments."""
    count, has_failed = 0, True
    while has_failed:
        count += 1
        disk = MemoryDisk()
        log = make_log(disk)
        disk.fail_at(count)
        written, has_failed = 0, False
        while written < 20:
            before = read_all(log) if has_failed else None
            size = log.size_bytes
            if step(log, written):
                written += 1
            else:
                has_failed = True
                assert log.log_end_offset == written
                assert log.size_bytes == size
                assert len(disk.files.get(log.active.path, b"")) == log.active.size_bytes
                assert log.active.index.last_position() <= log.active.size_bytes
            if before is not None:
                assert read_all(log)[: len(before)] == before
        disk.fail_at(0)
        batches = read_all(log)
        assert len(batches) == 20
        for offset in range(20):
            assert log.read(offset, 1, 20) is not None
        assert read_all(reopen(disk.copy())) == batches
        log.settle()
        log.close()
        assert disk.open_count == 0
        again = reopen(disk, is_clean=True, recovery_point=20)
        assert read_all(again) == batches
        assert [each.last_sequence for each in again.producers()] == [19]
    assert count > 40


def test_a_disk_that_fails_for_good_loses_nothing_that_was_there() -> None:
    for count in range(1, 60):
        disk = MemoryDisk()
        log = make_log(disk)
        disk.fail_at(count, for_good=True)
        written = 0
        while written < 20 and step(log, written):
            written += 1
        died = disk.copy()
        # What failed may be there after all: its cut failed too, and nobody was told it is not.
        assert len(read_all(reopen(died))) in (written, written + 1)


def logs_of(log_dir: LogDir) -> list[Log]:
    names = [TopicPartition("t", PartitionIndex(partition)) for partition in range(5)]
    return [log_dir.create(name, TOPIC_ID, TINY) for name in names]


def no_syncfs(file: object) -> None:
    raise OSError(errno.ENOSYS, "no syncfs")


class Life:
    """One life of a node on a drive: appends, flush rounds, checkpoints, until it stops."""

    def __init__(self, drive: Drive, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.offload = InlineOffload()
        self.disk = SimDisk(drive, self.rng, Trace(lambda: 0.0))
        if self.rng.random() < 0.5:
            self.disk.sync_file_system = no_syncfs  # type: ignore[method-assign]
        self.log_dir = LogDir.open(
            "data", IDENTITY, lambda _: TINY, disk=self.disk, rng=self.rng, clock=self.clock
        )
        self.flusher = Flusher(
            self.disk,
            self.offload,
            self.clock,
            on_flushed=lambda _: None,
            on_offline=pytest.fail,
        )
        self.flusher.costs.whole_seconds = 0.0
        self.logs = logs_of(self.log_dir)

    def turn(self, epoch: int) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            log = self.rng.choice(self.logs)
            (producer,) = log.producers() or [None]
            sequence = producer.last_sequence + 1 if producer else 0
            count = self.rng.randrange(1, 4)
            batch = batch_of(count, producer=(7, 0, sequence), value=self.rng.randbytes(9))
            append(log, batch, leader_epoch=epoch, now_ms=self.clock.now_ms)
            self.flusher.mark_dirty(log)
        self.flusher.kick()
        if self.rng.random() < 0.1:
            self.retention()
        if self.rng.random() < 0.2:
            self.log_dir.write_checkpoints({}, self.offload, lambda _: None)
        for _ in range(self.rng.randrange(4)):
            if self.offload.waiting:
                self.offload.waiting.pop(0)()

    def retention(self) -> None:
        now_ms = self.clock.now_ms
        for log in self.logs:
            log.retire_old_segments(now_ms, log.flushed_end_offset)
        starts = [log.log_start_offset for log in self.logs]

        def drop(_: OSError | None) -> None:
            for log, start in zip(self.logs, starts, strict=True):
                log.drop_retired(now_ms, start)

        self.log_dir.write_checkpoints({}, self.offload, drop)


@pytest.mark.parametrize("mode", list(CrashMode))
@pytest.mark.parametrize("seed", range(25))
def test_power_cuts_lose_nothing_that_was_flushed(mode: CrashMode, seed: int) -> None:
    rng = random.Random(f"{mode}{seed}")
    drive = Drive()
    flushed: list[list[bytes]] = [[] for _ in range(5)]
    for life_number in range(4):
        life = Life(drive, rng.randrange(1 << 30))
        for log, before in zip(life.logs, flushed, strict=True):
            got = read_all(log)
            assert got[: len(before)] == before, "a flushed batch is gone or changed"
            assert not life.log_dir.offline_logs
            # Epochs and producers as the batches say.
            if got:
                assert log.epochs.latest < life_number
                assert len(log.producers()) == 1
        for _ in range(rng.randrange(1, 12)):
            life.turn(life_number)
        if rng.random() < 0.2:
            life.flusher.when_idle(lambda: None)
            life.offload.run()
            life.log_dir.close({})
            flushed = [_images(drive, seed, index) for index in range(5)]
        else:
            flushed = [read_all(log, log.flushed_end_offset) for log in life.logs]
        life.disk.die()
        drive = drive.clone()
        if rng.random() < 0.8:  # else the process alone dies
            drive.power_cut(random.Random(seed * 7 + life_number), mode)


def _images(drive: Drive, seed: int, index: int) -> list[bytes]:
    disk = SimDisk(drive.clone(), random.Random(seed), Trace(lambda: 0.0))
    log_dir = LogDir.open(
        "data", IDENTITY, lambda _: TINY, disk=disk, rng=random.Random(1), clock=Clock()
    )
    assert log_dir.was_clean
    return read_all(logs_of(log_dir)[index])


def test_power_cuts_do_lose_what_was_not_flushed() -> None:
    """The proof above can fail: acknowledged without a flush, batches are gone."""
    lost = 0
    for seed in range(20):
        drive = Drive()
        life = Life(drive, seed)
        append(life.logs[0], batch_of(3))
        life.disk.die()
        drive.power_cut(random.Random(seed), CrashMode.DROP)
        lost += not read_all(Life(drive, seed).logs[0])
    assert lost > 5


def test_power_cuts_at_any_moment_of_opening() -> None:
    """A start that dies at any call, with a power cut, is repeated without loss (B7)."""
    drive = Drive()
    life = Life(drive, 3)
    for _ in range(6):
        life.turn(0)
    life.flusher.when_idle(lambda: None)
    life.offload.run()
    kept = [read_all(log) for log in life.logs]
    append(life.logs[0], batch_of(3))
    life.disk.die()
    count = 0
    for count in range(1, 500):
        twin = drive.clone()
        twin.power_cut(random.Random(count), CrashMode.TEAR)
        disk = SimDisk(twin, random.Random(count), Trace(lambda: 0.0))
        if not _dies_at(disk, count):
            break
        twin.power_cut(random.Random(count), CrashMode.FULL)
        again = Life(twin, count)
        assert not again.log_dir.offline_logs
        for log, before in zip(again.logs, kept, strict=True):
            assert read_all(log)[: len(before)] == before
    assert count > 30


def _dies_at(disk: SimDisk, count: int) -> bool:
    """Whether an opening came to its `count`-th call, at which the disk dies."""
    calls = 0
    begin = disk._fault

    def dying(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == count:
            disk.die()
        return begin(*arguments)  # type: ignore[arg-type]

    disk._fault = dying  # type: ignore[method-assign, assignment]
    opening: Callable[[], LogDir] = lambda: LogDir.open(  # noqa: E731
        "data", IDENTITY, lambda _: TINY, disk=disk, rng=random.Random(1), clock=Clock()
    )
    try:
        opening()
    except Exception:
        assert not disk.is_alive
        return True
    return False

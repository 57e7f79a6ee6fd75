"""The cleaner of a directory: which log, at what pace, and what ends a pass."""

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.base.options import BrokerSettings
from ottla.replica import cleaner as cleaner_module
from ottla.replica.cleaner import Cleaner
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from tests.storage.compacting import COMPACTED, batches
from tests.storage.makers import make_log
from tests.storage.memory_disk import MemoryDisk
from tests.storage.test_compaction import put

NOW_MS = 1_000_000


class Clock:
    """Time that passes only by calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step_s = 0.0

    def monotonic(self) -> float:
        self.now += self.step_s
        return self.now

    def time_ms(self) -> int:
        return NOW_MS


class Offload:
    """Helper threads without threads: a turn of the loop later."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None
        self.count = 0

    def submit(self, call: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        asyncio.get_running_loop().call_soon(self._run, call, done)

    def _run(self, call: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        self.count += 1
        self.before()
        try:
            result = call()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)


class Directory:
    def __init__(self) -> None:
        self.log_dir = SimpleNamespace(logs={}, is_offline=False)
        self.partitions: list[Any] = []
        self.failures: list[OSError] = []
        self.checkpoint_error: OSError | None = None

    def add(self, log: Log, number: int) -> None:
        log.topic_partition = log.topic_partition._replace(partition=number)  # type: ignore[arg-type]
        self.log_dir.logs[log.topic_partition] = log
        self.partitions.append(SimpleNamespace(log=log, high_watermark=log.flushed_end_offset))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.partitions)

    def failed(self, error: OSError) -> None:
        self.failures.append(error)
        if error.errno != errno.ENOSPC:
            self.log_dir.is_offline = True

    def checkpoint(self, then: Callable[[OSError | None], None]) -> None:
        if self.checkpoint_error is not None:
            self.failed(self.checkpoint_error)
        then(self.checkpoint_error)


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk = MemoryDisk()
        self.clock = Clock()
        self.offload = Offload()
        self.directory = Directory()
        self.settings = BrokerSettings(log_cleaner_backoff_ms=1)
        self.failures: list[BaseException] = []
        self.slept: list[float] = []
        world = SimpleNamespace(disk=self.disk, clock=self.clock, offload=self.offload)
        self.cleaner = Cleaner(
            world,  # type: ignore[arg-type]
            self.directory,  # type: ignore[arg-type]
            settings=lambda: self.settings,
            share=1,
            on_failure=self.failures.append,
        )

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

        monkeypatch.setattr(self.cleaner, "_sleep", sleep)

    def log(self, number: int, *, records: int = 30, keys: int = 5) -> Log:
        log = make_log(self.disk, COMPACTED, f"data/t-{number}")
        self.directory.add(log, number)
        self.fill(log, records, keys)
        return log

    def fill(self, log: Log, records: int = 30, keys: int = 5) -> None:
        for at in range(records):
            put(log, (f"k{at % keys}", "v" * 40))
        log.roll(NOW_MS)
        flush_now(self.disk, [log])
        for partition in self.directory:
            partition.high_watermark = partition.log.flushed_end_offset

    def run(self) -> bool:
        return asyncio.run(self.cleaner.clean_filthiest())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def count(log: Log) -> int:
    return sum(len(each.records) for each in batches(log))


def leftovers(bench: Bench) -> list[str]:
    return [name for name in bench.disk.files if name.endswith((".cleaned", ".swap"))]


def test_the_dirtiest_log_comes_first(bench: Bench) -> None:
    first, second = bench.log(0), bench.log(1)
    assert bench.run()
    assert bench.run()
    assert (count(first), count(second)) == (5, 5)
    assert not bench.run()
    bench.fill(first, 2)
    bench.fill(second, 9)
    assert bench.run()
    assert (count(first), count(second)) == (7, 5)
    assert bench.run()
    assert count(first) == 5


def test_the_recovery_point_is_written_before_and_the_cleaner_offset_after(bench: Bench) -> None:
    log = bench.log(0)
    written: list[tuple[int, int | None]] = []

    def checkpoint(done: Callable[[OSError | None], None]) -> None:
        written.append((count(log), log.cleaner_offset))
        done(None)

    bench.directory.checkpoint = checkpoint  # type: ignore[method-assign]
    assert bench.run()
    assert written == [(30, None), (5, 30)]


def test_no_pass_without_a_durable_recovery_point(bench: Bench) -> None:
    log = bench.log(0)
    bench.directory.checkpoint_error = OSError(errno.ENOSPC, "full")
    assert not bench.run()
    assert count(log) == 30


def test_it_rests_as_long_as_it_works(bench: Bench) -> None:
    bench.log(0)
    bench.clock.step_s = 0.25
    assert bench.run()
    assert len(bench.slept) > 3
    assert set(bench.slept) == {0.25}


def test_it_keeps_to_its_rate(bench: Bench) -> None:
    log = bench.log(0)
    size = log.size_bytes
    bench.settings = replace(bench.settings, log_cleaner_io_max_bytes_per_second=100.0)
    assert bench.run()
    written = sum(segment.size_bytes for segment in log.segments)
    assert sum(bench.slept) == pytest.approx((2 * size + written) / 100, rel=0.05)


def test_a_rate_of_nothing_is_no_rate(bench: Bench) -> None:
    bench.log(0)
    bench.settings = replace(bench.settings, log_cleaner_io_max_bytes_per_second=0.0)
    assert bench.run()


def test_a_log_that_is_damaged_is_left_alone_with_one_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, sound = bench.log(0, keys=4), bench.log(1)
    bench.disk.files[f"data/t-0/{0:020d}.log"][100] ^= 1
    with caplog.at_level(logging.ERROR):
        done = [bench.run() for _ in range(5)]
    assert done.count(True) == 1
    assert (count(sound), damaged.cleaner_offset) == (5, None)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "orders-0 is not compacted any more: data/t-0/" in line
    assert not bench.directory.failures
    assert not leftovers(bench)
    bench.directory.partitions.pop(0)
    assert not bench.run()
    assert not bench.cleaner._uncleanable, "what is gone is forgotten"


def at_step(bench: Bench, number: int, act: Callable[[], None]) -> None:
    """Do something when a helper begins its n-th call."""

    def before() -> None:
        if bench.offload.count == number:
            act()

    bench.offload.count = 0
    bench.offload.before = before


def test_a_topic_that_is_deleted_at_any_moment(bench: Bench) -> None:
    number, is_over = 0, False
    while not is_over:
        number += 1
        log = bench.log(number)

        def delete(log: Log = log, number: int = number) -> None:
            del bench.directory.log_dir.logs[log.topic_partition]
            bench.directory.partitions.pop()
            bench.disk.rename(f"data/t-{number}", f"data/gone-{number}")
            log.move(f"data/gone-{number}")

        at_step(bench, number, delete)
        is_over = bench.run() and bench.offload.count < number
        assert not bench.directory.failures
        assert not bench.failures
    assert number > 10


def test_a_log_that_loses_segments_at_any_moment(bench: Bench) -> None:
    number, is_over = 0, False
    while not is_over:
        number += 1
        log = bench.log(number)

        def cut(log: Log = log) -> None:
            log.advance_start(log.segments[min(3, len(log.segments) - 1)].base_offset)
            log.drop_retired(NOW_MS, log.log_start_offset)

        at_step(bench, number, cut)
        bench.run()
        is_over = bench.offload.count < number
        assert not bench.directory.failures
        assert not leftovers(bench)
        assert log.log_end_offset == 30
        offsets = [record.offset for each in batches(log) for record in each.records]
        assert log.log_start_offset == 30 or offsets[-5:] == [25, 26, 27, 28, 29]
        bench.directory.partitions.pop()
    assert number > 10


def test_a_failure_of_the_disk_at_any_call(bench: Bench) -> None:
    """The directory is told of it, once, and what is served stays right."""
    number, has_failed = 0, True
    while has_failed:
        number += 1
        bench.directory.log_dir.is_offline = False
        bench.directory.failures.clear()
        bench.directory.partitions.clear()
        log = bench.log(number)
        bench.disk.fail_at(number)
        bench.run()
        bench.disk.fail_at(0)
        has_failed = bool(bench.directory.failures)
        assert len(bench.directory.failures) <= 1
        latest = {record.key: record.offset for each in batches(log) for record in each.records}
        assert sorted(latest.values()) == [25, 26, 27, 28, 29]
    assert number > 40


def test_a_shortage_in_the_middle_of_a_swap_is_waited_out(bench: Bench) -> None:
    log = bench.log(0)
    rename, refused = bench.disk.rename, 0

    def short(old: str, new: str) -> None:
        nonlocal refused
        if old.endswith((".log", ".index.swap", ".log.swap")) and refused < 6:
            refused += 1
            raise OSError(errno.ENOSPC, "full", old)
        rename(old, new)

    bench.disk.rename = short  # type: ignore[method-assign]
    assert bench.run()
    assert len(bench.directory.failures) == refused == 6
    assert bench.slept.count(cleaner_module.RETRY_S) == 6
    assert count(log) == 5
    assert not log.is_replacing
    assert not leftovers(bench)


def test_a_shortage_before_a_swap_ends_the_pass(bench: Bench) -> None:
    log = bench.log(0)
    rename = bench.disk.rename

    def short(old: str, new: str) -> None:
        raise OSError(errno.ENOSPC, "full", old)

    bench.disk.rename = short  # type: ignore[method-assign]
    assert not bench.run()
    assert len(bench.directory.failures) == 1
    assert not log.is_replacing
    assert not leftovers(bench)
    bench.disk.rename = rename  # type: ignore[method-assign]
    assert bench.run(), "and the next one is tried"
    assert count(log) == 5


def test_an_offline_directory_is_left_alone(bench: Bench) -> None:
    log = bench.log(0)
    bench.directory.log_dir.is_offline = True
    assert not bench.run()
    assert count(log) == 30


def test_many_logs_are_looked_at_in_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner_module, "TURN_LOGS", 2)
    logs = [bench.log(number, records=8, keys=2) for number in range(5)]
    assert [bench.run() for _ in range(6)] == [True] * 5 + [False]
    assert [count(log) for log in logs] == [2] * 5


def run_task(bench: Bench, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        bench.cleaner._stopping = asyncio.Event()
        bench.cleaner.start()
        await test()
        await bench.cleaner.close()

    asyncio.run(run())


def test_it_cleans_until_it_is_closed(bench: Bench) -> None:
    log = bench.log(0)

    async def test() -> None:
        while count(log) > 5:
            await asyncio.sleep(0)

    run_task(bench, test)
    assert bench.cleaner._task is not None
    assert bench.cleaner._task.done()


def test_it_stops_in_the_middle_of_a_pass(bench: Bench) -> None:
    log = bench.log(0)

    async def test() -> None:
        while bench.offload.count < 4:
            await asyncio.sleep(0)

    run_task(bench, test)
    assert not leftovers(bench)
    assert {record.offset for each in batches(log) for record in each.records} >= set(range(25, 30))


def test_a_bug_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cleaner_module, "cleanable", broken)
    bench.log(0)

    async def test() -> None:
        while not bench.failures:
            await asyncio.sleep(0)

    run_task(bench, test)
    assert [type(each) for each in bench.failures] == [ZeroDivisionError]

"""Partitions that move between the log directories of a real node, while they are used."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import FileRange
from ottla.replica import mover
from ottla.replica.directory import Directory
from ottla.replica.manager import ReplicaManager
from ottla.replica.partition import Partition
from ottla.storage import future_log
from ottla.storage.future_log import FutureLog
from tests.fuzz.bench import batch, running_node

NOW_MS = time.time_ns() // 1_000_000
Test = Callable[[Any, ReplicaManager], Awaitable[None]]


def on_node(directory: Path, test: Test, dirs: int = 2) -> None:
    async def run() -> None:
        paths = ",".join(str(directory / f"d{number}") for number in range(dirs))
        async with running_node(directory, settings={"log.dirs": paths}) as node:
            await test(node.services.controller, node.services.replicas)

    asyncio.run(run())


async def make(controller: Any, name: str, **configs: str) -> Any:
    return await controller.create_topic(name, partitions=1, replication_factor=1, configs=configs)


def produce(partition: Partition, count: int = 1) -> int:
    for _ in range(count):
        info = partition.append(memoryview(batch()), acks_all=True, now_ms=NOW_MS, version=9)
    return info.last_offset + 1


def slow_down(patch: pytest.MonkeyPatch, step_bytes: int, last_bytes: int) -> None:
    patch.setattr(mover, "STEP_BYTES", step_bytes)
    patch.setattr(mover, "LAST_BYTES", last_bytes)
    patch.setattr(future_log, "CHUNK_BYTES", max(step_bytes // 2, 100))


class Waiter:
    def __init__(self) -> None:
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def reached(self) -> None:
        self.future.set_result("reached")

    def closed(self) -> None:
        self.future.set_result("closed")


async def acknowledged(partition: Partition, end_offset: int) -> None:
    if partition.high_watermark < end_offset:
        waiter = Waiter()
        partition.wait_for_offset(end_offset, waiter)
        assert await asyncio.wait_for(waiter.future, 60) == "reached"


def contents(partition: Partition) -> bytes:
    offset, data = partition.log.log_start_offset, b""
    while (found := partition.read(offset, 1 << 20, at_least_one=True)) is not None:
        assert isinstance(found, FileRange)
        file, position, length = found
        data += file.pread(length, position)
        offset = next(reversed(partition._hints))
    return data


def places(replicas: ReplicaManager, partition: Partition) -> tuple[Directory, Directory]:
    """Where it is, and where it is not."""
    [here] = [each for each in replicas.directories if partition in list(each)]
    [there] = [each for each in replicas.directories if each is not here]
    return here, there


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def names(directory: Directory) -> list[str]:
    return [each.name for each in Path(directory.log_dir.path).iterdir() if each.is_dir()]


def test_a_partition_moves_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, 20_000, 2_000)

    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", **{"segment.bytes": "1048576"})
        partition = replicas.leader_of("t", 0)
        await acknowledged(partition, produce(partition, 2_000))
        partition.log.roll(NOW_MS)
        await acknowledged(partition, produce(partition, 2_000))
        here, there = places(replicas, partition)
        before = contents(partition)
        high_watermark = partition.high_watermark
        replicas.move("t", 0, there.log_dir.path)
        end = 0
        while replicas.mover.moves:
            end = produce(partition, 3)
            await asyncio.sleep(0)
            assert partition.high_watermark >= high_watermark
            high_watermark = partition.high_watermark
        await acknowledged(partition, end)
        assert places(replicas, partition) == (there, here)
        after = contents(partition)
        assert after.startswith(before)
        assert len(partition.log.segments) >= 2
        await until(lambda: not replicas.mover.has_left(partition.log.topic_partition, here))
        assert "t-0" in names(there)
        assert not [name for name in names(here) if name == "t-0" or "future" in name]
        end = produce(partition)
        await acknowledged(partition, end)

    on_node(tmp_path, test)

    async def again(controller: Any, replicas: ReplicaManager) -> None:
        partition = replicas.leader_of("t", 0)
        assert partition.log.log_end_offset >= 4_001
        assert contents(partition)

    on_node(tmp_path, again)


def test_a_move_back_and_forth(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t")
        partition = replicas.leader_of("t", 0)
        await acknowledged(partition, produce(partition, 10))
        before = contents(partition)
        here, there = places(replicas, partition)
        for home in (there, here, there, here):
            replicas.move("t", 0, home.log_dir.path)
            await until(lambda home=home: partition in list(home) and not replicas.mover.moves)
        assert contents(partition) == before
        await acknowledged(partition, produce(partition))

    on_node(tmp_path, test)


def test_producers_and_the_log_start_move_too(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t")
        partition = replicas.leader_of("t", 0)
        await acknowledged(partition, produce(partition, 10))
        partition.log.advance_start(4)
        _, there = places(replicas, partition)
        replicas.move("t", 0, there.log_dir.path)
        await until(lambda: partition in list(there))
        assert partition.log.log_start_offset == 4
        starts = Path(there.log_dir.path, "log-start-offset-checkpoint").read_text()
        assert "t 0 4" in starts.splitlines(), "before the other log went"

    on_node(tmp_path, test)


def test_what_is_refused(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t")
        long = "t" * 249
        await make(controller, long)
        here, there = places(replicas, replicas.leader_of("t", 0))

        def code(topic: str, path: str) -> ErrorCode:
            with pytest.raises(KafkaError) as caught:
                replicas.move(topic, 0, path)
            return caught.value.code

        assert code("t", "elsewhere") == ErrorCode.LOG_DIR_NOT_FOUND
        assert code("u", there.log_dir.path) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert code(long, there.log_dir.path) == ErrorCode.INVALID_TOPIC_EXCEPTION
        await make(controller, "u")
        assert places(replicas, replicas.leader_of("u", 0))[0] is there, "where it was wanted"
        there.go_offline(OSError(5, "Input/output error"))
        assert code("t", there.log_dir.path) == ErrorCode.KAFKA_STORAGE_ERROR
        assert code("u", here.log_dir.path) == ErrorCode.KAFKA_STORAGE_ERROR
        replicas.move("t", 0, here.log_dir.path)
        assert not replicas.mover.moves, "it is there"

    on_node(tmp_path, test)


def test_a_topic_deleted_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_down(monkeypatch, 100, 0)

    async def test(controller: Any, replicas: ReplicaManager) -> None:
        topic = await make(controller, "t")
        partition = replicas.leader_of("t", 0)
        await acknowledged(partition, produce(partition, 50))
        here, there = places(replicas, partition)
        replicas.move("t", 0, there.log_dir.path)
        await until(lambda: any("future" in name for name in names(there)))
        await controller.delete_topic(topic.id)
        await until(lambda: not any("future" in name for name in names(there)))
        assert not replicas.mover.moves
        assert "t-0" not in names(here)

    on_node(tmp_path, test)


def test_a_copy_that_a_stop_left_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow:
        slow_down(slow, 100, 0)

        async def test(controller: Any, replicas: ReplicaManager) -> None:
            await make(controller, "t")
            partition = replicas.leader_of("t", 0)
            await acknowledged(partition, produce(partition, 100))
            _, there = places(replicas, partition)
            replicas.move("t", 0, there.log_dir.path)
            await until(lambda: any("future" in name for name in names(there)))

        on_node(tmp_path, test)
    assert list(tmp_path.glob("d*/t-0.*-future"))

    async def again(controller: Any, replicas: ReplicaManager) -> None:
        partition = replicas.leader_of("t", 0)
        await until(lambda: not replicas.mover.moves)
        assert partition.log.log_end_offset == 100
        assert contents(partition)

    on_node(tmp_path, again)
    assert not list(tmp_path.glob("d*/t-0.*-future"))
    assert len(list(tmp_path.glob("d*/t-0"))) == 1


def test_a_crash_between_the_taking_over_and_the_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both directories hold the partition: the longer log counts."""
    with monkeypatch.context() as patched:
        patched.setattr(mover.Mover, "_flushed", lambda *_: None)

        async def test(controller: Any, replicas: ReplicaManager) -> None:
            await make(controller, "t")
            partition = replicas.leader_of("t", 0)
            await acknowledged(partition, produce(partition, 10))
            _, there = places(replicas, partition)
            replicas.move("t", 0, there.log_dir.path)
            await until(lambda: partition in list(there))
            await acknowledged(partition, produce(partition, 5))

        on_node(tmp_path, test)
    assert len(list(tmp_path.glob("d*/t-0"))) == 2

    async def again(controller: Any, replicas: ReplicaManager) -> None:
        assert replicas.leader_of("t", 0).log.log_end_offset == 15

    on_node(tmp_path, again)
    assert len(list(tmp_path.glob("d*/t-0"))) == 1
    assert len(list(tmp_path.glob("d*/t-0.*-stray"))) == 1


def test_a_source_that_changes_is_copied_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down(monkeypatch, 100, 0)
    made = []
    init = FutureLog.__init__

    def counted(self: FutureLog, *known: Any) -> None:
        made.append(self)
        init(self, *known)

    monkeypatch.setattr(FutureLog, "__init__", counted)

    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t")
        partition = replicas.leader_of("t", 0)
        await acknowledged(partition, produce(partition, 20))
        partition.log.roll(NOW_MS)
        await acknowledged(partition, produce(partition, 20))
        before = contents(partition)
        _, there = places(replicas, partition)
        replicas.move("t", 0, there.log_dir.path)
        await until(lambda: bool(made) and made[0].copied_bytes > 0)
        log = partition.log
        log.is_held = False
        log.advance_start(log.segments[1].base_offset)
        log.drop_retired(1_000, log.log_start_offset)
        monkeypatch.setattr(mover, "STEP_BYTES", 1_000_000)
        await until(lambda: partition in list(there))
        assert len(made) == 2
        assert before.endswith(contents(partition))

    on_node(tmp_path, test)

"""The partitions of a real node: what the image says is served, and what a failed disk takes."""

import asyncio
import errno
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.settings import StartError
from ottla.host.disk import HostDisk
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.replica.manager import ReplicaManager
from ottla.storage.group_opening import GroupOpening
from ottla.storage.log_dir import LogDir
from tests.fuzz.bench import running_node
from tests.fuzz.valid import TOPIC


class Waiter:
    def __init__(self) -> None:
        self.is_closed = False

    def reached(self) -> None:
        raise AssertionError("nothing was flushed")

    def closed(self) -> None:
        self.is_closed = True


def on_node(
    directory: Path, test: Callable[[Any, ReplicaManager], Awaitable[None]], dirs: int = 1
) -> None:
    async def run() -> None:
        paths = ",".join(str(directory / f"d{number}") for number in range(dirs))
        async with running_node(directory, settings={"log.dirs": paths}) as node:
            await test(node.services.controller, node.services.replicas)

    asyncio.run(run())


async def make(controller: Any, name: str, partitions: int = 1, **configs: str) -> Any:
    return await controller.create_topic(
        name, partitions=partitions, replication_factor=1, configs=configs
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def refusal(replicas: ReplicaManager, topic: Any, index: int) -> int:
    with pytest.raises(KafkaError) as caught:
        replicas.leader_of(topic, index)
    return caught.value.code


def test_partitions_are_found_by_name_and_by_id(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        topic = await make(controller, "t", 3)
        for index in range(3):
            partition = replicas.leader_of("t", index)
            assert replicas.leader_of(topic.id, index) is partition
            assert (partition.topic, partition.index) == ("t", index)
        assert refusal(replicas, "t", 3) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert refusal(replicas, "t", -1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert refusal(replicas, topic.id, 3) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert refusal(replicas, "u", 0) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert refusal(replicas, bytes(16), 0) == ErrorCode.UNKNOWN_TOPIC_ID

    on_node(tmp_path, test)


def test_a_deleted_topic_is_gone_and_its_waiters_are_told(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        topic = await make(controller, "t")
        partition = replicas.leader_of("t", 0)
        waiter = Waiter()
        partition.wait_for_offset(1, waiter)
        await controller.delete_topic(topic.id)
        assert waiter.is_closed
        assert refusal(replicas, "t", 0) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert refusal(replicas, topic.id, 0) == ErrorCode.UNKNOWN_TOPIC_ID
        assert partition not in list(replicas)
        again = await make(controller, "t")
        assert again.id != topic.id
        assert replicas.leader_of("t", 0) is not partition

    on_node(tmp_path, test)


def test_new_logs_go_where_the_fewest_are(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 6)
        counts = [len(directory) for directory in replicas.directories]
        assert max(counts) - min(counts) <= 1

    on_node(tmp_path, test, dirs=3)


def test_a_directory_that_fails_goes_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 4)
        failed, sound = replicas.directories
        failed.go_offline(OSError(5, "Input/output error"))
        failed.go_offline(OSError(5, "Input/output error"))
        assert {p.refusal for p in failed} == {ErrorCode.KAFKA_STORAGE_ERROR}
        assert {p.refusal for p in sound} == {ErrorCode.NONE}
        codes = [refusal(replicas, p.topic, p.index) for p in failed]
        assert set(codes) == {ErrorCode.KAFKA_STORAGE_ERROR}
        before = len(failed)
        await make(controller, "u", 2)
        assert len(failed) == before
        replicas.clean_up()
        replicas.write_checkpoints()

    on_node(tmp_path, test, dirs=2)
    lines = [text for text in caplog.messages if "goes offline" in text]
    assert len(lines) == 1
    assert "d0" in lines[0]


def test_a_topic_made_while_there_is_no_room_is_served_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ottla.replica.directory.RETRY_S", 0.01)
    tries = []

    async def test(controller: Any, replicas: ReplicaManager) -> None:
        make_directory = HostDisk.make_directory

        def full(disk: HostDisk, path: str) -> None:
            tries.append(path)
            raise OSError(errno.ENOSPC, "No space left on device", path)

        with monkeypatch.context() as patched:
            patched.setattr(HostDisk, "make_directory", full)
            topic = await make(controller, "t", 2)
            doomed = await make(controller, "u")
            assert refusal(replicas, "t", 1) == ErrorCode.KAFKA_STORAGE_ERROR
            assert refusal(replicas, topic.id, 1) == ErrorCode.KAFKA_STORAGE_ERROR
            await until(lambda: len(tries) > 6)
            await controller.delete_topic(doomed.id)
        assert HostDisk.make_directory is make_directory
        await until(lambda: not replicas._waiting)
        assert replicas.leader_of("t", 1) is replicas.leader_of(topic.id, 1)
        assert refusal(replicas, "u", 0) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    on_node(tmp_path, test)
    assert len([text for text in caplog.messages if "refused or put off" in text]) == 1
    assert len([text for text in caplog.messages if "t-0 is not served" in text]) == 1


def test_a_log_that_is_still_to_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node serves what is ready; a topic deleted meanwhile is deleted when it can be."""

    async def first(controller: Any, replicas: ReplicaManager) -> None:
        for name in ("slow", "deleted", "again"):
            await make(controller, name)

    on_node(tmp_path, first)
    monkeypatch.setattr("ottla.broker.node.SERVE_AFTER_S", 0.0)
    may_go_on = threading.Event()
    open_group = GroupOpening.open

    def slowly(self: GroupOpening, wanted: Any) -> Any:
        may_go_on.wait(60)
        return open_group(self, wanted)

    monkeypatch.setattr(GroupOpening, "open", slowly)

    async def second(controller: Any, replicas: ReplicaManager) -> None:
        try:
            assert refusal(replicas, "slow", 0) == ErrorCode.NOT_LEADER_OR_FOLLOWER
            await make(controller, "new")
            assert replicas.leader_of("new", 0)
            image = replicas._image
            assert image is not None
            await controller.delete_topic(image.topics["deleted"].id)
            await controller.delete_topic(image.topics["again"].id)
            topic = await make(controller, "again")
            assert refusal(replicas, "again", 0) == ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert refusal(replicas, "deleted", 0) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        finally:
            may_go_on.set()
        await until(lambda: not replicas._waiting)
        assert replicas.leader_of("slow", 0)
        assert replicas.leader_of("again", 0) is replicas.leader_of(topic.id, 0)
        names = [path.name.partition(".")[0] for path in tmp_path.glob("d0/*-0*")]
        counts = [names.count(f"{name}-0") for name in ("slow", "new", "deleted", "again")]
        assert counts == [1, 1, 1, 2], "what is deleted lies about for its delay"

    on_node(tmp_path, second)


@pytest.mark.parametrize("place", ["survey", "open"])
def test_a_directory_that_fails_while_it_is_opened(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    homes: dict[str, list[int]] = {}

    async def first(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 4)
        for directory in replicas.directories:
            name = Path(directory.log_dir.path).name
            homes[name] = [each.index for each in directory if each.topic == "t"]

    on_node(tmp_path, first, dirs=2)
    owner: Any = LogDir if place == "survey" else GroupOpening
    with monkeypatch.context() as patched:
        patched.setattr(owner, place, failing_in("d1", getattr(owner, place)))

        async def second(controller: Any, replicas: ReplicaManager) -> None:
            assert all(replicas.leader_of("t", index) for index in homes["d0"])
            codes = {refusal(replicas, "t", index) for index in homes["d1"]}
            assert codes == {ErrorCode.KAFKA_STORAGE_ERROR}
            assert not [name for index in homes["d1"] for name in tmp_path.glob(f"d0/t-{index}")]
            await make(controller, "new", 2)
            assert replicas.leader_of("new", 1)

        on_node(tmp_path, second, dirs=2)

    async def third(controller: Any, replicas: ReplicaManager) -> None:
        assert all(replicas.leader_of("t", index) for index in range(4))

    on_node(tmp_path, third, dirs=2)


def test_a_start_without_any_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(controller: Any, replicas: ReplicaManager) -> None:
        pass

    on_node(tmp_path, nothing, dirs=2)

    def failing(self: Any, argument: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error", self.path)

    monkeypatch.setattr(LogDir, "survey", failing)
    with pytest.raises(StartError, match="d0 cannot be used: Input/output error"):
        on_node(tmp_path, nothing, dirs=2)


def test_configs_reach_partitions_and_logs(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 1, **{"segment.bytes": "1048577", "cleanup.policy": "compact"})
        partition = replicas.leader_of("t", 0)
        assert partition.log.config.segment_bytes == 1_048_577
        assert partition.rules.compacted
        assert not partition.log.config.is_deleted_by_retention
        assert replicas.leader_of(TOPIC, 0).log.config.is_deleted_by_retention

    on_node(tmp_path, test)


def test_what_is_dirty_is_flushed_once_at_the_end_of_the_turn(tmp_path: Path) -> None:
    async def test(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 2)
        [directory] = replicas.directories
        first, second = (replicas.leader_of("t", index) for index in range(2))
        for partition in (first, second, first):
            directory.mark_dirty(partition.log)
        assert directory.is_kick_due
        await asyncio.sleep(0)
        assert not directory.is_kick_due

    on_node(tmp_path, test)


def test_a_topic_made_anew_while_the_directory_of_its_namesake_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back with the directory is the deleted topic's, however long it is."""
    homes: dict[int, str] = {}

    async def first(controller: Any, replicas: ReplicaManager) -> None:
        await make(controller, "t", 2)
        for directory in replicas.directories:
            for each in [each for each in directory if each.topic == "t"]:
                homes[each.index] = Path(directory.log_dir.path).name
                for _ in range(5):
                    each.append_own(own_batch(), 1)

    on_node(tmp_path, first, dirs=2)
    [away] = [index for index, home in homes.items() if home == "d1"]

    async def second(controller: Any, replicas: ReplicaManager) -> None:
        assert replicas._image is not None
        await controller.delete_topic(replicas._image.topics["t"].id)
        await make(controller, "t", 2)
        replicas.leader_of("t", away).append_own(own_batch(), 1)

    with monkeypatch.context() as patched:
        patched.setattr(LogDir, "survey", failing_in("d1", LogDir.survey))
        on_node(tmp_path, second, dirs=2)

    async def third(controller: Any, replicas: ReplicaManager) -> None:
        assert replicas.leader_of("t", away).log.log_end_offset == 1

    for _ in range(2):
        on_node(tmp_path, third, dirs=2)


def own_batch() -> bytearray:
    return build_batch([Record(0, 1, None, b"v")])


def failing_in(name: str, sound: Any) -> Any:
    def failing(self: Any, argument: Any) -> Any:
        if self.path.endswith(name):
            raise OSError(errno.EIO, "Input/output error", self.path)
        return sound(self, argument)

    return failing


def test_files_of_what_was_deleted_go_on_a_helper_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 1 GiB takes a third of a second. What there is no descriptor for comes again."""
    threads: list[threading.Thread] = []
    errors = [OSError(errno.EMFILE, "Too many open files")]
    remove_directory, remove = HostDisk.remove_directory, HostDisk.remove

    def removing(self: HostDisk, path: str) -> None:
        threads.append(threading.current_thread())
        if errors:
            raise errors.pop()
        remove_directory(self, path)

    def removing_file(self: HostDisk, path: str) -> None:
        if path.endswith(".log.deleted"):
            threads.append(threading.current_thread())
        remove(self, path)

    monkeypatch.setattr(HostDisk, "remove_directory", removing)
    monkeypatch.setattr(HostDisk, "remove", removing_file)

    async def test(controller: Any, replicas: ReplicaManager) -> None:
        [directory] = replicas.directories
        at_once = {"file.delete.delay.ms": "0"}
        kept = await make(controller, "kept", **at_once)
        topic = await make(controller, "t", **at_once)
        partition = replicas.leader_of(kept.id, 0)
        partition.append_own(own_batch(), 1)
        await until(lambda: partition.high_watermark == 1)
        partition.log.advance_start(1)
        replicas.clean_up()  # rolls
        await until(lambda: not partition.log.has_retired)
        await controller.delete_topic(topic.id)
        for _ in range(2):
            assert directory.removing is None
            replicas.clean_up()
            assert directory.removing is not None
            replicas.clean_up()  # one after the other
            await directory.removing
        assert not list(tmp_path.glob("d0/t-0*"))
        assert not list(tmp_path.glob("d0/kept-0/*.deleted"))
        assert not directory.log_dir.is_offline

    on_node(tmp_path, test)
    assert len(threads) >= 3
    assert threading.main_thread() not in threads

import errno
import os
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from ottla.base.disk_errors import SyncError
from ottla.storage.flusher import Flusher
from ottla.storage.log import Log
from ottla.storage.unflushed import FlushWork

from .makers import append, batch_of, make_log
from .memory_disk import MemoryDisk, MemoryFile


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_ms(self) -> int:
        return 1_000


class Offload:
    """Holds calls back until `run`; each costs what `seconds` says of it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waiting: list[Callable[[], None]] = []

    def submit(self, call, done) -> None:  # type: ignore[no-untyped-def]
        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                done(None, error)
            else:
                done(result, None)

        self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Setting:
    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk
        self.clock = Clock()
        self.offload = Offload(self.clock)
        self.flushed: list[list[Log]] = []
        self.errors: list[OSError] = []
        self.shortages: list[OSError] = []
        self.flusher = Flusher(
            disk,
            self.offload,
            self.clock,
            on_flushed=self.flushed.append,
            on_offline=self.errors.append,
            on_shortage=self.shortages.append,
        )

    def log(self, partition: int) -> Log:
        return make_log(self.disk, directory=f"data/orders-{partition}")

    def append(self, log: Log) -> None:
        append(log, batch_of(2))
        self.flusher.mark_dirty(log)


@pytest.fixture
def setting(disk: MemoryDisk) -> Setting:
    return Setting(disk)


def test_a_round_takes_what_is_dirty_when_it_starts(setting: Setting) -> None:
    first, second = setting.log(0), setting.log(1)
    setting.append(first)
    setting.flusher.kick()
    setting.append(first)
    setting.append(second)
    setting.flusher.kick()
    assert setting.flusher.round_count == 1, "one round at a time"
    while setting.flusher.round_count == 1:
        setting.offload.waiting.pop(0)()
    assert (first.flushed_end_offset, second.flushed_end_offset) == (2, 0)
    assert setting.flushed == [[first]]
    setting.offload.run()
    assert (first.flushed_end_offset, second.flushed_end_offset) == (4, 2)
    assert setting.flushed == [[first], [first, second]]
    assert setting.flusher.is_idle


def test_contents_are_synced_before_names_and_epochs_before_the_reply(setting: Setting) -> None:
    log = setting.log(0)
    setting.append(log)
    setting.disk.calls.clear()
    setting.flusher.kick()
    setting.offload.run()
    calls = [call for call in setting.disk.calls if call[0] in ("sync", "rename", "sync_directory")]
    directory = "data/orders-0"
    assert calls == [
        ("sync", f"{directory}/00000000000000000000.log"),
        ("sync", f"{directory}/leader-epoch-checkpoint.tmp"),
        ("rename", f"{directory}/leader-epoch-checkpoint.tmp"),
        ("sync_directory", directory),
        ("sync_directory", "data"),
    ]
    setting.append(log)
    setting.disk.calls.clear()
    setting.flusher.kick()
    setting.offload.run()
    assert [name for name, _ in setting.disk.calls] == ["sync"]


def test_many_files_are_synced_with_their_file_system(setting: Setting) -> None:
    logs = [setting.log(partition) for partition in range(50)]
    for log in logs:
        setting.append(log)
    setting.flusher.kick()
    setting.offload.run()
    names = [name for name, _ in setting.disk.calls]
    assert names.count("sync_file_system") == 2, "once for contents, once for renamed checkpoints"
    assert "sync" not in names
    assert all(log.flushed_end_offset == 2 for log in logs)


def test_without_syncfs_each_file_is_synced(setting: Setting) -> None:
    setting.disk.has_sync_file_system = False
    logs = [setting.log(partition) for partition in range(50)]
    for _ in range(2):
        for log in logs:
            setting.append(log)
        setting.disk.calls.clear()
        setting.flusher.kick()
        setting.offload.run()
        synced = {path for name, path in setting.disk.calls if name == "sync"}
        assert {log.active.path for log in logs} <= synced
    assert not setting.errors
    assert all(log.flushed_end_offset == 4 for log in logs)


def test_the_cheaper_way_is_found(setting: Setting) -> None:
    costs = setting.flusher.costs
    assert costs.prefers_whole(100)
    for _ in range(30):
        costs.saw_whole(1.0)
    assert not costs.prefers_whole(100)
    for _ in range(400):
        costs.saw_each(0.01, 100)
    assert costs.prefers_whole(100), "what was not tried for long is tried again"
    costs.has_no_whole()
    costs.saw_each(0.01, 100)
    assert not costs.prefers_whole(1_000_000)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_failed_sync_is_final(setting: Setting, at: int) -> None:
    first, second = setting.log(0), setting.log(1)
    for log in (first, second):
        setting.append(log)
    setting.flusher.kick()
    setting.append(first)
    setting.disk.fail_at(at)
    setting.offload.run()
    assert len(setting.errors) == 1
    assert setting.flusher.is_offline
    assert (first.flushed_end_offset, second.flushed_end_offset) == (0, 0)
    calls = len(setting.disk.calls)
    setting.flusher.mark_dirty(first)
    setting.flusher.kick()
    setting.offload.run()
    assert len(setting.disk.calls) == calls
    assert not setting.flushed
    assert setting.flusher.is_idle


def test_a_log_deleted_under_a_round_does_no_harm(setting: Setting) -> None:
    log = setting.log(0)
    setting.append(log)
    setting.flusher.kick()
    setting.disk.rename("data/orders-0", "data/gone")
    setting.offload.run()
    assert not setting.errors
    assert log.flushed_end_offset == 2


def test_rolled_segments_are_synced_with_their_indexes(setting: Setting) -> None:
    log = setting.log(0)
    while len(log.segments) < 3:
        setting.append(log)
    setting.disk.has_sync_file_system = False
    setting.flusher.kick()
    setting.offload.run()
    synced = [path.rpartition("/")[2] for name, path in setting.disk.calls if name == "sync"]
    for segment in log.segments[:2]:
        stem = f"{segment.base_offset:020d}"
        assert {f"{stem}.log", f"{stem}.index", f"{stem}.timeindex"} <= set(synced)
        assert segment.is_sealed
        assert segment.index.file is None


def test_when_idle(setting: Setting) -> None:
    told: list[int] = []
    setting.flusher.when_idle(lambda: told.append(1))
    assert told == [1]
    setting.append(setting.log(0))
    setting.flusher.when_idle(lambda: told.append(2))
    assert told == [1]
    setting.offload.run()
    assert told == [1, 2]


# --- shortages


def short(code: int = errno.ENOSPC) -> OSError:
    return OSError(code, os.strerror(code))


def test_a_log_for_which_there_is_no_room_waits_and_the_others_go_on(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = setting.log(0), setting.log(1)
    setting.append(first)
    setting.append(second)
    with monkeypatch.context() as full:
        begin = Log.begin_flush

        def refused(log: Log) -> FlushWork:
            if log is first:
                raise short()
            return begin(log)

        full.setattr(Log, "begin_flush", refused)
        setting.flusher.kick()
        setting.offload.run()
    assert (first.flushed_end_offset, second.flushed_end_offset) == (0, 2)
    assert [error.errno for error in setting.shortages] == [errno.ENOSPC]
    assert not setting.flusher.is_idle
    setting.flusher.retry()
    setting.offload.run()
    assert first.flushed_end_offset == 2
    assert setting.flusher.is_idle
    assert not setting.errors


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.EDQUOT])
@pytest.mark.parametrize("has_sync_file_system", [True, False])
def test_a_round_short_of_something_is_tried_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, code: int, has_sync_file_system: bool
) -> None:
    setting.disk.has_sync_file_system = has_sync_file_system
    logs = [setting.log(partition) for partition in range(6)]
    for call in ("open", "rename"):
        for log in logs:
            setting.append(log)
            log.epochs.is_dirty = True  # a file to replace
        with monkeypatch.context() as full:
            setting.flusher.kick()
            full.setattr(setting.disk, call, Mock(side_effect=short(code)))
            setting.offload.run()
        assert setting.shortages.pop().errno == code
        assert all(log.flushed_end_offset < log.log_end_offset for log in logs)
        rounds = setting.flusher.round_count
        setting.flusher.kick()
        assert setting.flusher.round_count == rounds, "no later round begins"
        setting.flusher.retry()
        setting.offload.run()
        assert all(log.flushed_end_offset == log.log_end_offset for log in logs)
        for log in logs:
            assert f"{log.directory}/leader-epoch-checkpoint" in setting.disk.files
    assert not setting.errors


def test_a_sync_that_fails_for_want_of_room_is_final(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.append(setting.log(0))
    failed = SyncError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(MemoryFile, "sync", Mock(side_effect=failed))
    setting.flusher.kick()
    setting.offload.run()
    assert setting.errors == [failed]
    assert not setting.shortages


def test_a_failed_sync_is_not_hidden_by_a_shortage(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of one round: the one met no room, the other the end of the disk."""
    setting.append(setting.log(0))
    setting.flusher.kick()
    with monkeypatch.context() as failing:
        failing.setattr(setting.disk, "open", Mock(side_effect=short()))
        setting.offload.waiting.reverse()  # the replacement first
        failing.setattr(MemoryFile, "sync", Mock(side_effect=SyncError(errno.EIO, "EIO")))
        setting.offload.run()
    assert [error.errno for error in setting.errors] == [errno.EIO]


def test_a_stop_gives_up_what_there_is_no_room_for(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = setting.log(0)
    setting.append(log)
    setting.flusher.kick()
    monkeypatch.setattr(setting.disk, "rename", Mock(side_effect=short()))
    setting.offload.run()
    told: list[bool] = []
    setting.flusher.when_idle(lambda: told.append(True))
    setting.offload.run()
    assert told
    assert setting.flusher.has_given_up
    assert log.flushed_end_offset == 0


def test_a_replacement_never_lands_in_the_directory_of_a_namesake(setting: Setting) -> None:
    old = setting.log(0)
    old.name_topic(b"old")
    setting.append(old)
    setting.flusher.kick()
    setting.disk.rename("data/orders-0", "data/gone")
    old.move("data/gone")
    setting.disk.make_directory("data/orders-0")
    new = make_log(setting.disk, directory="data/orders-0")
    new.name_topic(b"new")
    setting.offload.run()
    assert "data/orders-0/partition.metadata" not in setting.disk.files
    assert "data/orders-0/leader-epoch-checkpoint" not in setting.disk.files
    setting.append(new)
    setting.flusher.kick()
    setting.offload.run()
    assert setting.disk.files["data/orders-0/partition.metadata"] == b"new"

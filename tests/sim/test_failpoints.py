"""Failpoints: each call of a disk has a name, and a plan does at it what it says."""

import errno
import inspect
import logging
import random
from collections import Counter

import pytest

from ottla.base.world import Disk, File
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.failpoints import (
    CALLS,
    KINDS,
    POINTS,
    FailDisk,
    Plan,
    parse_plan,
    point_of,
    told,
)
from ottla.sim.faults import Operation
from ottla.sim.trace import Trace

LOG = "d/t-0/00000000000000000007.log"


class Killed(BaseException):
    pass


def kill() -> None:
    raise Killed


def disk_with(text: str, drive: Drive | None = None, slept: list[float] | None = None) -> FailDisk:
    inner = SimDisk(drive or Drive(), random.Random(1), Trace(lambda: 0.0))
    waits: list[float] = [] if slept is None else slept
    return FailDisk(inner, Plan(parse_plan(text), kill=kill, sleep=waits.append))


@pytest.mark.parametrize(
    ("operation", "path", "name"),
    [
        ("pwrite", LOG, "log.write"),
        ("open", "00000000000000000007.index", "index.open"),
        ("truncate", "d/t-0/00000000000000000007.timeindex", "timeindex.truncate"),
        ("pwrite", "d/t-0/00000000000000000007.snapshot", "snapshot.write"),
        ("remove", LOG + ".deleted", "log-deleted.remove"),
        ("rename", LOG + ".swap", "log-swap.rename"),
        ("sync", "d/t-0/00000000000000000007.txnindex.cleaned", "txnindex-cleaned.sync"),
        ("rename", "d/recovery-point-offset-checkpoint.tmp", "recovery-points.rename"),
        ("sync", "d/replication-offset-checkpoint.next", "high-watermarks.sync"),
        ("pwrite", "d/t-0/partition.metadata.tmp", "partition-metadata.write"),
        ("make_directory", "d/t-0", "partition.make"),
        ("rename", "d/t-0", "partition.rename"),
        ("remove_directory", f"d/t-0.{'0a' * 16}-delete", "partition-delete.remove"),
        ("rename", f"d/t-0.{'0a' * 16}-future", "partition-future.rename"),
        ("sync_directory", "d", "directory.sync"),
        ("sync_file_system", "", "file-system.sync"),
        ("lock", "d/.lock", "lock.lock"),
        ("open", "d/notes.txt", "other.open"),
    ],
)
def test_the_name_of_a_call(operation: Operation, path: str, name: str) -> None:
    assert point_of(operation, path) == name
    assert name in POINTS


def test_every_call_on_every_kind_of_path_is_in_the_list() -> None:
    """A directory's call on what looks like a file, and the other way round, excepted."""
    for name in ["00000000000000000001.log", "meta.properties", "any", "t-0", "d"]:
        for operation in CALLS:
            point = point_of(operation, name)
            if operation in ("lock", "sync_file_system"):
                assert point in POINTS
                continue
            kind, _, call = point.partition(".")
            assert kind in KINDS, point
            assert call in CALLS.values(), point


def use_everything(disk: FailDisk) -> None:
    disk.make_directory("d/t-0")
    lock = disk.lock("d/.lock")
    lock.release()
    file = disk.open(LOG, create=True)
    file.pwrite(b"abc", 0)
    assert file.pread(3, 0) == b"abc"
    file.truncate(2)
    file.sync()
    file.map()
    file.read_ahead(0, 2)
    disk.sync_file_system(file)
    file.close()
    disk.list_directory("d/t-0")
    disk.rename(LOG, LOG + ".deleted")
    disk.remove(LOG + ".deleted")
    disk.sync_directory("d")
    disk.remove_directory("d/t-0")


def test_no_call_of_a_disk_goes_by_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        use_everything(disk_with("*:1+:log"))
    hit = [record.getMessage().removeprefix("failpoint ") for record in caplog.records]
    assert hit == [
        "partition.make",
        "lock.lock",
        "log.open",
        "log.write",
        "log.read",
        "log.truncate",
        "log.sync",
        "log.map",
        "log.read-ahead",
        "file-system.sync",
        "partition.list",
        "log.rename",
        "log-deleted.remove",
        "directory.sync",
        "partition.remove",
    ]
    without = {
        *("exists", "is_directory", "size", "usage", "open_files_max"),
        *("path", "is_resident", "fileno", "close"),
    }
    methods = [name for each in (Disk, File) for name in vars(each) if not name.startswith("_")]
    assert len(hit) == len([name for name in methods if name not in without])


def test_the_disk_has_the_shape_of_a_disk() -> None:
    for protocol, twin in (
        (Disk, FailDisk),
        (File, type(disk_with("*:1:log").open("a", create=True))),
    ):
        for name, method in vars(protocol).items():
            if not name.startswith("_") and inspect.isfunction(method):
                mine = inspect.signature(getattr(twin, name)).parameters
                assert list(mine) == list(inspect.signature(method).parameters), name


def test_the_nth_hit_alone_fails() -> None:
    disk = disk_with("log.write:2:EIO")
    disk.make_directory("d/t-0")
    file = disk.open(LOG, create=True)
    file.pwrite(b"a", 0)
    with pytest.raises(OSError, match="planted") as caught:
        file.pwrite(b"b", 1)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, LOG)
    assert file.size() == 1
    file.pwrite(b"b", 1)


def test_from_the_nth_on_all_fail_and_others_do_not() -> None:
    disk = disk_with("log.sync:2+:ENOSPC,index.open:1+:EIO")
    disk.make_directory("d/t-0")
    file = disk.open(LOG, create=True)
    file.sync()
    for _ in range(3):
        with pytest.raises(OSError, match="planted"):
            file.sync()
    with pytest.raises(OSError, match="planted"):
        disk.open("d/t-0/00000000000000000007.index", create=True)


def test_a_short_write_leaves_half() -> None:
    disk = disk_with("log.write:1:short")
    disk.make_directory("d/t-0")
    file = disk.open(LOG, create=True)
    with pytest.raises(OSError, match="planted") as caught:
        file.pwrite(b"abcd", 0)
    assert caught.value.errno == errno.ENOSPC
    assert file.pread(9, 0) == b"ab"


def test_kill_stands_before_the_call_and_kill_after_behind_it() -> None:
    for action, is_there in (("kill", False), ("kill-after", True)):
        drive = Drive()
        disk = disk_with(f"log.open:1:{action}", drive)
        disk.make_directory("d/t-0")
        with pytest.raises(Killed):
            disk.open(LOG, create=True)
        assert (drive.find(LOG) is not None) is is_there


def test_a_delay_waits_and_then_does_it() -> None:
    slept: list[float] = []
    disk = disk_with("log.write:1+:delay:250", slept=slept)
    disk.make_directory("d/t-0")
    disk.open(LOG, create=True).pwrite(b"a", 0)
    assert slept == [0.25]
    assert disk.size(LOG) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("log.wriet:1:kill", "no failpoint is called 'log.wriet'"),
        ("", "no failpoint is called ''"),
        ("log.write", "is not NAME:N:ACTION"),
        ("log.write:kill", "is not NAME:N:ACTION"),
        ("log.write:0:kill", "'0' of log.write is no count"),
        ("log.write:-1:kill", "no count"),
        ("log.write:x:kill", "no count"),
        ("log.write:1:explode", "no action is called 'explode'"),
        ("log.write:1:errno", "no action"),
        ("log.write:1:EWHAT", "no action"),
        ("log.write:1:delay", "no action"),
        ("log.write:1:delay:x", "no action"),
        ("log.write:1:kill:3", "no action"),
        ("log.sync:1:short", "writes nothing"),
        ("log.write:1:kill,", "no failpoint is called ''"),
    ],
)
def test_what_is_no_plan_is_told_in_a_line(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_plan(text)
    assert "\n" not in str(caught.value)


def test_the_list_tells_all_of_them() -> None:
    hits = Counter({"log.write": 12, "file-system.sync": 3})
    text = told(hits)
    for kind in KINDS:
        assert f"\n{kind:18} " in text
    assert "write 12" in text
    assert text.endswith(f"{len(POINTS)} failpoints, 2 of them hit")

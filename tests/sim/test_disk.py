import errno
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.world import Disk
from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Directory, Drive
from ottla.sim.faults import Fault
from ottla.sim.trace import Trace

LOSSY = [CrashMode.DROP, CrashMode.TEAR, CrashMode.FULL]


def disk_of(drive: Drive) -> SimDisk:
    return SimDisk(drive, random.Random(7), Trace(lambda: 0.0))


def put(disk: Disk, path: str, data: bytes, *, sync: bool = True) -> None:
    file = disk.open(path, create=True)
    file.truncate(0)
    file.pwrite(data, 0)
    if sync:
        file.sync()
    file.close()


def get(drive: Drive, path: str) -> bytes | None:
    disk = disk_of(drive)
    return disk.open(path).pread(1 << 20, 0) if disk.exists(path) else None


def images(drive: Drive, mode: CrashMode, count: int = 60) -> list[Drive]:
    found = []
    for seed in range(count):
        image = drive.clone()
        image.power_cut(random.Random(seed), mode)
        found.append(image)
    return found


def tree(directory: Directory, at: str = "") -> dict[str, bytes | None]:
    """All names below, live: content of a file, None for a directory."""
    found: dict[str, bytes | None] = {}
    for name, node in sorted(directory.live.items()):
        if isinstance(node, Directory):
            found[f"{at}/{name}"] = None
            found.update(tree(node, f"{at}/{name}"))
        else:
            found[f"{at}/{name}"] = bytes(node.live)
    return found


# ---- as a file system


def test_files_and_directories() -> None:
    disk = disk_of(Drive())
    disk.make_directory("a/b")
    disk.make_directory("a/b")
    put(disk, "a/b/two", b"22")
    put(disk, "/a/b/one", b"1")
    assert disk.list_directory("a/b") == ["one", "two"]
    assert disk.size("a/b/two") == 2
    assert disk.is_directory("a") and not disk.is_directory("a/b/one")
    disk.rename("a/b/two", "a/b/one")
    assert disk.open("a/b/one").pread(10, 0) == b"22"
    disk.rename("a/b", "c")
    assert disk.list_directory("c") == ["one"] and not disk.exists("a/b")
    disk.remove_directory("c")
    assert not disk.exists("c")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda disk: disk.open("no"), errno.ENOENT),
        (lambda disk: disk.open("no/file", create=True), errno.ENOENT),
        (lambda disk: disk.open("directory"), errno.EISDIR),
        (lambda disk: disk.remove("no"), errno.ENOENT),
        (lambda disk: disk.rename("no", "yes"), errno.ENOENT),
        (lambda disk: disk.list_directory("file"), errno.ENOTDIR),
        (lambda disk: disk.make_directory("file/below"), errno.EEXIST),
        (lambda disk: disk.open("file", read_only=True).pwrite(b"x", 0), errno.EBADF),
    ],
)
def test_calls_fail_as_a_file_system_does(call: Callable[[Disk], object], code: int) -> None:
    disk = disk_of(Drive())
    disk.make_directory("directory")
    put(disk, "file", b"")
    with pytest.raises(OSError) as caught:
        call(disk)
    assert caught.value.errno == code
    assert caught.value.filename


def test_reads_end_with_the_file_and_writes_fill_holes_with_zeros() -> None:
    file = disk_of(Drive()).open("f", create=True)
    file.pwrite(memoryview(b"end"), 5)
    assert file.pread(100, 3) == b"\0\0end"
    assert file.pread(5, 100) == b""
    assert file.size() == 8
    file.close()
    with pytest.raises(OSError):
        file.size()


# ---- power cuts


@pytest.mark.parametrize("mode", LOSSY)
def test_what_was_synced_with_its_name_is_always_there(mode: CrashMode) -> None:
    drive = Drive()
    disk = disk_of(drive)
    disk.make_directory("d")
    disk.sync_directory("/")
    put(disk, "d/f", b"durable" * 200)
    disk.sync_directory("d")
    disk.open("d/f").pwrite(b"x" * 5_000, 1_400)
    put(disk, "d/other", b"new")
    found = {get(image, "d/f") for image in images(drive, mode)}
    assert all(data is not None and data.startswith(b"durable" * 200) for data in found)
    assert len(found) > 1, "what was not synced is sometimes there and sometimes not"
    assert {get(image, "d/other") for image in images(drive, mode)} == {None, b"new"}


def test_a_synced_file_without_a_synced_name_may_be_gone() -> None:
    drive = Drive()
    put(disk_of(drive), "f", b"data")
    assert {get(image, "f") for image in images(drive, CrashMode.DROP)} == {None, b"data"}


@pytest.mark.parametrize("mode", LOSSY)
def test_a_rename_is_all_or_nothing(mode: CrashMode) -> None:
    drive = Drive()
    disk = disk_of(drive)
    put(disk, "checkpoint", b"old")
    disk.sync_directory("/")
    put(disk, "checkpoint.tmp", b"new")
    disk.rename("checkpoint.tmp", "checkpoint")
    trees = [tree(image.root) for image in images(drive, mode)]
    assert {t["/checkpoint"] for t in trees} == {b"old", b"new"}
    for t in trees:
        assert not (t["/checkpoint"] == b"new" and "/checkpoint.tmp" in t)
    disk.sync_directory("/")
    assert all(tree(i.root) == {"/checkpoint": b"new"} for i in images(drive, mode))


def test_rename_without_sync_of_the_content_can_leave_an_empty_file() -> None:
    drive = Drive()
    disk = disk_of(drive)
    put(disk, "checkpoint.tmp", b"new", sync=False)
    disk.rename("checkpoint.tmp", "checkpoint")
    disk.sync_directory("/")
    assert b"" in {get(image, "checkpoint") for image in images(drive, CrashMode.DROP)}


def test_a_directory_without_a_synced_name_takes_its_files_along() -> None:
    drive = Drive()
    disk = disk_of(drive)
    disk.make_directory("log")
    put(disk, "log/f", b"data")
    disk.sync_directory("log")
    assert {get(image, "log/f") for image in images(drive, CrashMode.DROP)} == {None, b"data"}


def test_syncing_one_directory_of_a_rename_settles_both() -> None:
    drive = Drive()
    disk = disk_of(drive)
    for name in ("from", "to"):
        disk.make_directory(name)
    disk.sync_directory("/")
    put(disk, "from/f", b"data")
    disk.rename("from/f", "to/f")
    disk.sync_directory("to")
    for image in images(drive, CrashMode.FULL):
        assert tree(image.root) == {"/from": None, "/to": None, "/to/f": b"data"}


def test_sync_file_system_settles_everything() -> None:
    drive = Drive()
    disk = disk_of(drive)
    disk.make_directory("a/b")
    put(disk, "a/b/f", b"data", sync=False)
    disk.sync_file_system(disk.open("a/b/f"))
    for image in images(drive, CrashMode.FULL):
        assert get(image, "a/b/f") == b"data"


names = st.sampled_from(["a", "b", "c", "d/a", "d/b", "e/a", "e", "d"])
calls = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, names),
        st.tuples(st.just("rename"), names, names),
        st.tuples(st.just("remove"), names, names),
        st.tuples(st.just("make"), names, names),
        st.tuples(st.just("remove_directory"), names, names),
        st.tuples(st.just("sync"), names, names),
        st.tuples(st.just("sync_all"), names, names),
    ),
    max_size=25,
)


@given(calls, st.integers(0, 1 << 32), st.sampled_from(CrashMode))
def test_names_never_double_and_synced_ones_stay(
    script: list[tuple[str, str, str]], seed: int, mode: CrashMode
) -> None:
    """Each put writes a text of its own: no two names may hold the same one afterwards."""
    drive = Drive()
    disk = disk_of(drive)
    disk.make_directory("d")
    disk.make_directory("e")
    for number, (kind, one, two) in enumerate(script):
        try:
            if kind == "put":
                put(disk, one, b"text %d" % number)
            elif kind == "rename" and not two.startswith(f"{one}/"):
                disk.rename(one, two)
            elif kind == "remove":
                disk.remove(one)
            elif kind == "make":
                disk.make_directory(one)
            elif kind == "remove_directory":
                disk.remove_directory(one)
            elif kind == "sync":
                disk.sync_directory(one)
            elif kind == "sync_all":
                drive.sync_all()
        except OSError:
            continue
    live = tree(drive.root)
    image = drive.clone()
    assert tree(image.root) == live, "a clone is alike"
    quiet = not drive.journal
    image.power_cut(random.Random(seed), mode)
    after = tree(image.root)
    texts = [text for text in after.values() if text]
    assert len(texts) == len(set(texts)), "one file, one name"
    assert tree(drive.root) == live, "a clone's crash does not touch the run"
    if mode is CrashMode.NONE or quiet:
        assert after == live
    again = drive.clone()
    again.power_cut(random.Random(seed), mode)
    assert tree(again.root) == after, "the same seed, the same image"


# ---- life and death, locks, the cache


def test_after_death_every_call_fails_but_close() -> None:
    drive = Drive()
    disk = disk_of(drive)
    file = disk.open("f", create=True)
    disk.lock("lock")
    with pytest.raises(BlockingIOError):
        disk_of(drive).lock("lock")
    disk.die()
    for call in (file.size, file.sync, lambda: disk.exists("f"), lambda: disk.open("f")):
        with pytest.raises(OSError, match="power lost") as caught:
            call()
        assert caught.value.errno == errno.EIO
    file.close()
    disk_of(drive).lock("lock").release()
    disk_of(drive).lock("lock")


def test_cold_files_are_read_ahead_once() -> None:
    drive = Drive()
    disk = disk_of(drive)
    put(disk, "f", b"data")
    file = disk.open("f")
    assert file.is_resident(0, 4)
    drive.chill()
    assert not file.is_resident(0, 4)
    file.read_ahead(0, 4)
    assert file.is_resident(0, 4)


# ---- faults


def test_the_nth_call_of_an_operation_fails() -> None:
    disk = disk_of(Drive())
    fault = disk.faults.plan(Fault("pwrite", nth=2, times=2, code=errno.EROFS))
    file = disk.open("f", create=True)
    outcomes = []
    for number in range(4):
        try:
            file.pwrite(b"x" * 10, 10 * number)
            outcomes.append(0)
        except OSError as error:
            outcomes.append(error.errno)
    assert outcomes == [0, errno.EROFS, errno.EROFS, 0]
    assert fault.hits == 2


def test_failing_each_call_in_turn_ends_with_a_clean_pass() -> None:
    def work(disk: SimDisk) -> None:
        disk.make_directory("d")
        put(disk, "d/f.tmp", b"data")
        disk.rename("d/f.tmp", "d/f")
        disk.sync_directory("d")

    for nth in range(1, 100):
        disk = disk_of(Drive())
        fault = disk.faults.plan(Fault(nth=nth))
        try:
            work(disk)
        except OSError:
            assert fault.hits == 1
        if not fault.hits:
            break
    assert nth == sum(disk.faults.calls.values()) + 1 == 8


def test_a_failed_write_leaves_a_beginning() -> None:
    sizes = set()
    for seed in range(40):
        disk = SimDisk(Drive(), random.Random(seed), Trace(lambda: 0.0))
        disk.faults.plan(Fault("pwrite", path_part="log"))
        file = disk.open("log", create=True)
        with pytest.raises(OSError):
            file.pwrite(b"0123456789", 0)
        assert b"0123456789".startswith(file.pread(100, 0))
        sizes.add(file.size())
    assert len(sizes) > 3


def test_a_full_disk_takes_what_fits_and_recovers() -> None:
    drive = Drive()
    disk = disk_of(drive)
    file = disk.open("f", create=True)
    file.truncate(1_000_000)
    drive.size_bytes = 100
    assert disk.usage("/") == (100, 100)
    file.pwrite(b"x" * 60, 0)
    with pytest.raises(OSError) as caught:
        file.pwrite(b"y" * 60, 60)
    assert caught.value.errno == errno.ENOSPC
    assert file.pread(200, 0) == b"x" * 60 + b"y" * 40 + bytes(100)
    file.pwrite(b"z" * 100, 0)
    file.truncate(10)
    file.pwrite(b"w" * 60, 10)
    assert disk.usage("/") == (100, 30)


def test_fsyncgate_loses_what_it_did_not_write() -> None:
    drive = Drive()
    disk = disk_of(drive)
    put(disk, "f", b"old")
    disk.sync_directory("/")
    file = disk.open("f")
    file.pwrite(b"new", 0)
    disk.faults.plan(Fault("sync", loses_pending=True))
    with pytest.raises(OSError):
        file.sync()
    file.sync()
    assert file.pread(3, 0) == b"new"
    drive.power_cut(random.Random(1), CrashMode.NONE)
    assert get(drive, "f") == b"old"


def test_rot_flips_bits_for_good() -> None:
    drive = Drive()
    put(disk_of(drive), "f", b"abc")
    drive.rot("f", 1, 0x01)
    assert get(drive, "f") == b"acc"
    drive.sync_all()
    drive.power_cut(random.Random(1), CrashMode.FULL)
    assert get(drive, "f") == b"acc"


def test_every_call_is_a_place_to_take_an_image() -> None:
    drive = Drive()
    disk = disk_of(drive)
    taken: list[tuple[str, Drive]] = []
    disk.faults.on_call = lambda operation, path: taken.append((operation, drive.clone()))
    put(disk, "f", b"data")
    assert [operation for operation, _ in taken] == ["open", "truncate", "pwrite", "sync"]
    assert get(taken[0][1], "f") is None
    assert get(taken[-1][1], "f") == b"data"

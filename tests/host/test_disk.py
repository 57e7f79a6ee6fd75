import errno
import os
import subprocess
import sys

import pytest

from ottla.host import disk as disk_module
from ottla.host import syscalls
from ottla.host.disk import HostDisk

PLAIN = {
    "sync_data": os.fsync,
    "is_resident": syscalls.assume_resident,
    "advise": syscalls.advise_nothing,
    "sync_file_system": syscalls.no_syncfs,
}


HOLD = """
import sys
from ottla.host.disk import HostDisk
lock = HostDisk().lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["chosen", "plain"])
def twin(request, monkeypatch):
    """Every test that asks for it runs on this platform's calls and on their plain twins."""
    if request.param == "plain":
        for name, call in PLAIN.items():
            monkeypatch.setattr(syscalls, name, call)
    return request.param


@pytest.fixture
def disk():
    return HostDisk()


@pytest.fixture
def file(disk, tmp_path):
    opened = disk.open(str(tmp_path / "file"), create=True)
    yield opened
    opened.close()


def test_what_is_written_is_read(file):
    file.pwrite(b"hello world", 0)
    file.pwrite(memoryview(b"W"), 6)
    file.pwrite(bytearray(b"far"), 100)
    assert file.pread(11, 0) == b"hello World"
    assert file.pread(50, 99) == b"\0far"
    assert file.pread(50, 103) == b""
    assert file.size() == 103
    file.truncate(5)
    assert file.pread(50, 0) == b"hello"


def test_short_writes_and_reads_are_continued(file, monkeypatch):
    data = os.urandom(1000)
    write, read = os.pwrite, os.pread
    monkeypatch.setattr(disk_module.os, "pwrite", lambda fd, d, at: write(fd, d[:7], at))
    file.pwrite(data, 3)
    monkeypatch.setattr(disk_module.os, "pread", lambda fd, n, at: read(fd, min(n, 7), at))
    assert file.pread(1000, 3) == data
    assert file.pread(2000, 3) == data


def test_a_write_without_progress_is_an_error(file, monkeypatch):
    monkeypatch.setattr(disk_module.os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="no progress"):
        file.pwrite(b"x", 0)


def test_a_write_to_a_full_disk_is_enospc(disk):
    full = disk.open("/dev/full")
    with pytest.raises(OSError) as raised:
        full.pwrite(b"x", 0)
    assert raised.value.errno == errno.ENOSPC
    full.close()


def test_sync_and_read_ahead(file, twin):
    file.pwrite(os.urandom(1 << 20), 0)
    file.sync()
    file.read_ahead(0, 1 << 20)
    file.read_ahead(1 << 20, 4096)
    assert file.is_resident(0, 1 << 20)
    assert file.is_resident((1 << 20) - 1, 1)
    assert file.is_resident(1 << 20, 100)  # nothing there: nothing to wait for
    assert file.is_resident(0, 0)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="no preadv2")
def test_cold_bytes_are_found_wherever_they_are(file, monkeypatch):
    """The page cache is played: pages of `cold` are not in it."""
    page = 4096
    size = 1 << 20
    file.pwrite(bytes(size), 0)
    cold: set[int] = set()

    def preadv(fd, buffers, at, flags):
        if at // page in cold:
            raise BlockingIOError(errno.EAGAIN, "cold")
        return 1

    monkeypatch.setattr(syscalls.os, "preadv", preadv)
    assert file.is_resident(0, size)
    window = syscalls.PROBE_STRIDE_BYTES // page
    for first in (0, 1, 17, size // page - window):  # a whole window of read-ahead is away
        cold.clear()
        cold.update(range(first, first + window))
        assert not file.is_resident(0, size)
    cold.clear()
    cold.add(size // page - 1)
    assert not file.is_resident(0, size)
    assert not file.is_resident(size - 5, 5)
    assert file.is_resident(0, size - page)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="no preadv2")
def test_a_file_system_that_cannot_be_probed_counts_as_resident(file, monkeypatch):
    def preadv(*_):
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(syscalls.os, "preadv", preadv)
    assert file.is_resident(0, 100)


def test_a_map_is_a_read_only_view_of_the_file(file):
    assert file.map() == b""
    file.pwrite(b"before", 0)
    view = file.map()
    assert view == b"before"
    assert view.readonly
    file.pwrite(b"AFTER!", 0)
    assert view == b"AFTER!"
    file.pwrite(b"more", 6)
    assert len(view) == 6
    file.close()
    assert view == b"AFTER!"


def test_a_closed_file_is_ebadf(file):
    file.close()
    file.close()
    for call in (file.size, file.sync, lambda: file.pread(1, 0), lambda: file.pwrite(b"x", 0)):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EBADF
    assert file.fileno() == -1


def test_open_makes_a_file_only_when_told(disk, tmp_path):
    path = str(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        disk.open(path)
    disk.open(path, create=True).close()
    reader = disk.open(path, read_only=True)
    with pytest.raises(OSError):
        reader.pwrite(b"x", 0)
    assert reader.path == path
    reader.close()


def test_directories(disk, tmp_path):
    root = str(tmp_path / "one" / "two")
    disk.make_directory(root)
    disk.make_directory(root)
    for name in ("b", "a", "c"):
        file = disk.open(f"{root}/{name}", create=True)
        file.pwrite(name.encode(), 0)
        file.close()
    assert disk.list_directory(root) == ["a", "b", "c"]
    disk.rename(f"{root}/a", f"{root}/b")
    assert disk.list_directory(root) == ["b", "c"]
    assert disk.size(f"{root}/b") == 1
    disk.sync_directory(root)
    disk.remove(f"{root}/c")
    with pytest.raises(FileNotFoundError):
        disk.remove(f"{root}/c")
    assert disk.exists(f"{root}/b")
    assert disk.is_directory(root)
    assert not disk.is_directory(f"{root}/b")
    disk.remove_directory(root)
    assert not disk.exists(root)


def test_file_system_sync(disk, file, twin):
    file.pwrite(b"x", 0)
    if syscalls.sync_file_system is syscalls.no_syncfs:
        with pytest.raises(OSError) as raised:
            disk.sync_file_system(file)
        assert raised.value.errno == errno.ENOSYS
    else:
        disk.sync_file_system(file)
        file.close()
        with pytest.raises(OSError) as raised:
            disk.sync_file_system(file)
        assert raised.value.errno == errno.EBADF


def test_usage_is_what_the_file_system_tells_in_units_of_fragments(disk, tmp_path, monkeypatch):
    """Free is what a user may have, not what root may."""
    real = os.statvfs(tmp_path)
    assert disk.usage(str(tmp_path))[0] == real.f_frsize * real.f_blocks
    told = os.statvfs_result((8192, 512, 1000, 300, 200, 9, 8, 7, 0, 255))
    monkeypatch.setattr(os, "statvfs", {str(tmp_path): told}.__getitem__)
    assert disk.usage(str(tmp_path)) == (512 * 1000, 512 * 200)


def test_usage_of_what_is_not_there(disk, tmp_path):
    with pytest.raises(FileNotFoundError):
        disk.usage(str(tmp_path / "none"))


def test_a_lock_keeps_others_out_and_ends_with_its_process(disk, tmp_path):
    path = str(tmp_path / ".lock")
    lock = disk.lock(path)
    with pytest.raises(BlockingIOError):
        disk.lock(path)
    lock.release()
    lock.release()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD,
            path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            disk.lock(path)
        holder.kill()
    disk.lock(path).release()

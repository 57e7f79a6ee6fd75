"""The real disk: `base.world.Disk` and `File` on file descriptors.

Every call is one or a few system calls; there is no buffer of ours, so what `pwrite` returned
from is in the page cache and survives the process. Python repeats a call that a signal
interrupted. A closed file has descriptor -1, so that using it is EBADF and never another file;
but whoever closes one first waits for what helper threads still do with it.

What differs by platform stands in `syscalls`.
"""

import errno
import fcntl
import mmap
import os
import resource

from ottla.base.disk_errors import sync_error
from ottla.base.world import Bytes, File
from ottla.host import syscalls

_READ_AHEAD_BYTES = 256 * 1024
_OPEN_FILES_MAX = 1 << 20


class HostFile:
    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, length: int, position: int) -> bytes:
        data = os.pread(self._fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing and data:
            data = os.pread(self._fd, missing, position + length - missing)
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def pwrite(self, data: Bytes, position: int) -> None:
        # hot: produce
        written = os.pwrite(self._fd, data, position)
        if written != len(data):
            self._write_rest(memoryview(data)[written:], position + written)

    def _write_rest(self, rest: memoryview, position: int) -> None:
        while rest:
            written = os.pwrite(self._fd, rest, position)
            if not written:
                raise OSError(errno.EIO, "write made no progress", self.path)
            rest = rest[written:]
            position += written

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        if self._fd < 0:  # for which Python has a ValueError
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        try:
            syscalls.sync_data(self._fd)
        except OSError as error:
            raise sync_error(error) from error

    def map(self) -> memoryview:
        if not self.size():
            return memoryview(b"")
        return memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ))

    def is_resident(self, position: int, length: int) -> bool:
        return syscalls.is_resident(self._fd, position, length)

    def read_ahead(self, position: int, length: int) -> None:
        syscalls.advise(self._fd, position, length)
        end = position + length
        for start in range(position, end, _READ_AHEAD_BYTES):
            os.pread(self._fd, min(_READ_AHEAD_BYTES, end - start), start)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class HostLock:
    """A lock file: the kernel drops the lock with the descriptor, whatever ends the process."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class HostDisk:
    __slots__ = ()

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> HostFile:
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0)
        return HostFile(path, os.open(path, flags, 0o644))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def remove_directory(self, path: str) -> None:
        for name in self.list_directory(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        except OSError as error:
            raise sync_error(error) from error
        finally:
            os.close(fd)

    def sync_file_system(self, file: File) -> None:
        try:
            syscalls.sync_file_system(file.fileno())
        except OSError as error:
            raise sync_error(error) from error

    def open_files_max(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(soft, _OPEN_FILES_MAX) if soft != resource.RLIM_INFINITY else _OPEN_FILES_MAX

    def usage(self, path: str) -> tuple[int, int]:
        found = os.statvfs(path)
        return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail

    def lock(self, path: str) -> HostLock:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return HostLock(fd)

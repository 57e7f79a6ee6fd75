"""A disk in memory that can refuse any call."""

import errno

from ottla.base.world import Bytes


class MemoryFile:
    def __init__(self, disk: "MemoryDisk", path: str, *, is_read_only: bool = False) -> None:
        self.disk = disk
        self.path = path
        self.is_read_only = is_read_only
        self.data = disk.files[path]
        self.is_open = True
        disk.open_count += 1

    def size(self) -> int:
        return len(self.data)

    def pread(self, length: int, position: int) -> bytes:
        self.disk.call("pread", self.path)
        return bytes(self.data[position : position + length])

    def pwrite(self, data: Bytes, position: int) -> None:
        assert not self.is_read_only, f"{self.path} is open for reading"
        # A view that is held while an error is raised: the real disk does that after a short write.
        view = memoryview(data)
        torn = self.disk.call("pwrite", self.path, tear=True)
        self._put(view[: len(view) // 2] if torn else view, position)
        if torn:
            raise OSError(errno.ENOSPC, "planted", self.path)

    def _put(self, data: Bytes, position: int) -> None:
        end = position + len(data)
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[position:end] = data

    def truncate(self, size: int) -> None:
        self.disk.call("truncate", self.path)
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def sync(self) -> None:
        self.disk.call("sync", self.path)

    def map(self) -> memoryview:
        # While this view lives, cutting the file is a BufferError: the rule of File.map.
        return memoryview(self.data).toreadonly()

    def is_resident(self, position: int, length: int) -> bool:
        return True

    def read_ahead(self, position: int, length: int) -> None:
        self.disk.call("read_ahead", self.path)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        assert self.is_open, f"{self.path} is closed twice"
        self.is_open = False
        self.disk.open_count -= 1


class MemoryLock:
    def __init__(self, disk: "MemoryDisk", path: str) -> None:
        self.disk, self.path = disk, path
        if path in disk.locks:
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        disk.locks.append(path)

    def release(self) -> None:
        self.disk.locks.remove(self.path)


class MemoryDisk:
    """`fail_at(n)`: the n-th call from now on that changes or reads the disk fails, once or,
    with `for_good`, as do all after it. A write that fails has torn half of its bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.directories: dict[str, bool] = {}
        self.locks: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self.open_count = 0
        self.has_sync_file_system = True
        self._fail_in = 0
        self._for_good = False

    def fail_at(self, count: int, *, for_good: bool = False) -> None:
        self._fail_in, self._for_good = count, for_good

    def call(self, name: str, path: str, *, tear: bool = False) -> bool:
        self.calls.append((name, path))
        if self._fail_in > 0:
            self._fail_in -= 1
            if self._fail_in == 0:
                self._fail_in = 1 if self._for_good else 0
                if tear:
                    return True
                raise OSError(errno.EIO, "planted", path)
        return False

    def copy(self) -> "MemoryDisk":
        """The same bytes, as after the process died."""
        other = MemoryDisk()
        other.files = {path: bytearray(data) for path, data in self.files.items()}
        other.directories = dict(self.directories)
        return other

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemoryFile:
        self.call("open read-only" if read_only else "open", path)
        if path not in self.files:
            if not create or not self.is_directory(path.rpartition("/")[0]):
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.files[path] = bytearray()
        return MemoryFile(self, path, is_read_only=read_only)

    def exists(self, path: str) -> bool:
        return path in self.files or self.is_directory(path)

    def is_directory(self, path: str) -> bool:
        return path in self.directories or path == "."

    def size(self, path: str) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return len(self.files[path])

    def list_directory(self, path: str) -> list[str]:
        self.call("list_directory", path)
        if not self.is_directory(path):
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        start = path + "/"
        names = [each[len(start) :] for each in (*self.files, *self.directories)]
        inside = zip((*self.files, *self.directories), names, strict=True)
        return sorted(name for each, name in inside if each.startswith(start) and "/" not in name)

    def make_directory(self, path: str) -> None:
        self.call("make_directory", path)
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            self.directories["/".join(parts[:count])] = True

    def rename(self, old: str, new: str) -> None:
        self.call("rename", old)
        if old in self.directories:
            for each in [*self.files]:
                if each.startswith(old + "/"):
                    self.files[new + each[len(old) :]] = self.files.pop(each)
            del self.directories[old]
            self.directories[new] = True
        elif old in self.files:
            self.files[new] = self.files.pop(old)
        else:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)

    def remove(self, path: str) -> None:
        self.call("remove", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        del self.files[path]

    def remove_directory(self, path: str) -> None:
        self.call("remove_directory", path)
        for each in [*self.files]:
            if each.startswith(path + "/"):
                del self.files[each]
        del self.directories[path]

    def sync_directory(self, path: str) -> None:
        if not self.is_directory(path):
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        self.call("sync_directory", path)

    def sync_file_system(self, file: MemoryFile) -> None:
        if not self.has_sync_file_system:
            raise OSError(errno.ENOSYS, "no syncfs")
        self.call("sync_file_system", file.path)

    def usage(self, path: str) -> tuple[int, int]:
        return 1 << 30, 1 << 29

    def lock(self, path: str) -> MemoryLock:
        self.files.setdefault(path, bytearray())
        return MemoryLock(self, path)

"""A drive as one node sees it, from its start to its death: `base.world.Disk` over a Drive.

Each call goes through `_begin`: it is traced, counted, and fails where a fault is planned or the
disk is dead. After `die` every call of it and of its files is an EIO "power lost", but for `close`,
which never fails: the next node gets a new SimDisk over the same drive.
"""

import errno
import random
from typing import Final

from ottla.base.disk_errors import sync_error
from ottla.base.errors import check
from ottla.base.world import Bytes
from ottla.sim.content import Content
from ottla.sim.drive import SIZE_BYTES, Directory, Drive, os_error
from ottla.sim.faults import Fault, Faults, Operation
from ottla.sim.trace import Trace

OPEN_FILES_MAX: Final = 24
"""So few that a node with a handful of partitions closes and opens files all the time."""


class SimDisk:
    def __init__(self, drive: Drive, rng: random.Random, trace: Trace, name: str = "") -> None:
        self.drive = drive
        self.faults = Faults()
        self.name = name
        self.is_alive = True
        self._rng = rng
        self._trace = trace
        self._mapped: dict[Content, None] = {}

    def die(self) -> None:
        self.is_alive = False
        held = [path for path, owner in self.drive.locks.items() if owner is self]
        for path in held:
            del self.drive.locks[path]
        for content in self._mapped:
            content.unmap()
        self._mapped.clear()

    def _fault(self, operation: Operation, path: str, *numbers: int) -> Fault | None:
        self._alive(path)
        self._trace.note(operation, self.name, path, *numbers)
        return self.faults.met(operation, path)

    def _begin(self, operation: Operation, path: str, *numbers: int) -> None:
        fault = self._fault(operation, path, *numbers)
        if fault is not None:
            error = os_error(fault.code, path)
            raise sync_error(error) if operation.startswith("sync") else error

    def _alive(self, path: str) -> None:
        if not self.is_alive:
            raise OSError(errno.EIO, "power lost", path)

    # ---- files

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> "SimFile":
        self._begin("open", path)
        if create and self.drive.find(path) is None:
            self.drive.create(path)
        return SimFile(self, self.drive.file(path), path, read_only)

    def exists(self, path: str) -> bool:
        self._alive(path)
        return self.drive.find(path) is not None

    def is_directory(self, path: str) -> bool:
        self._alive(path)
        return isinstance(self.drive.find(path), Directory)

    def size(self, path: str) -> int:
        self._alive(path)
        return len(self.drive.file(path).live)

    # ---- directories

    def list_directory(self, path: str) -> list[str]:
        self._begin("list_directory", path)
        return sorted(self.drive.directory(path).live)

    def make_directory(self, path: str) -> None:
        self._begin("make_directory", path)
        self.drive.make_directory(path)

    def rename(self, old: str, new: str) -> None:
        self._begin("rename", old)
        self.drive.rename(old, new)

    def remove(self, path: str) -> None:
        self._begin("remove", path)
        self.drive.remove(path)

    def remove_directory(self, path: str) -> None:
        self._begin("remove_directory", path)
        self.drive.remove_directory(path)

    def sync_directory(self, path: str) -> None:
        self._begin("sync_directory", path)
        self.drive.sync_directory(self.drive.directory(path))

    def sync_file_system(self, file: object) -> None:
        check(isinstance(file, SimFile), "a file of another world")
        self._begin("sync_file_system", "/")
        self.drive.sync_all()

    def open_files_max(self) -> int:
        return OPEN_FILES_MAX

    def usage(self, path: str) -> tuple[int, int]:
        self._alive(path)
        return self.drive.size_bytes, max(0, self.drive.size_bytes - self.drive.used_bytes())

    def lock(self, path: str) -> "SimLock":
        self._begin("lock", path)
        if path in self.drive.locks:
            raise BlockingIOError(errno.EAGAIN, "held by another process", path)
        if self.drive.find(path) is None:
            self.drive.create(path)
        self.drive.locks[path] = self
        return SimLock(self, path)


class SimLock:
    def __init__(self, disk: SimDisk, path: str) -> None:
        self._disk = disk
        self._path = path

    def release(self) -> None:
        if self._disk.drive.locks.get(self._path) is self._disk:
            del self._disk.drive.locks[self._path]


class SimFile:
    def __init__(self, disk: SimDisk, content: Content, path: str, read_only: bool) -> None:
        self._disk = disk
        self._content = content
        self._path = path
        self._read_only = read_only
        self._is_open = True

    @property
    def path(self) -> str:
        return self._path

    def size(self) -> int:
        self._usable()
        return len(self._content.live)

    def pread(self, length: int, position: int) -> bytes:
        self._begin("pread", length, position)
        self._warm()
        return bytes(memoryview(self._content.live)[position : position + length])

    def pwrite(self, data: Bytes, position: int) -> None:
        view = memoryview(data).cast("B")
        fault = self._fault("pwrite", len(view), position)
        room = self._room(len(view), position)
        if fault is not None:
            room = min(room, self._disk._rng.randrange(len(view) + 1))
        if room > 0:
            self._content.write(view[:room], position)
        if fault is not None:
            raise os_error(fault.code, self._path)
        if room < len(view):
            raise os_error(errno.ENOSPC, self._path)

    def truncate(self, size: int) -> None:
        self._begin("truncate", size)
        if size != len(self._content.live):
            self._content.cut(size)

    def sync(self) -> None:
        fault = self._fault("sync")
        if fault is None:
            self._content.sync()
            return
        if fault.loses_pending:
            self._content.lose_pending()
        raise sync_error(os_error(fault.code, self._path))

    def map(self) -> memoryview:
        self._begin("map")
        self._disk._mapped[self._content] = None
        return self._content.view()

    def is_resident(self, position: int, length: int) -> bool:
        self._usable()
        return position >= self._content.cold_bytes

    def read_ahead(self, position: int, length: int) -> None:
        self._begin("read_ahead", length, position)
        self._warm()

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self._is_open = False

    def _usable(self) -> None:
        self._disk._alive(self._path)
        if not self._is_open:
            raise os_error(errno.EBADF, self._path)

    def _fault(self, operation: Operation, *numbers: int) -> Fault | None:
        self._usable()
        fault = self._disk._fault(operation, self._path, *numbers)
        if self._read_only and operation in ("pwrite", "truncate"):
            raise os_error(errno.EBADF, self._path)
        return fault

    def _begin(self, operation: Operation, *numbers: int) -> None:
        fault = self._fault(operation, *numbers)
        if fault is not None:
            raise os_error(fault.code, self._path)

    def _warm(self) -> None:
        self._content.cold_bytes = 0

    def _room(self, length: int, position: int) -> int:
        """How much of a write finds room on the drive."""
        grown = position + length - self._content.written_bytes
        if grown <= 0 or self._disk.drive.size_bytes == SIZE_BYTES:
            return length
        free = max(0, self._disk.drive.size_bytes - self._disk.drive.used_bytes())
        return length - max(0, grown - free) if grown - free < length else 0

"""The file of a segment as a reply holds it: it may be closed meanwhile, and is opened again.

It is used on the node's thread, but for `read_ahead`, which has a descriptor of its own. A segment
that left its log may have given its name to another: once such a one is closed, what was to be
sent of it is an OSError (ESTALE), and the connection ends.
"""

import errno
from typing import Protocol

from ottla.base.world import Bytes, Disk, File


class Source(Protocol):
    disk: Disk
    is_gone: bool

    @property
    def path(self) -> str: ...
    @property
    def file(self) -> File: ...
    @property
    def is_open(self) -> bool: ...


class LogFile:
    __slots__ = ("_segment",)

    def __init__(self, segment: Source) -> None:
        self._segment = segment

    @property
    def path(self) -> str:
        return self._segment.path

    @property
    def _file(self) -> File:
        segment = self._segment
        if segment.is_gone and not segment.is_open:
            raise OSError(errno.ESTALE, "the segment left its log", segment.path)
        return segment.file

    def size(self) -> int:
        return self._file.size()

    def pread(self, length: int, position: int) -> bytes:
        return self._file.pread(length, position)

    def is_resident(self, position: int, length: int) -> bool:
        return self._file.is_resident(position, length)

    def read_ahead(self, position: int, length: int) -> None:
        """An OSError names the file. One that is gone needs none: what is open is sent."""
        path = self.path
        try:
            file = self._segment.disk.open(path, read_only=True)
        except FileNotFoundError:
            return
        try:
            file.read_ahead(position, length)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def pwrite(self, data: Bytes, position: int) -> None:
        raise OSError(errno.EBADF, "open for reading", self.path)

    def truncate(self, size: int) -> None:
        raise OSError(errno.EBADF, "open for reading", self.path)

    def sync(self) -> None:
        raise OSError(errno.EBADF, "open for reading", self.path)

    def map(self) -> memoryview:
        return self._file.map()

    def close(self) -> None:
        """It belongs to its segment."""

"""What both indexes of a segment are: an append-only array of fixed entries in a file.

While its segment is active the file is preallocated (holes, no disk used) and the tail is zero;
`trim` cuts it to its entries when the segment rolls or closes, so that the size of a closed file
is its count. No checksum: after an unclean stop an index is built anew from the log, so a lost
or torn entry costs time, never data.

Entries gather in memory and are written some at a time, at the latest before a search: most are
never searched while they are young, and a write for each would double those of small batches.
They are written by pwrite: a store through a map on a full disk is a signal, not an error.
For reading the file is mapped when it is first searched. The map goes (`release`) before the
file is cut or grown, and whenever housekeeping says so: an idle index costs neither memory nor a
descriptor. The file is made with its first write: most partitions of a large node need none.
Rejected: a list of the entries (40x the memory); pread per probe (a system call each); a map for
each search (a third of a read's cost).
"""

from collections.abc import Callable
from typing import Final, TypeVar

from ottla.base.world import Disk, File

T = TypeVar("T")

GATHERED_BYTES: Final = 1 << 10
"""Entries that gather before they are written: those of some 500 KiB of log."""
_UNKNOWN: Final = -1


class IndexFile:
    __slots__ = (
        "_count",
        "_file",
        "_gathered",
        "_trimmed",
        "_view",
        "capacity",
        "disk",
        "entry_bytes",
        "max_bytes",
        "path",
    )

    def __init__(self, disk: Disk, path: str, entry_bytes: int, max_bytes: int) -> None:
        self.disk = disk
        self.path = path
        self.entry_bytes = entry_bytes
        self.max_bytes = max_bytes - max_bytes % entry_bytes
        self.capacity = max_bytes // entry_bytes
        """Entries that it may hold."""
        self._file: File | None = None
        self._trimmed: File | None = None
        self._view: memoryview | None = None
        self._gathered = bytearray()
        """The last of the entries, which are not in the file yet."""
        self._count = _UNKNOWN

    @property
    def count(self) -> int:
        """Entries in it. A file is looked at when first asked."""
        if self._count == _UNKNOWN:
            exists = self.disk.exists(self.path)
            self._count = self.disk.size(self.path) // self.entry_bytes if exists else 0
        return self._count

    @property
    def file(self) -> File | None:
        """The file as it is open, to be synced."""
        return self._file or self._trimmed

    def append(self, entry: bytes) -> None:
        """# hot: produce (once in index.interval.bytes)"""
        self._count = self.count + 1
        self._gathered += entry
        if len(self._gathered) >= GATHERED_BYTES:
            self._write()

    def _write(self) -> None:
        """Bring the file up to date. Where the disk refuses, nothing is lost."""
        if self._gathered:
            # A copy: a write that fails half way leaves views of what it was given.
            entries = bytes(self._gathered)
            file = self._file or self._open()
            file.pwrite(entries, self._count * self.entry_bytes - len(entries))
            self._gathered.clear()

    def _open(self) -> File:
        """Open it for more entries, preallocated."""
        self.release()
        file = self._trimmed = self._trimmed or self.disk.open(self.path, create=True)
        if file.size() < self.max_bytes:
            file.truncate(self.max_bytes)
        self._file, self._trimmed = file, None
        return file

    def look_up(self, search: Callable[[memoryview, int], T], otherwise: T) -> T:
        """`search(map of the file, count)`; `otherwise` where there are no entries."""
        # hot: fetch
        count = self.count
        if not count:
            return otherwise
        try:
            self._write()
        except OSError:  # a disk that takes no more is still read
            contents = memoryview(self._contents())
            return search(contents, len(contents) // self.entry_bytes)
        view = self._view or self._map()
        return search(view, min(count, len(view) // self.entry_bytes))

    def _contents(self) -> bytes:
        written_bytes = self._count * self.entry_bytes - len(self._gathered)
        written = bytes((self._view or self._map())[:written_bytes]) if written_bytes else b""
        return written if len(written) < written_bytes else written + self._gathered

    def _map(self) -> memoryview:
        file = self._file or self.disk.open(self.path, read_only=True)
        try:
            self._view = file.map()
        finally:
            if file is not self._file:
                file.close()
        return self._view

    def release(self) -> None:
        """Let go of the map."""
        if self._view is not None:
            self._view.release()
            self._view = None

    def truncate(self, count: int) -> None:
        """Drop the entries from `count` on. What the file holds of them the next ones go over,
        or `trim` cuts."""
        if count < self.count:
            written = self._count - len(self._gathered) // self.entry_bytes
            del self._gathered[max(count - written, 0) * self.entry_bytes :]
            self._count = count

    def reset(self) -> None:
        """Drop all entries, whatever the file holds, if it is there. One that is open stays so:
        a flush may be at it."""
        self.release()
        self._gathered.clear()
        self._count = 0
        self._file, self._trimmed = None, self.file
        if self._trimmed is not None:
            self._trimmed.truncate(0)
        elif self.disk.exists(self.path):
            file = self.disk.open(self.path)
            file.truncate(0)
            file.close()

    def trim(self) -> File:
        """Cut the preallocated tail. The file, which is there afterwards, if only empty, and open.
        An entry that comes after all preallocates it anew."""
        size = self.count * self.entry_bytes
        self._write()
        self.release()
        file = self._file or self._trimmed or self.disk.open(self.path, create=True)
        self._file, self._trimmed = None, file
        if file.size() != size:
            file.truncate(size)
        return file

    def close(self) -> None:
        """Let go of map and descriptor; entries may still be looked up and appended."""
        self.release()
        for file in (self._file, self._trimmed):
            if file is not None:
                file.close()
        self._file = self._trimmed = None

"""The aborted transactions of one segment: what a read_committed reader must leave out.

    entry (34 bytes, big-endian)
    +------------------+-----------------+------------------+-----------------+-------------------+
    | version i16 = 0  | producer id i64 | first offset i64 | last offset i64 | last stable       |
    |                  |                 |                  |                 | offset i64        |
    +------------------+-----------------+------------------+-----------------+-------------------+

An entry stands in the segment that holds the abort marker, whose offset is `last offset`; the
data it speaks of may lie in earlier segments. Entries come in the order of their markers. The
last stable offset is that of the moment after the marker: a transaction of which a reader below
that offset has not heard by then does not concern it, which ends a search.

The file is made with the first entry: most segments have none. It is read anew for each search,
for it is small and seldom asked. What a power cut left of a torn entry is passed over, and the
next entry goes over it. No checksum: `check_sanity` holds an index to its own rules.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError, check
from ottla.base.world import Disk, File

ENTRY: Final = struct.Struct(">hqqqq")
ENTRY_BYTES: Final = ENTRY.size
VERSION: Final = 0


class AbortedTransaction(NamedTuple):
    producer_id: int
    first_offset: int
    last_offset: int
    """Of its abort marker."""
    last_stable_offset: int


class Aborted(NamedTuple):
    """What a search found."""

    transactions: list[AbortedTransaction]
    is_complete: bool
    """Later segments hold nothing more that matters."""


def pack_entries(transactions: Iterable[AbortedTransaction]) -> bytes:
    return b"".join(ENTRY.pack(VERSION, *each) for each in transactions)


def parse_entries(data: bytes, path: str) -> list[AbortedTransaction]:
    """The whole entries in `data`; CorruptionError where one is of an unknown version."""
    entries = []
    for at in range(0, len(data) - len(data) % ENTRY_BYTES, ENTRY_BYTES):
        version, *fields = ENTRY.unpack_from(data, at)
        if version != VERSION:
            raise CorruptionError(
                f"aborted transaction of version {version}",
                path=path,
                position=at,
                size_bytes=ENTRY_BYTES,
            )
        entries.append(AbortedTransaction(*fields))
    return entries


class TransactionIndex:
    __slots__ = ("_file", "_last_offset", "_size_bytes", "base_offset", "disk", "path")

    def __init__(self, disk: Disk, path: str, base_offset: int) -> None:
        self.disk = disk
        self.path = path
        self.base_offset = base_offset
        self._file: File | None = None
        self._size_bytes = -1
        """Of its whole entries; -1 while the file was not looked at."""
        self._last_offset = -1

    @property
    def file(self) -> File | None:
        """The file as it is open, to be synced."""
        return self._file

    @property
    def exists(self) -> bool:
        return self.disk.exists(self.path)

    def entries(self) -> list[AbortedTransaction]:
        """All of them, in order; CorruptionError where they cannot be."""
        return parse_entries(self._read(), self.path)

    def _read(self) -> bytes:
        if self._file is not None:
            return self._file.pread(self._file.size(), 0)
        try:
            file = self.disk.open(self.path, read_only=True)
        except FileNotFoundError:
            return b""
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def append(self, transaction: AbortedTransaction) -> None:
        """Add one behind the others; its marker lies behind theirs. Not durable before `file`
        is synced. Where the disk refuses, the index is as it was."""
        if self._size_bytes < 0:
            self._know(self.entries())
        check(transaction.last_offset > self._last_offset, "abort markers come in order")
        self.open().pwrite(pack_entries((transaction,)), self._size_bytes)
        self._size_bytes += ENTRY_BYTES
        self._last_offset = transaction.last_offset

    def open(self) -> File:
        """Its file, made where it is missing, open until `close`."""
        if self._file is None:
            self._file = self.disk.open(self.path, create=True)
        return self._file

    def collect(self, start_offset: int, end_offset: int) -> Aborted:
        """Those that a reader of the offsets from `start_offset` to below `end_offset` may meet."""
        if not self._size_bytes:
            return Aborted([], is_complete=False)
        found = []
        entries = self.entries()
        if not entries:
            self._size_bytes = 0  # no file, mostly: it is not looked for again
        for each in entries:
            if each.last_offset >= start_offset and each.first_offset < end_offset:
                found.append(each)
            if each.last_stable_offset >= end_offset:
                return Aborted(found, is_complete=True)
        return Aborted(found, is_complete=False)

    def truncate_to(self, offset: int) -> None:
        """Forget the transactions whose marker stands at or past `offset`."""
        if not self.exists:
            return
        self._cut([each for each in self.entries() if each.last_offset < offset])

    def reset(self) -> None:
        """Forget all of them."""
        if self.exists:
            self._cut([])

    def _cut(self, kept: list[AbortedTransaction]) -> None:
        self.open().truncate(len(kept) * ENTRY_BYTES)
        self._know(kept)

    def _know(self, entries: list[AbortedTransaction]) -> None:
        """These are all that the file holds."""
        self._size_bytes = len(entries) * ENTRY_BYTES
        self._last_offset = max((each.last_offset for each in entries), default=-1)

    def check_sanity(self) -> None:
        """CorruptionError where the entries are none that a log writes."""
        data = self._read()
        before = self.base_offset - 1
        cause = "half an entry" if len(data) % ENTRY_BYTES else ""
        for number, each in enumerate(parse_entries(data, self.path)):
            if each.last_offset <= before:
                cause = f"abort marker at {each.last_offset}, behind {before}"
            elif not 0 <= each.first_offset <= each.last_offset or each.producer_id < 0:
                cause = f"transaction of producer {each.producer_id} from {each.first_offset}"
            if cause:
                raise CorruptionError(
                    cause, path=self.path, position=number * ENTRY_BYTES, size_bytes=ENTRY_BYTES
                )
            before = each.last_offset
        if cause:
            raise CorruptionError(cause, path=self.path, size_bytes=len(data))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

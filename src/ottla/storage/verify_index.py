"""The index files of one segment, held to the batches of its log.

Kafka's own check looks at an index alone: whole entries, the last not below the first. Here each
entry must name a batch as `kafka-dump-log` wants it: the offset index the last offset of the batch
that starts at its position, the time index the last offset of a batch that brought the largest
timestamp so far, the transaction index a batch that ends a transaction by an abort. Batches are
handed in as they are walked, entries are read beside them a piece at a time.

What an index lacks in its middle is no fault, for a search scans on from the entry before; the
last entry of a time index that was trimmed tells the largest timestamp, and must be there. Every
abort of a transaction of which the log has data must be in the transaction index.
"""

import struct
from collections.abc import Iterator

from ottla.base.world import Disk, File
from ottla.records.batch import BatchHeader
from ottla.storage.findings import AT_START, REBUILD, Faults, Finding
from ottla.storage.index_walk import IndexPart, walk_index
from ottla.storage.offset_index import ENTRY as OFFSET_ENTRY
from ottla.storage.time_index import ENTRY as TIME_ENTRY
from ottla.storage.transaction_index import ENTRY as ABORTED_ENTRY


class IndexCheck:
    """What is common: entries in order, and what may stand behind them."""

    entry: struct.Struct = OFFSET_ENTRY
    has_timestamps = False
    """An entry of zeros is one: the first record at timestamp 0."""

    def __init__(self, disk: Disk, path: str, base_offset: int, *, is_trusted: bool) -> None:
        """`is_trusted`: a start believes the file as it is. Otherwise it is built anew, and what
        is wrong with it is but a note."""
        self.base_offset = base_offset
        self.is_trusted = is_trusted
        remedy = REBUILD if is_trusted else AT_START
        self.faults = Faults(path, remedy, are_notes=not is_trusted)
        self.file: File | None = disk.open(path, read_only=True) if disk.exists(path) else None
        self._entries = self._sound_entries()
        self._next: IndexPart | None = next(self._entries, None)

    def advance(self) -> None:
        self._next = next(self._entries, None)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def skip(self, end: int, end_offset: int) -> None:
        """No batches are known up to this position and offset."""

    def fault(self, entry: IndexPart, cause: str) -> None:
        self.faults.add(entry.at, self.entry.size, cause)

    def findings(self) -> list[Finding]:
        return self.faults.all()

    def _sound_entries(self) -> Iterator[IndexPart]:
        before: IndexPart | None = None
        for each in self._raw_entries():
            if before is not None:
                if self._ascends(before.fields, each.fields):
                    yield before
                else:
                    self.fault(before, "entries do not ascend")
            before = each
        if before is not None:
            yield before

    def _raw_entries(self) -> Iterator[IndexPart]:
        """All but the zeros at the end, which are room for more."""
        if self.file is None:
            return
        other: IndexPart | None = None
        may_start_with_zeros = self.has_timestamps and self.is_trusted
        for part in walk_index(self.file, self.entry, may_start_with_zeros=may_start_with_zeros):
            if not part.is_entry():
                other = part
                continue
            if other is not None:
                self.faults.add(other.at, other.size_bytes, "zeros between entries")
                other = None
            yield part
        if other is not None and 0 < other.size_bytes < self.entry.size:
            self.faults.add(other.at, other.size_bytes, "part of an entry at the end")
        elif other is not None and self.is_trusted:
            self.faults.add(other.at, other.size_bytes, "zeros where the entries end")

    def _ascends(self, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        return before[0] < after[0] and before[1] < after[1]


class OffsetIndexCheck(IndexCheck):
    def batch(self, position: int, header: BatchHeader) -> None:
        self._pass(position)
        entry = self._next
        if entry is not None and entry.fields[1] == position:
            offset = self.base_offset + entry.fields[0]
            if offset != header.last_offset:
                self.fault(
                    entry, f"offset {offset} for the batch that ends at {header.last_offset}"
                )
            self.advance()

    def _pass(self, position: int) -> None:
        while self._next is not None and self._next.fields[1] < position:
            self.fault(self._next, f"position {self._next.fields[1]} where no batch starts")
            self.advance()

    def skip(self, end: int, end_offset: int) -> None:
        while self._next is not None and self._next.fields[1] < end:
            self.advance()

    def end(self) -> None:
        while self._next is not None:
            self.fault(self._next, f"position {self._next.fields[1]} past the last batch")
            self.advance()


class TimeIndexCheck(IndexCheck):
    entry = TIME_ENTRY
    has_timestamps = True

    def __init__(self, disk: Disk, path: str, base_offset: int, *, is_trusted: bool) -> None:
        self.max_timestamp = -1
        self.last_timestamp = -1
        self._is_complete = True
        super().__init__(disk, path, base_offset, is_trusted=is_trusted)

    def batch(self, position: int, header: BatchHeader) -> None:
        is_new = header.max_timestamp > self.max_timestamp
        if is_new and header.record_count:  # of an empty batch Kafka's index tells, ours does not
            self.max_timestamp = header.max_timestamp
        while (entry := self._next) is not None:
            timestamp, offset = entry.fields[0], self.base_offset + entry.fields[1]
            if offset > header.last_offset:
                return
            self.advance()
            self.last_timestamp = timestamp
            if offset < header.last_offset:
                self.fault(entry, f"offset {offset} is not the last of a batch")
            elif timestamp != header.max_timestamp or not is_new:
                cause = f"timestamp {timestamp} where {self.max_timestamp} is the largest"
                self.fault(entry, f"{cause} at offset {offset}")

    def skip(self, end: int, end_offset: int) -> None:
        self._is_complete = False
        while self._next is not None and self.base_offset + self._next.fields[1] < end_offset:
            self.last_timestamp = self._next.fields[0]
            self.advance()

    def end(self) -> None:
        while self._next is not None:
            offset = self.base_offset + self._next.fields[1]
            self.fault(self._next, f"offset {offset} past the last batch")
            self.last_timestamp = self._next.fields[0]
            self.advance()
        is_short = self.last_timestamp < self.max_timestamp
        if self.is_trusted and self.file is not None and self._is_complete and is_short:
            size = self.file.size()
            cause = f"ends at timestamp {self.last_timestamp}, the largest is {self.max_timestamp}"
            self.faults.add(size, 0, cause)


class TransactionIndexCheck(IndexCheck):
    entry = ABORTED_ENTRY

    def aborted(self, header: BatchHeader, *, is_due: bool) -> None:
        """A marker that ends a transaction by an abort, of which an entry must tell if `is_due`: a
        transaction of which there is no data aborts nothing."""
        offset = header.last_offset
        self._pass(offset)
        entry = self._next
        if entry is None or entry.fields[3] != offset:
            if is_due:
                cause = f"the abort of producer {header.producer_id} at offset {offset} is missing"
                self.faults.add(entry.at if entry else 0, 0, cause)
            return
        self.advance()
        version, producer_id, first, _, stable = entry.fields
        if version != 0:
            self.fault(entry, f"version {version}")
        elif producer_id != header.producer_id:
            self.fault(entry, f"producer {producer_id} where {header.producer_id} aborted")
        elif not 0 <= first <= offset:
            self.fault(entry, f"first offset {first} of a transaction that ends at {offset}")
        elif not 0 <= stable <= offset + 1:
            self.fault(entry, f"last stable offset {stable} at the abort at {offset}")

    def _pass(self, offset: int) -> None:
        while self._next is not None and self._next.fields[3] < offset:
            self.fault(self._next, f"last offset {self._next.fields[3]}, where nothing is aborted")
            self.advance()

    def skip(self, end: int, end_offset: int) -> None:
        while self._next is not None and self._next.fields[3] < end_offset:
            self.advance()

    def end(self) -> None:
        self._pass((1 << 63) - 1)

    def _ascends(self, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        return before[3] < after[3]

"""One segment of a log: a `.log` file of whole batches, and the two indexes beside it.

Invariants: `size_bytes` counts whole batches, whatever else the file holds behind them; the file
is written at that position and nowhere else; both indexes know nothing at or past it. Only the
last segment of a log is written. What a failed write left behind is cut off at once; should
even that fail, it lies past `size_bytes`, where nobody reads and the next write goes over it.

Descriptors are opened when first used: an idle segment holds none but what reading left open.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from ottla.base.world import Disk, File
from ottla.records.batch import LENGTH_OVERHEAD, BatchHeader
from ottla.storage.config import LogConfig
from ottla.storage.header_scan import OFFSET_DELTA_MAX, scan_headers
from ottla.storage.log_file import LogFile
from ottla.storage.names import (
    LOG,
    OFFSET_INDEX,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
)
from ottla.storage.offset_index import OffsetIndex
from ottla.storage.time_index import TimeIndex
from ottla.storage.transaction_index import TransactionIndex

_UNKNOWN: Final = -2


class Owner(Protocol):
    def opened(self, segment: "Segment") -> None: ...
    def closed(self, segment: "Segment") -> None: ...


class Segment:
    __slots__ = (
        "_file",
        "_max_timestamp",
        "_max_timestamp_offset",
        "_rolling_timestamp",
        "_transaction_index",
        "are_times_checked",
        "base_offset",
        "bytes_since_entry",
        "checked",
        "created_ms",
        "disk",
        "index",
        "index_interval_bytes",
        "is_gone",
        "is_sealed",
        "is_used",
        "is_written",
        "jitter_ms",
        "log",
        "size_bytes",
        "state",
        "stem",
        "time_index",
        "unread_bytes",
    )

    def __init__(
        self,
        disk: Disk,
        directory: str,
        base_offset: int,
        config: LogConfig,
        *,
        size_bytes: int,
        state: str = "",
    ) -> None:
        self.disk = disk
        self.base_offset = base_offset
        self.stem = f"{directory}/{file_name(base_offset, '')}"
        """Path of its files without their suffix."""
        self.state = state
        """Last name of its `.log`: CLEANED and SWAP while it is on its way in."""
        self.size_bytes = size_bytes
        self.index_interval_bytes = config.index_interval_bytes
        self.bytes_since_entry = 0
        self.unread_bytes = 0
        """How much at its start an earlier life wrote and no start has read."""
        self.checked = (0, 0)
        """From where to where that was checked since."""
        self.are_times_checked = False
        """Its time index was held against the log: see `times.largest`."""
        self.created_ms = 0
        self.jitter_ms = 0
        self.is_sealed = False
        """Rolled, flushed, its index files closed."""
        self.is_written = False
        """It has, or may have, bytes that no flush covered, or one is under way."""
        self.is_used = False
        """Since `OpenSegments` looked last."""
        self.is_gone = False
        """It left its log."""
        self.log: Owner | None = None
        """Who keeps count of the descriptors."""
        self._file: File | None = None
        # What an existing segment holds is looked up when it is first asked for.
        self._max_timestamp = _UNKNOWN if size_bytes else -1
        self._max_timestamp_offset = base_offset
        self._rolling_timestamp = _UNKNOWN
        index_bytes = config.segment_index_bytes
        path = self.stem + OFFSET_INDEX + state
        self.index = OffsetIndex(disk, path, base_offset, index_bytes)
        path = self.stem + TIME_INDEX + state
        self.time_index = TimeIndex(disk, path, base_offset, index_bytes)
        self._transaction_index: TransactionIndex | None = None

    @property
    def end_limit(self) -> int:
        """No offset of it is here or past here: its indexes could not name it."""
        return self.base_offset + OFFSET_DELTA_MAX + 1

    @property
    def path(self) -> str:
        return self.stem + LOG + self.state

    @property
    def transaction_index(self) -> TransactionIndex:
        """Made when first asked for: most segments need none."""
        if self._transaction_index is None:
            path = self.stem + TRANSACTION_INDEX + self.state
            self._transaction_index = TransactionIndex(self.disk, path, self.base_offset)
        return self._transaction_index

    @property
    def file(self) -> File:
        self.is_used = True
        return self._file or self.open(create=False)

    @property
    def made_file(self) -> File:
        """The file, made while nothing was written to it."""
        self.is_used = True
        return self._file or self.open(create=not self.size_bytes)

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def open(self, *, create: bool) -> File:
        self._file = file = self.disk.open(self.path, create=create)
        if self.log is not None and not self.is_gone:
            self.log.opened(self)
        return file

    def reader(self) -> LogFile:
        """Its file for a reply. That it can be opened is found out here."""
        # hot: fetch
        self.is_used = True
        if self._file is None:
            self.open(create=False)
        return LogFile(self)

    def leave(self) -> None:
        """It is no part of its log any more. Its descriptor, if it has one, stays until `close`:
        its name may be another's soon."""
        self.is_gone = True
        if self.log is not None:
            self.log.closed(self)

    def make(self) -> None:
        """An empty file for it, whatever a roll that failed left under that name."""
        try:
            self.open(create=True).truncate(0)
        except OSError:
            self.close()
            raise

    @property
    def max_timestamp(self) -> int:
        """By its time index, which may lie: `times.largest` does not."""
        if self._max_timestamp == _UNKNOWN:
            self._look_up_max_timestamp()
        return self._max_timestamp

    def _look_up_max_timestamp(self) -> None:
        self._max_timestamp, self._max_timestamp_offset = self.time_index.last

    @property
    def max_timestamp_offset(self) -> int:
        """Last offset of the batch that holds the largest timestamp."""
        if self._max_timestamp == _UNKNOWN:
            self._look_up_max_timestamp()
        return self._max_timestamp_offset

    @property
    def first_timestamp(self) -> int:
        """Largest timestamp of its first batch, of which there is one; -1 where that has none."""
        if self._rolling_timestamp == _UNKNOWN:
            self._look_up_rolling_timestamp()
        return self._rolling_timestamp

    def _look_up_rolling_timestamp(self) -> int:
        """Largest timestamp of its first batch: the age of a segment counts from there."""
        self._rolling_timestamp = self.header_at(0).max_timestamp
        return self._rolling_timestamp

    def is_due_to_roll(
        self, size_bytes: int, last_offset: int, timestamp: int, now_ms: int, config: LogConfig
    ) -> bool:
        """Whether such a batch belongs into a new segment, by Kafka's conditions."""
        # hot: produce
        size = self.size_bytes
        if not size:
            return False
        since = self._rolling_timestamp
        if since == _UNKNOWN:
            since = self._look_up_rolling_timestamp()
        age = timestamp - since if since >= 0 else now_ms - self.created_ms
        return (
            size > config.segment_bytes - size_bytes
            or age > config.segment_ms - self.jitter_ms
            or last_offset - self.base_offset > OFFSET_DELTA_MAX
            or self.index.count >= self.index.capacity
            or self.time_index.count >= self.time_index.capacity - 1
        )

    def append(self, data: memoryview, batches: Sequence[BatchHeader], first_offset: int) -> None:
        """# hot: produce. Write these batches, whose first record gets `first_offset`."""
        timestamp, timestamp_offset = self._max_timestamp, self._max_timestamp_offset
        self.is_written = True
        try:
            self.made_file.pwrite(data, self.size_bytes)
            self.note(batches, first_offset)
        except OSError:
            self._max_timestamp, self._max_timestamp_offset = timestamp, timestamp_offset
            self._cut_back(first_offset)
            raise

    def note(self, batches: Sequence[BatchHeader], first_offset: int) -> None:
        """# hot: produce. These batches stand at the end of the file: count and index them."""
        position = self.size_bytes
        if not position:
            self._rolling_timestamp = batches[0].max_timestamp
        elif self._max_timestamp == _UNKNOWN:
            self._look_up_max_timestamp()
        since = self.bytes_since_entry
        offset = first_offset
        for batch in batches:
            last_offset = offset + batch[6]
            timestamp = batch[8]
            if timestamp > self._max_timestamp and batch[12]:  # empty ones have no record of it
                self._max_timestamp = timestamp
                self._max_timestamp_offset = last_offset
            if since > self.index_interval_bytes:
                self.index.add(last_offset, position)
                self.time_index.maybe_add(self._max_timestamp, self._max_timestamp_offset)
                since = 0
            length = batch[1] + LENGTH_OVERHEAD
            position += length
            since += length
            offset = last_offset + 1
        self.bytes_since_entry = since
        self.size_bytes = position

    def _cut_back(self, first_offset: int) -> None:
        """Undo a write that failed, as far as the disk lets us."""
        with suppress(OSError):
            self.file.truncate(self.size_bytes)
        with suppress(OSError):
            self.index.truncate_to(first_offset)
            self.time_index.truncate_to(first_offset)

    def truncate(self, position: int, offset: int) -> None:
        """Cut the file at `position`, the start of the first batch at or past `offset`."""
        self.index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.transaction_index.truncate_to(offset)
        self.is_written = True
        self.file.truncate(position)
        self.size_bytes = position
        self.bytes_since_entry = 0
        self.is_sealed = False
        self._rolling_timestamp = _UNKNOWN
        self._max_timestamp, self._max_timestamp_offset = self.time_index.last
        for _, header in self.headers(self.index.last_position(), position):
            if header.max_timestamp > self._max_timestamp and header.record_count:
                self._max_timestamp = header.max_timestamp
                self._max_timestamp_offset = header.last_offset

    def rebuild_indexes(self) -> None:
        """Both indexes anew from the headers in the file, and durable: a segment that was settled
        is not looked at again. Where that fails they hold less than they might."""
        size, since = self.size_bytes, self.bytes_since_entry
        times = self._max_timestamp, self._max_timestamp_offset, self._rolling_timestamp
        self.forget()
        try:
            for _, header in self.headers(0, size):
                self.note((header,), header.base_offset)
        except BaseException:
            self.size_bytes, self.bytes_since_entry = size, since
            self._max_timestamp, self._max_timestamp_offset, self._rolling_timestamp = times
            raise
        for file in self.trimmed_files():
            if file is not self._file:
                file.sync()

    def forget(self) -> None:
        """Start from an empty file and empty indexes; `note` tells what is there."""
        self.index.reset()
        self.time_index.reset()
        self.size_bytes = self.bytes_since_entry = 0
        self._max_timestamp, self._rolling_timestamp = -1, _UNKNOWN
        self._max_timestamp_offset = self.base_offset

    def trim(self) -> None:
        """No more batches come: the last time entry, and all files cut to their size."""
        if self.file.size() != self.size_bytes:
            self.file.truncate(self.size_bytes)
        self.time_index.maybe_add(self.max_timestamp, self.max_timestamp_offset)
        self.index.trim()
        self.time_index.trim()

    def release(self) -> None:
        """Let go of the maps that look-ups left."""
        self.index.release()
        self.time_index.release()

    def close_indexes(self) -> None:
        self.index.close()
        self.time_index.close()
        if self._transaction_index is not None:
            self._transaction_index.close()

    def close(self) -> None:
        self.close_indexes()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.log is not None:
            self.log.closed(self)

    def trimmed_files(self) -> list[File]:
        """All three files, open, as `trim` leaves them."""
        self.trim()
        files = (self.file, self.index.file, self.time_index.file)
        return [file for file in files if file is not None]

    # -- reading

    def is_unread(self, position: int, length: int) -> bool:
        """Whether nobody has looked at these bytes since an earlier life wrote them."""
        start, end = self.checked
        behind = min(position + length, self.unread_bytes)
        return position < behind and not start <= position <= behind <= end

    def note_checked(self, position: int, length: int) -> None:
        """These bytes are sound. Sequential readers widen what is known; others begin anew."""
        start, end = self.checked
        behind = position + length
        if position <= end and start <= behind:
            self.checked = (min(start, position), max(end, behind))
        else:
            self.checked = (position, behind)

    def header_at(self, position: int) -> BatchHeader:
        """The header of the batch at `position`; CorruptionError if there is none."""
        return next(self.headers(position, self.size_bytes))[1]

    def headers(self, position: int, end: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of each batch from `position` to `end`; see `scan_headers`."""
        return scan_headers(LogFile(self), self.base_offset, position, end)

"""One pass of compaction over a log: of each key the last record stays, and offsets stay.

A pass reads the dirty part of the log into a map from keys to their last offsets (`survey`), then
writes the segments up to where the map speaks anew, some into one (`clean`). A record stays when

    it lies past what the map speaks of, or
    it has a key, of which no later record is known, and a value
        (or no value, and the delete horizon of its batch has not come)

A batch of which nothing stays goes, but for the one that holds the last sequence of a producer
who is still known, and the last of the pass: these stay empty. Tombstones, and markers of
transactions without data, get a delete horizon the first time they are met: now and
`delete.retention.ms`, in place of the batch's base timestamp; they go when it has passed. Data of
aborted transactions goes at once (`cleaned_transactions`).

All of it is work for helper threads, in steps: both methods are generators that yield, after
about a millisecond of work each, how many bytes they read and wrote. They open files of their
own, by name, read nothing but sealed segments and write nothing but `.cleaned` files; whoever
drives them may stop at any step. What a `clean` leaves is whole and durable: its `.log` still has
the name `.cleaned`, its indexes are `.swap` (see `replacement`).

Every batch's CRC is checked before its records are believed. CorruptionError where one is not
sound, and nothing is dropped then.

Differences from Kafka. A batch that changes is packed with the topic's codec if it names one
(Kafka: the batch's own), unless that makes it larger. Neighbours are put into one segment as long
as what the next may add fits behind what came out so far (Kafka: behind what went in), so that
few segments are nearly empty. A made segment always has a batch that reaches into the last
segment it replaces, if only an empty one, so that its place is told by itself after a crash.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.world import Bytes, Disk
from ottla.records import sieve
from ottla.records.batch import (
    BatchHeader,
    read_header,
)
from ottla.records.sieve import RawRecord
from ottla.storage import segment_files
from ottla.storage.cleaned_transactions import CleanedTransactions
from ottla.storage.config import LONG_MAX, LogConfig
from ottla.storage.header_scan import OFFSET_DELTA_MAX
from ottla.storage.index_file import IndexFile
from ottla.storage.names import (
    CLEANED,
    LOG,
    OFFSET_INDEX,
    SWAP,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
    parse_file,
)
from ottla.storage.offset_map import OffsetMap
from ottla.storage.sealed_batches import Batch, control_key, records_of, sealed_batches
from ottla.storage.segment import Segment
from ottla.storage.transaction_index import (
    AbortedTransaction,
    TransactionIndex,
    pack_entries,
)

STEP_WORK: Final = 400
"""A step ends after so many records, or as many KiB: about a millisecond."""
SYNC_BYTES: Final = 4 << 20
"""What is written is synced so often: one sync of all of it would hold up those of producers."""
POSITION_MAX: Final = (1 << 31) - 1


class Source(NamedTuple):
    """A sealed segment."""

    base_offset: int
    size_bytes: int
    end_offset: int
    """Where the next one begins."""


class LastBatch(NamedTuple):
    """What a producer that is still known wrote last."""

    last_offset: int
    """Of its data; -1 where there is none, and its last marker stands for it."""
    epoch: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass must know, taken down on the node's thread."""

    directory: str
    config: LogConfig
    sources: Sequence[Source]
    """From the first of the log to the last that may be compacted."""
    later: Sequence[int]
    """Base offsets of the sealed segments behind them."""
    aborted: Sequence[AbortedTransaction]
    """Aborted transactions that segments tell of which are not sealed yet."""
    first_dirty_offset: int
    end_offset: int
    """Behind the last of `sources`."""
    now_ms: int
    producers: dict[int, LastBatch]
    map_bytes: int
    load_factor: float
    read_bytes: int


class Compaction:
    def __init__(self, disk: Disk, plan: Plan) -> None:
        self.disk = disk
        self.plan = plan
        self.next_dirty_offset = plan.first_dirty_offset
        """Known after `survey`: below it all is clean when the pass has ended."""
        self.group: list[Source] = []
        self.cleaned: Segment | None = None
        """What the last `clean` made, and what it was made of."""
        self.record_count = self.kept_count = 0
        self._map: OffsetMap
        self._aborted: list[AbortedTransaction] = []
        self._transactions = CleanedTransactions(())
        self._left: deque[Source] = deque()
        self._work = self._bytes = 0

    @property
    def has_more(self) -> bool:
        """Whether there is something to `clean` yet."""
        return bool(self._left)

    # -- in steps

    def _step(self) -> int:
        """Bytes of the step that ends here."""
        taken, self._work, self._bytes = self._bytes, 0, 0
        return taken

    def _spend(self, size_bytes: int) -> bool:
        """So many bytes were read or written; whether the step has been long enough."""
        self._work += 1 + (size_bytes >> 10)
        self._bytes += size_bytes
        return self._work >= STEP_WORK

    # -- what is there

    def survey(self) -> Iterator[int]:
        """Fill the map from the dirty part of the log, and see what is to be made."""
        plan = self.plan
        self.remove_leftovers()
        self._read_aborted()
        transactions = CleanedTransactions(self._aborted)
        dirty = [each for each in plan.sources if each.end_offset > plan.first_dirty_offset]
        count = plan.end_offset - plan.first_dirty_offset
        self._map = OffsetMap(plan.map_bytes, plan.load_factor, count)
        self._map.latest_offset = plan.first_dirty_offset - 1
        for source in dirty:
            if not (yield from self._map_segment(source, transactions)):
                break
            self._map.latest_offset = source.end_offset - 1
        self.next_dirty_offset = self._map.latest_offset + 1
        self._transactions = CleanedTransactions(self._aborted)
        self._left.extend(
            each for each in plan.sources if each.base_offset < self.next_dirty_offset
        )
        yield self._step()

    def remove_leftovers(self) -> None:
        """Remove what a pass that was given up left. It must not be there when a segment of ours
        is `.swap`: recovery would take that for half done."""
        for name in self.disk.list_directory(self.plan.directory):
            file = parse_file(name)
            if file is not None and file.state in (CLEANED, SWAP):
                self.disk.remove(f"{self.plan.directory}/{name}")

    def _read_aborted(self) -> None:
        bases = [*(each.base_offset for each in self.plan.sources), *self.plan.later]
        found = list(self.plan.aborted)
        for base in bases:
            index = TransactionIndex(self.disk, self._path(base, TRANSACTION_INDEX), base)
            found += index.entries()
        self._aborted = found

    def _path(self, base_offset: int, kind: str) -> str:
        return f"{self.plan.directory}/{file_name(base_offset, kind)}"

    def _map_segment(
        self, source: Source, transactions: CleanedTransactions
    ) -> Generator[int, None, bool]:
        """Whether the map took all of it."""
        start, map_ = self.plan.first_dirty_offset, self._map
        for batch in self._batches(source):
            header = batch.header
            if self._spend(header.size_bytes):
                yield self._step()
            if header.last_offset < start:
                continue
            if header.is_control:
                transactions.is_spent(header, control_key(batch), batch.path)
            elif not transactions.is_aborted(header):
                for record in records_of(batch)[1]:
                    if record.key is not None and record.offset >= start:
                        if not map_.put(record.key, record.offset):
                            return False
                        map_.latest_offset = record.offset
                    self._work += 1
                    if self._work >= STEP_WORK:
                        yield self._step()
            map_.latest_offset = max(map_.latest_offset, header.last_offset)
        return True

    def _batches(self, source: Source) -> Iterator[Batch]:
        path = self._path(source.base_offset, LOG)
        return sealed_batches(self.disk, path, source.size_bytes, self.plan.read_bytes)

    # -- what is made

    def clean(self) -> Iterator[int]:
        """Make one segment of the next sources; it is `cleaned` then, and they are its `group`.
        Where those are empty files, they stay as they are, and nothing is made."""
        plan = self.plan
        self.cleaned, self.group = None, [self._left.popleft()]
        base_offset = self.group[0].base_offset
        segment = Segment(
            self.disk, plan.directory, base_offset, plan.config, size_bytes=0, state=CLEANED
        )
        try:
            segment.make()
            yield from self._fill(segment)
            if not segment.size_bytes:
                self.disk.remove(segment.path)
                return
            self._write_aborted(segment)
            for file in segment.trimmed_files():
                file.sync()
                yield self._step()
        finally:
            segment.close()
        segment_files.rename_indexes(segment, SWAP)
        self.disk.sync_directory(plan.directory)
        self.cleaned = segment
        yield self._step()

    def _fill(self, segment: Segment) -> Iterator[int]:
        synced_bytes = 0
        written_offset = last_base = -1
        last: BatchHeader | None = None
        source: Source | None = self.group[0]
        while source is not None:
            for batch in self._batches(source):
                last, last_base = batch.header, source.base_offset
                left = yield from self._sift(batch)
                if left is not None:
                    written_offset = last.last_offset
                    self._write(segment, left)
                if self._spend(last.size_bytes):
                    yield self._step()
                if segment.size_bytes - synced_bytes > SYNC_BYTES:
                    segment.file.sync()
                    synced_bytes = segment.size_bytes
            source = self._next_source(segment)
        if written_offset < last_base and last is not None:
            self._write(segment, sieve.filler_batch(last))

    def _next_source(self, segment: Segment) -> Source | None:
        """The next one, if what it may add finds room in the segment and in its indexes."""
        source = self._left[0] if self._left else None
        if source is None or not _is_within_delta(self.group[0], source):
            return None
        if segment.size_bytes and (
            segment.size_bytes + source.size_bytes > self.plan.config.segment_bytes
            or self._is_full(segment.index, source, OFFSET_INDEX)
            or self._is_full(segment.time_index, source, TIME_INDEX)
        ):
            return None
        self.group.append(self._left.popleft())
        return source

    def _is_full(self, index: IndexFile, source: Source, kind: str) -> bool:
        """Whether an index has no room for all that the source's holds."""
        path = self._path(source.base_offset, kind)
        more = self.disk.size(path) if self.disk.exists(path) else 0
        return index.count * index.entry_bytes + more > self.plan.config.segment_index_bytes

    def _write(self, segment: Segment, batch: Bytes) -> None:
        if segment.size_bytes + len(batch) > POSITION_MAX:
            raise CorruptionError("would grow past 2 GiB", path=segment.path)
        header = read_header(batch)
        segment.append(memoryview(batch), (header,), header.base_offset)
        self._bytes += len(batch)

    def _write_aborted(self, segment: Segment) -> None:
        """Its transaction index: an empty one too, where one of the same name has to go."""
        kept = self._transactions.take_kept()
        if kept or self.disk.exists(self._path(segment.base_offset, TRANSACTION_INDEX)):
            file = segment.transaction_index.open()
            file.pwrite(pack_entries(kept), 0)
            file.sync()

    def _sift(self, batch: Batch) -> Generator[int, None, Bytes | None]:
        """What is left of a batch; None where nothing is."""
        header = batch.header
        is_spent = self._is_spent(batch)
        horizon = header.base_timestamp if header.has_delete_horizon else None
        if header.is_control:
            is_over = is_spent and horizon is not None and horizon <= self.plan.now_ms
        else:
            is_over = is_spent
        kept: list[RawRecord] = []
        if header.record_count and not is_over:
            body, records = records_of(batch)
            for record in records:
                if header.is_control or self._is_kept(record, horizon):
                    kept.append(record)
                self._work += 1
                if self._work >= STEP_WORK:
                    yield self._step()
        self.record_count += header.record_count
        self.kept_count += len(kept)
        if kept:
            is_due = (is_spent and header.is_control) or any(not each.has_value for each in kept)
            if is_due and horizon is None:
                new_horizon = min(self.plan.now_ms + self.plan.config.delete_retention_ms, LONG_MAX)
                return self._rebuilt(header, body, kept, new_horizon)
            if len(kept) == header.record_count:
                return batch.view
            return self._rebuilt(header, body, kept, None)
        return sieve.empty_batch(header) if self._stays_empty(header) else None

    def _is_spent(self, batch: Batch) -> bool:
        if batch.header.is_control:
            return self._transactions.is_spent(batch.header, control_key(batch), batch.path)
        return self._transactions.is_aborted(batch.header)

    def _is_kept(self, record: RawRecord, horizon_ms: int | None) -> bool:
        if record.offset > self._map.latest_offset:
            return True
        if record.key is None or record.offset < self._map.get(record.key):
            return False
        return record.has_value or horizon_ms is None or self.plan.now_ms < horizon_ms

    def _rebuilt(
        self, header: BatchHeader, body: bytes, kept: Sequence[RawRecord], horizon_ms: int | None
    ) -> Bytes:
        config = self.plan.config
        packing = sieve.Packing(config.codec, config.codec_level)
        return sieve.rebuild(
            header, body, kept, sieve.Packing() if header.is_control else packing, horizon_ms
        )

    def _stays_empty(self, header: BatchHeader) -> bool:
        if header.last_offset + 1 == self.plan.end_offset:
            return True
        last = self.plan.producers.get(header.producer_id)
        if header.producer_id < 0 or last is None:
            return False
        if last.last_offset >= 0:
            return header.last_offset == last.last_offset
        return header.is_control and header.producer_epoch == last.epoch


def _is_within_delta(first: Source, source: Source) -> bool:
    return not source.size_bytes or source.end_offset - 1 - first.base_offset <= OFFSET_DELTA_MAX

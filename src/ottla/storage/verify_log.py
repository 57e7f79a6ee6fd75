"""One partition's directory, looked at without changing a byte of it.

All batches are walked: header, CRC, place, and the records unpacked, so that what the log says of
itself is known, and everything beside it is held to that: indexes, producer snapshots, the book of
leader epochs, and the lines that the log directory's checkpoints have for this partition.

What counts as damage depends on how the directory was left. After a clean stop every file is
believed by the next start. After any other the next start reads what lies past the recovery point
and cuts it where it is torn, builds the indexes of what it read anew, and passes over a snapshot
that is not whole: those are notes here.

Offsets ascend without a gap unless compaction took some, which it does below its checkpoint only.
Records that cannot be read under a true CRC are as their producer sent them: a note.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ottla.base.errors import CorruptionError, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES
from ottla.base.world import Disk, File
from ottla.records.batch import BatchHeader
from ottla.records.record import iterate_records
from ottla.storage.batch_walk import Stretch, walk
from ottla.storage.checkpoints import read_whole
from ottla.storage.findings import (
    AT_START,
    CUT,
    HARMLESS,
    LOST,
    REBUILD,
    Finding,
    damage,
    note,
)
from ottla.storage.header_scan import OFFSET_DELTA_MAX
from ottla.storage.identity import read_topic_id, topic_id_text
from ottla.storage.leader_epochs import LeaderEpochs, read_leader_epochs
from ottla.storage.markers import marker_at
from ottla.storage.names import (
    LEADER_EPOCHS,
    LOG,
    OFFSET_INDEX,
    PARTITION_METADATA,
    SNAPSHOT,
    TEMPORARY,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
    parse_file,
)
from ottla.storage.producer_state import ProducerState
from ottla.storage.sound import OFFSET_MAX
from ottla.storage.verify_index import OffsetIndexCheck, TimeIndexCheck, TransactionIndexCheck
from ottla.storage.verify_known import Known

BATCH_BYTES: Final = 128 << 20
"""Larger batches are not unpacked."""


@dataclass(slots=True)
class Tally:
    """What was looked at."""

    logs: int = 0
    segments: int = 0
    batches: int = 0
    records: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class _Place:
    """Where one segment stands among the others."""

    base_offset: int
    size_bytes: int
    end_limit: int
    is_trusted: bool
    """A start believes its indexes."""


@dataclass(slots=True)
class _Books:
    """What the batches say of what is kept beside them."""

    producers: ProducerState = field(default_factory=ProducerState)
    epochs: LeaderEpochs | None = None
    snapshots: list[int] = field(default_factory=list)
    next_offset: int = -1
    has_gaps: bool = False
    is_whole: bool = True
    """No unsound batch was met."""
    is_behind_damage: bool = False
    """What stands before the next batch is not known."""
    epoch_faults: int = 0


class LogCheck:
    """`findings` walks the partition once; then `end_offset` and the others are known."""

    def __init__(
        self, disk: Disk, directory: str, known: Known, tally: Tally, *, with_records: bool = True
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.known = known
        self.tally = tally
        self.with_records = with_records
        self.end_offset = 0
        self.torn_at: tuple[str, int, int] | None = None
        """(path, position, offset) of a tail that no flush covered."""
        self.first_base = 0
        self._books = _Books()
        self._is_over = False

    @property
    def is_whole(self) -> bool:
        """No batch was met that is not sound."""
        return self._books.is_whole

    @property
    def is_torn(self) -> bool:
        return self.torn_at is not None

    def findings(self) -> Iterator[Finding]:
        names = self.disk.list_directory(self.directory)
        yield from self._names(names)
        files = [each for each in map(parse_file, names) if each and not each.state]
        bases = [each.offset for each in files if each.kind == LOG]
        books = self._books
        books.snapshots = [each.offset for each in files if each.kind == SNAPSHOT]
        yield from self._metadata(names)
        yield from self._load_epochs(names)
        self.tally.logs += 1
        self.first_base = self.end_offset = bases[0] if bases else self.known.log_start_offset or 0
        books.next_offset = self.end_offset
        places = self._places(bases)
        for place in places:
            if self._is_over:
                break
            yield from self._segment(place, dict.fromkeys(names))
        if not self._is_over:
            self.end_offset = books.next_offset
        yield from self._snapshots_to(OFFSET_MAX)
        known, end, epochs = self.known, self.end_offset, books.epochs
        yield from known.findings(self.directory, end, is_torn=self._is_over)
        if epochs is not None:
            yield from known.epoch_findings(self.disk, self.directory, epochs, self.first_base, end)

    # -- what is there

    def _names(self, names: list[str]) -> Iterator[Finding]:
        logs = {each.offset: None for each in map(parse_file, names) if each and each.kind == LOG}
        for name in names:
            path = f"{self.directory}/{name}"
            file = parse_file(name)
            if name.endswith(TEMPORARY) or (file is not None and file.state):
                size = self.disk.size(path)
                yield note(path, f"left over, {size} bytes", AT_START)
            elif file is not None and file.kind != SNAPSHOT and file.offset not in logs:
                yield note(path, "its segment is not there", AT_START)
            elif file is None and name not in (LEADER_EPOCHS, PARTITION_METADATA):
                yield note(path, "no file of a log", HARMLESS)

    def _metadata(self, names: list[str]) -> Iterator[Finding]:
        path = f"{self.directory}/{PARTITION_METADATA}"
        if PARTITION_METADATA not in names:
            yield note(path, "is not there; it comes with the first flush", AT_START)
            return
        try:
            topic_id = read_topic_id(self.disk, self.directory)
        except CorruptionError as error:
            yield damage(path, error.cause, REBUILD, size_bytes=error.size_bytes)
            return
        if topic_id is not None:
            data = read_whole(self.disk, path)
            if data.rstrip(b"\n") != topic_id_text(topic_id):
                yield damage(path, "not as it was written", REBUILD, size_bytes=len(data))

    def _load_epochs(self, names: list[str]) -> Iterator[Finding]:
        path = f"{self.directory}/{LEADER_EPOCHS}"
        try:
            self._books.epochs = read_leader_epochs(self.disk, path)
        except CorruptionError as error:
            yield damage(path, error.cause, REBUILD, size_bytes=error.size_bytes)
            return
        epochs = self._books.epochs
        if epochs is None:
            return
        size = self.disk.size(path)
        if epochs.entries and epochs.entries[0].epoch < 0:
            yield damage(path, "an epoch below 0", REBUILD, size_bytes=size)
        elif read_whole(self.disk, path) != epochs.text():
            yield damage(path, "not as it was written", REBUILD, size_bytes=size)

    def _places(self, bases: list[int]) -> list[_Place]:
        sizes = [self.disk.size(f"{self.directory}/{file_name(base, LOG)}") for base in bases]
        places = []
        point = self.known.recovery_point or 0
        for at, (base, size) in enumerate(zip(bases, sizes, strict=True)):
            is_last = at + 1 == len(bases)
            is_written = is_last or (at + 2 == len(bases) and not sizes[-1])
            is_flushed = not is_written and bases[at + 1] < point and size > 0
            limit = base + OFFSET_DELTA_MAX + 1 if is_last else bases[at + 1]
            places.append(_Place(base, size, limit, self.known.is_clean or is_flushed))
        return places

    # -- one segment

    def _segment(self, place: _Place, names: dict[str, None]) -> Iterator[Finding]:
        stem = f"{self.directory}/{file_name(place.base_offset, '')}"
        self.tally.segments += 1
        self.tally.size_bytes += place.size_bytes
        yield from self._gap(stem + LOG, 0, place.base_offset)
        self._books.next_offset = max(self._books.next_offset, place.base_offset)
        checks = (
            OffsetIndexCheck(
                self.disk, stem + OFFSET_INDEX, place.base_offset, is_trusted=place.is_trusted
            ),
            TimeIndexCheck(
                self.disk, stem + TIME_INDEX, place.base_offset, is_trusted=place.is_trusted
            ),
            TransactionIndexCheck(
                self.disk, stem + TRANSACTION_INDEX, place.base_offset, is_trusted=place.is_trusted
            ),
        )
        file = self.disk.open(stem + LOG, read_only=True)
        try:
            yield from self._batches(file, place, checks)
            for check in checks:
                if not self._is_over:
                    check.end()
                yield from check.findings()
        finally:
            file.close()
            for check in checks:
                check.close()
        for kind in (OFFSET_INDEX, TIME_INDEX):
            if place.size_bytes and file_name(place.base_offset, kind) not in names:
                yield note(stem + kind, "is not there", AT_START)

    def _batches(
        self,
        file: File,
        place: _Place,
        checks: tuple[OffsetIndexCheck, TimeIndexCheck, TransactionIndexCheck],
    ) -> Iterator[Finding]:
        books = self._books
        offsets, times, aborts = checks
        last_end = place.base_offset
        for each in walk(file, place.base_offset, place.size_bytes, end_offset=place.end_limit):
            header = each.header
            has_data = header is not None and header.producer_id in books.producers.transactions
            if each.fault or header is None:
                yield self._unsound(file, each)
                if self._is_over:
                    return
                if each.fault != "CRC" or header is None:
                    for check in checks:
                        check.skip(each.position + each.size_bytes, last_end)
                    continue
            else:
                yield from self._sound(file, each, header)
            marker = None if each.fault else marker_at(file, each.position, header)
            if marker is not None and not marker.committed:
                aborts.aborted(header, is_due=has_data)
            offsets.batch(each.position, header)
            times.batch(each.position, header)
            last_end = header.last_offset + 1
            books.next_offset = max(last_end, books.next_offset)

    def _unsound(self, file: File, each: Stretch) -> Finding:
        books = self._books
        first = books.is_whole
        books.is_whole, books.is_behind_damage = False, True
        point = self.known.recovery_point or 0
        if first and not self.known.is_clean and books.next_offset >= point:
            self._is_over = True
            self.end_offset = books.next_offset
            self.torn_at = (file.path, each.position, books.next_offset)
            size = file.size() - each.position
            cause = f"{each.fault}: a tail that no flush covered ends at offset {self.end_offset}"
            return note(
                file.path, cause, f"{AT_START}, or {CUT}", position=each.position, size_bytes=size
            )
        return damage(
            file.path, each.fault, LOST, position=each.position, size_bytes=each.size_bytes
        )

    def _sound(self, file: File, each: Stretch, header: BatchHeader) -> Iterator[Finding]:
        books = self._books
        self.tally.batches += 1
        yield from self._gap(file.path, each.position, header.base_offset)
        yield from self._snapshots_to(header.base_offset)
        yield from self._epoch(file.path, each, header)
        if header.producer_id >= 0:
            books.producers.update(header, header.base_offset)
        if self.with_records:
            yield from self._records(file, each, header)

    def _gap(self, path: str, position: int, offset: int) -> Iterator[Finding]:
        due = self._books.next_offset
        is_behind_damage, self._books.is_behind_damage = self._books.is_behind_damage, False
        if offset <= due or is_behind_damage:
            return
        self._books.has_gaps = True
        cleaned_end = self.known.cleaned_end
        if cleaned_end is None or cleaned_end <= due:
            cause = f"offsets {due} to {offset - 1} are missing, and no compaction took them"
            yield damage(path, cause, LOST, position=position)

    def _epoch(self, path: str, each: Stretch, header: BatchHeader) -> Iterator[Finding]:
        books, epoch = self._books, header.partition_leader_epoch
        if books.epochs is None:
            return
        offset = max(header.base_offset, self.known.log_start_offset or 0)
        if offset > header.last_offset:
            return  # below the log start, of which the book tells nothing
        told = books.epochs.epoch_of(offset)
        is_newer = epoch > books.epochs.latest and not self.known.is_clean
        if told == epoch or (is_newer and header.last_offset >= (self.known.recovery_point or 0)):
            return
        books.epoch_faults += 1
        if books.epoch_faults == 1:
            cause = f"leader epoch {epoch} where {LEADER_EPOCHS} has {told}"
            yield damage(path, cause, REBUILD, position=each.position, size_bytes=each.size_bytes)

    def _records(self, file: File, each: Stretch, header: BatchHeader) -> Iterator[Finding]:
        cause = ""
        if each.size_bytes > BATCH_BYTES:
            cause = "too large to be unpacked"
        else:
            try:
                cause = self._walk_records(file.pread(each.size_bytes, each.position), header)
            except KafkaError as error:
                cause = error.message or error.code.name
        if cause:
            yield note(
                file.path,
                f"records of the batch at offset {header.base_offset}: {cause}",
                "as its producer sent it",
                position=each.position,
                size_bytes=each.size_bytes,
            )

    def _walk_records(self, batch: bytes, header: BatchHeader) -> str:
        before = header.base_offset - 1
        count = 0
        for record in iterate_records(batch, DECOMPRESSED_BYTES):
            if not before < record.offset <= header.last_offset:
                return f"record of offset {record.offset} behind {before}"
            before = record.offset
            count += 1
        self.tally.records += count
        return ""

    # -- what is kept beside the log

    def _snapshots_to(self, offset: int) -> Iterator[Finding]:
        """Those taken at or below `offset`, which the batches before it are held to."""
        books = self._books
        while books.snapshots and books.snapshots[0] <= offset:
            at = books.snapshots.pop(0)
            path = f"{self.directory}/{file_name(at, SNAPSHOT)}"
            size = self.disk.size(path)
            cause, state = "", ProducerState()
            try:
                state.load(read_whole(self.disk, path), path)
                cause = self._snapshot_fault(state, at)
            except CorruptionError as error:
                cause = error.cause
            if cause and self.known.is_clean:
                yield damage(path, cause, REBUILD, size_bytes=size)
            elif cause:
                yield note(path, cause, AT_START, size_bytes=size)

    def _snapshot_fault(self, state: ProducerState, at: int) -> str:
        if at > self._books.next_offset:
            return f"taken at offset {at}, the log ends at {self._books.next_offset}"
        for producer in state:
            saved = producer.batches[-1].last_offset if producer.batches else -1
            if saved >= at:
                return f"producer {producer.producer_id} has offset {saved}, past {at}"
            seen = self._books.producers.get(producer.producer_id)
            if seen is None or not seen.batches or not self._books.is_whole:
                continue
            last = seen.batches[-1]
            if saved < last.last_offset or (saved > last.last_offset and not self._books.has_gaps):
                return (
                    f"producer {producer.producer_id} has offset {saved},"
                    f" in the log it is {last.last_offset}"
                )
            if saved == last.last_offset and producer.epoch != seen.epoch:
                return f"producer {producer.producer_id} has epoch {producer.epoch}"
        return ""

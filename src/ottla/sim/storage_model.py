"""What is known of the logs of a directory, and what must therefore be found in it.

A `Model` stands beside each log: what was appended to it, how much of that was flushed, where it
may start and where it must. A `Promise` is a model at one moment; `hold` holds a log that was
opened against it, and raises a `Violation`:

    lost         a batch that was flushed is not there, or not as it was; a log has a hole
    resurrected  what is there was never written there, was cut off by a truncation that a flush
                 has covered, or stands below a log start that was told to be durable
    forgotten    the producer's last sequence, or the latest epoch, is not that of the last batch
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ottla.base.ids import Uuid
from ottla.records.batch import iterate_headers, read_header
from ottla.records.record import iterate_records
from ottla.sim.workload import Violation
from ottla.storage.log import Log


class Batch(NamedTuple):
    base_offset: int
    data: bytes


@dataclass
class Model:
    """What is known of a partition. `batches` is appended to and never changed, so that an image
    keeps it by reference."""

    topic_id: Uuid
    batches: list[Batch] = field(default_factory=list)
    end: int = 0
    firm_end: int = 0
    told_start: int = 0
    asked_start: int = 0
    former: dict[int, list[bytes]] = field(default_factory=dict)
    """Batches by offset that a truncation took, and no flush has covered that yet."""
    is_compacted: bool = False
    coming: bytearray | None = None
    """A batch of which nobody knows yet whether it was written."""

    def truncate(self, offset: int) -> int:
        """Where the log ends then."""
        at = bisect_left(self.batches, (offset + 1,)) - 1 if offset < self.end else 0
        at = max(at, 0)
        kept, cut = self.batches[:at], self.batches[at:]
        self.former = {each: list(known) for each, known in self.former.items()}
        for batch in cut:
            self.former.setdefault(batch.base_offset, []).append(batch.data)
        self.batches = kept
        self.end = cut[0].base_offset if cut else self.end
        self.firm_end = min(self.firm_end, self.end)
        return self.end


class Promise(NamedTuple):
    """A model at the moment of an image."""

    topic_id: Uuid
    batches: list[Batch]
    batch_count: int
    firm_end: int
    told_start: int
    asked_start: int
    former: dict[int, list[bytes]]
    coming: bytes | None
    is_compacted: bool
    last_sequence: int
    """Of the producer, where that must be known without its batches; -1 where not."""


def promise_of(model: Model) -> Promise:
    return Promise(
        model.topic_id,
        model.batches,
        len(model.batches),
        model.firm_end,
        model.told_start,
        model.asked_start,
        model.former,
        bytes(model.coming) if model.coming is not None else None,
        model.is_compacted,
        -1,
    )


def whole_promise_of(model: Model) -> Promise:
    """After the death of the process alone: the page cache is there, so all that was appended
    is, and so are the snapshots."""
    last = last_sequence(model.batches[-1].data) if model.batches else -1
    return promise_of(model)._replace(firm_end=model.end, last_sequence=last)


def last_sequence(batch: bytes) -> int:
    header = read_header(memoryview(batch), 0)
    return header.base_sequence + header.last_offset_delta


# ---- what was found


def batches_of(log: Log) -> Iterator[Batch]:
    """All from the log start on, read as a consumer reads."""
    offset, hint = log.log_start_offset, None
    while offset < log.log_end_offset:
        found = log.read(offset, 1 << 20, log.log_end_offset, hint=hint)
        if found is None:
            raise Violation("lost", f"nothing at {offset} of {log.log_end_offset}")
        file, position, length = found.range
        data = file.pread(length, position)
        for at, header in iterate_headers(data):
            yield Batch(header.base_offset, data[at : at + header.size_bytes])
            offset = header.last_offset + 1
        hint = found.hint


def hold(promise: Promise, log: Log) -> None:
    """Violation where a log is not what was promised."""
    found = list(batches_of(log))
    start, end = log.log_start_offset, log.log_end_offset
    if end < promise.firm_end:
        raise Violation("lost", f"ends at {end}, {promise.firm_end} was flushed")
    if start < promise.told_start:
        raise Violation("resurrected", f"starts at {start}, {promise.told_start} was told")
    # Where nothing at or past the start was flushed, the first segment may be gone as a whole.
    if start > promise.asked_start < promise.firm_end:
        raise Violation("lost", f"starts at {start}, nobody asked past {promise.asked_start}")
    sequences = [producer.last_sequence for producer in log.producers()]
    if not found:
        if promise.last_sequence >= 0 and sequences != [promise.last_sequence]:
            raise Violation("forgotten", f"producers {sequences}, not {promise.last_sequence}")
        return
    first = bisect_left(promise.batches, (found[0].base_offset,))
    if promise.is_compacted:
        _hold_latest(promise, found)
    elif (
        found[0].base_offset > start
        or found != promise.batches[first : min(first + len(found), promise.batch_count)]
    ):
        _hold_each(promise, found, start)
    last = last_sequence(found[-1].data)
    if sequences != [last]:
        raise Violation("forgotten", f"producers {sequences}, its last batch ends at {last}")
    epoch = read_header(memoryview(found[-1].data), 0).partition_leader_epoch
    if log.epochs.latest != epoch:
        raise Violation("forgotten", f"latest epoch {log.epochs.latest}, of its last batch {epoch}")


def _hold_latest(promise: Promise, found: list[Batch]) -> None:
    """After compaction: each record that is there was written there, and of each key the latest
    that was flushed is there, or a later one."""
    batches = promise.batches[: promise.batch_count]
    if promise.coming is not None:
        batches.append(Batch(promise.firm_end, promise.coming))
    written = dict(records_of(batches))
    latest = {key: offset for offset, (key, _) in written.items() if offset < promise.firm_end}
    there: dict[bytes | None, int] = {}
    for offset, record in records_of(found):
        if written.get(offset) != record:
            raise Violation("resurrected", f"the record at {offset} is none that was written")
        if offset <= max(there.values(), default=-1):
            raise Violation("lost", f"offset {offset} comes too late")
        there[record[0]] = offset
    for key, offset in latest.items():
        if there.get(key, -1) < offset:
            raise Violation(
                "lost", f"of key {key!r} {offset} is the latest, found {there.get(key)}"
            )


def records_of(batches: list[Batch]) -> Iterator[tuple[int, tuple[bytes | None, bytes | None]]]:
    """(offset, (key, value)) of each record, in order."""
    for batch in batches:
        for record in iterate_records(batch.data, len(batch.data)):
            yield record.offset, (record.key, record.value)


def _hold_each(promise: Promise, found: list[Batch], start: int) -> None:
    known = {batch.base_offset: batch.data for batch in promise.batches[: promise.batch_count]}
    if promise.coming is not None:
        offset = read_header(memoryview(promise.coming), 0).base_offset
        promise.former.setdefault(offset, []).append(promise.coming)
    due = min(found[0].base_offset, start)
    for batch in found:
        if batch.base_offset != due:
            raise Violation("lost", f"offset {batch.base_offset} where {due} was due")
        is_known = known.get(batch.base_offset) == batch.data
        if not is_known and batch.base_offset < promise.firm_end:
            raise Violation("lost", f"the batch at {batch.base_offset} is not what was flushed")
        if not is_known and batch.data not in promise.former.get(batch.base_offset, ()):
            raise Violation(
                "resurrected", f"the batch at {batch.base_offset} is none that was written"
            )
        due += read_header(memoryview(batch.data), 0).last_offset_delta + 1

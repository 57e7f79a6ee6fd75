"""From a timestamp to a record: ListOffsets by time, and the largest timestamp of all.

The time index leads to a place from which on the record must be, headers to its batch, and only
that one batch is unpacked. No checksum covers the index, so an entry is believed where the batch
that it names has that timestamp, and the last one where first and last batch have none above;
else both indexes are built anew from the log.

A batch whose records cannot be read, or are too many to be walked on the reactor, is answered for
as a whole, by its first offset and its largest timestamp: it was taken as it came
(`record.validation`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ottla.base.errors import KafkaError
from ottla.base.limits import LOOKED_INTO_BYTES, WALKED_RECORDS_COUNT
from ottla.records.batch import BatchHeader
from ottla.records.record import iterate_records
from ottla.storage import reader
from ottla.storage.segment import Segment


class TimestampedOffset(NamedTuple):
    timestamp: int
    offset: int
    leader_epoch: int


def largest(segment: Segment) -> int:
    """The largest timestamp of a segment, by an index that was held against the log."""
    if not segment.are_times_checked and segment.unread_bytes:
        told = segment.max_timestamp
        ends = (segment.header_at(0), reader.last_header(segment))
        is_short = any(each and each.record_count and each.max_timestamp > told for each in ends)
        if is_short or not _is_true(segment, told, segment.max_timestamp_offset):
            reader.mend(segment)
    segment.are_times_checked = True
    return segment.max_timestamp


def _is_true(segment: Segment, timestamp: int, offset: int) -> bool:
    """Whether the batch that holds `offset` has this largest timestamp."""
    if (timestamp, offset) == (-1, segment.base_offset):
        return True  # no entry
    found = reader.find(segment, offset)
    return (
        found is not None and found[1].base_offset <= offset and found[1].max_timestamp == timestamp
    )


def first_at(
    segments: Sequence[Segment], timestamp: int, start_offset: int, end_offset: int
) -> TimestampedOffset | None:
    """The first record from `start_offset` on with this timestamp or a later one, if it lies
    below `end_offset`."""
    for segment in segments:
        if largest(segment) < timestamp:
            continue
        for position, header in _batches_for(segment, timestamp, start_offset):
            if header.max_timestamp < timestamp:
                continue
            for record in _records(segment, position, header):
                if record.timestamp >= timestamp and record.offset >= start_offset:
                    return record if record.offset < end_offset else None
    return None


def _batches_for(
    segment: Segment, timestamp: int, start_offset: int
) -> Iterator[tuple[int, BatchHeader]]:
    """From some batch on that lies before all records of this timestamp or a later one, or from
    the one that holds `start_offset`."""
    # Of equal timestamps the entry may name a later one, by a bit: an older entry is taken.
    near = segment.time_index.floor(timestamp - 1)
    if not _is_true(segment, *near):
        reader.mend(segment)
        near = segment.time_index.floor(timestamp - 1)
    return reader.batches_from(segment, max(near.offset, start_offset))


def latest(segments: Sequence[Segment], end_offset: int) -> TimestampedOffset | None:
    """The first record with the largest timestamp of all, if it lies below `end_offset`."""
    best = None
    for segment in sorted(segments, key=largest, reverse=True):
        if segment.max_timestamp <= (best.timestamp if best else -1):
            break
        found = [each for each in (best, _latest_in(segment)) if each]
        best = max(found, key=lambda each: each.timestamp, default=None)
    return best if best is not None and best.offset < end_offset else None


def _latest_in(segment: Segment) -> TimestampedOffset | None:
    """The first record with the largest timestamp of a segment. Where the index that Kafka made
    leads to a batch that compaction left empty, all headers are looked at."""
    wanted, found = segment.max_timestamp, None
    for each in _batches_for(segment, wanted, segment.base_offset):
        if each[1].record_count and each[1].max_timestamp == wanted:
            found = each
            break
    else:
        batches = segment.headers(0, segment.size_bytes)
        told = [each for each in batches if each[1].record_count]
        found = max(told, key=lambda each: each[1].max_timestamp, default=None)
    if found is None:
        return None
    return max(_records(segment, *found), key=lambda each: each.timestamp)


def _records(segment: Segment, position: int, header: BatchHeader) -> Iterator[TimestampedOffset]:
    epoch = header.partition_leader_epoch
    whole = TimestampedOffset(header.max_timestamp, header.base_offset, epoch)
    if header.record_count > WALKED_RECORDS_COUNT:
        yield whole
        return
    batch = segment.file.pread(header.size_bytes, position)
    try:
        for record in iterate_records(batch, LOOKED_INTO_BYTES):
            yield TimestampedOffset(record.timestamp, record.offset, epoch)
    except KafkaError:
        yield whole

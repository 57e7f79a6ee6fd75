"""From a timestamp to a record: ListOffsets by time, and the largest timestamp of all.

The time index leads to a place from which on the record must be, headers to its batch, and only
that one batch is unpacked. A batch whose records cannot be read, or are too many to be walked on
the reactor, is answered for as a whole, by its first offset and its largest timestamp: it was
taken as it came (`record.validation`).
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


def first_at(
    segments: Sequence[Segment], timestamp: int, start_offset: int, end_offset: int
) -> TimestampedOffset | None:
    """The first record from `start_offset` on with this timestamp or a later one, if it lies
    below `end_offset`."""
    for segment in segments:
        if segment.max_timestamp < timestamp:
            continue
        near = segment.time_index.floor(timestamp)
        # The entry's own batch may hold the timestamp too, so the scan starts with it.
        offset = max(near.offset, start_offset)
        for position, header in reader.batches_from(segment, offset):
            if header.max_timestamp < timestamp:
                continue
            for record in _records(segment, position, header):
                if record.timestamp >= timestamp and record.offset >= start_offset:
                    return record if record.offset < end_offset else None
    return None


def latest(segments: Sequence[Segment], end_offset: int) -> TimestampedOffset | None:
    """The first record with the largest timestamp of all, if it lies below `end_offset`."""
    best: TimestampedOffset | None = None
    for segment in sorted(segments, key=lambda each: each.max_timestamp, reverse=True):
        if segment.max_timestamp <= (best.timestamp if best else -1):
            break
        record = _latest_in(segment)
        if record is not None and (best is None or record.timestamp > best.timestamp):
            best = record
    return best if best is not None and best.offset < end_offset else None


def _latest_in(segment: Segment) -> TimestampedOffset | None:
    """The first record with the largest timestamp of a segment. Where the index that Kafka made
    leads to a batch that compaction left empty, all headers are looked at."""
    found = reader.find(segment, segment.max_timestamp_offset)
    if found is not None and not found[1].record_count:
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

"""Leaving records out of a batch: what compaction does to bytes.

A record that stays is copied as the bytes it is; only its key is looked at. What is left of a
batch keeps the batch's offsets, from base to last, its producer fields and its leader epoch: the
sequences of the records that are gone stay taken, and no offset changes. A delete horizon takes
the place of the base timestamp (KIP-534), and the records' timestamps are told from there.

    whole           the batch as it was
    rebuilt         fewer records, perhaps another codec, perhaps a horizon
    empty           no records: its producer's last sequence, or the last offset of a log
    filler          no records and no producer: an offset that must be told, and nothing else

Source: Kafka's documentation, "Record Batch"; KIP-534.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.batch import (
    CODEC_MASK,
    CONTROL,
    DELETE_HORIZON,
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    BatchHeader,
    seal_batch,
)
from ottla.records.compression import compress
from ottla.records.varint import decode_varint, encode_varint

NO_TIMESTAMP: Final = -1


class RawRecord(NamedTuple):
    """A record in the unpacked records section of its batch."""

    offset: int
    timestamp_delta: int
    key: bytes | None
    has_value: bool
    start: int
    """Of its length field."""
    rest: int
    """Of its offset delta, behind the timestamp."""
    end: int


class Packing(NamedTuple):
    """How batches that change are packed; without a codec, as they were."""

    codec: int | None = None
    level: int | None = None


def raw_records(header: BatchHeader, body: bytes) -> Iterator[RawRecord]:
    """The records in `body`, the unpacked records section of the batch with this header.
    INVALID_RECORD where a length does not fit the bytes that are there."""
    base_offset = header.base_offset
    at, end = 0, len(body)
    for _ in range(header.record_count):
        start = at
        size, at = _varint(body, start, end)
        stop = at + size
        if size <= 0 or stop > end:
            raise _invalid("Record is longer than its batch")
        timestamp_delta, rest = decode_varint(body, at + 1, bits=64)
        offset_delta, at = _varint(body, rest, stop)
        key_size, at = _varint(body, at, stop)
        key = None
        if key_size >= 0:
            key = body[at : at + key_size]
            at += key_size
        value_size, at = _varint(body, at, stop)
        if key_size < -1 or value_size < -1 or at + max(value_size, 0) >= stop:
            raise _invalid("Record holds a length that does not fit it")
        yield RawRecord(
            base_offset + offset_delta, timestamp_delta, key, value_size >= 0, start, rest, stop
        )
        at = stop
    if at != end:
        raise _invalid("Bytes are left behind the last record of the batch")


def rebuild(
    header: BatchHeader,
    body: bytes,
    kept: Sequence[RawRecord],
    packing: Packing,
    horizon_ms: int | None = None,
) -> bytearray:
    """The batch with none but these of its records, at least one. `horizon_ms` is set where it
    has none yet. A codec that makes it larger than it was is not used."""
    base_timestamp = header.base_timestamp
    if horizon_ms is None:
        records = b"".join([body[each.start : each.end] for each in kept])
    else:
        shift = base_timestamp - horizon_ms
        base_timestamp = horizon_ms
        records = b"".join([_shifted(body, each, shift) for each in kept])
    max_timestamp = header.max_timestamp
    if not header.is_log_append_time:
        max_timestamp = header.base_timestamp + max(each.timestamp_delta for each in kept)
    codec = header.codec
    payload = b""
    if packing.codec is not None and packing.codec != codec:
        payload = compress(packing.codec, records, packing.level)
        if len(payload) + HEADER_BYTES <= header.size_bytes:
            codec = packing.codec
    if codec == header.codec:
        payload = compress(codec, records, packing.level if codec == packing.codec else None)
    attributes = header.attributes & ~CODEC_MASK | codec
    if horizon_ms is not None:
        attributes |= DELETE_HORIZON
    changed = header._replace(
        attributes=attributes,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        record_count=len(kept),
    )
    return _sealed(changed, payload)


def _shifted(body: bytes, record: RawRecord, shift: int) -> bytes:
    """The record, its timestamp told from another base."""
    delta = encode_varint(record.timestamp_delta + shift)
    size = 1 + len(delta) + record.end - record.rest
    return b"".join((encode_varint(size), b"\0", delta, body[record.rest : record.end]))


def empty_batch(header: BatchHeader) -> bytearray:
    """The batch without any record."""
    attributes = header.attributes & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL)
    return _sealed(
        header._replace(attributes=attributes, base_timestamp=NO_TIMESTAMP, record_count=0), b""
    )


def filler_batch(header: BatchHeader) -> bytearray:
    """Its offsets, and nothing else."""
    return _sealed(
        header._replace(
            attributes=0,
            base_timestamp=NO_TIMESTAMP,
            max_timestamp=NO_TIMESTAMP,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            record_count=0,
        ),
        b"",
    )


def _sealed(header: BatchHeader, payload: bytes) -> bytearray:
    batch = bytearray(HEADER_BYTES) + payload
    HEADER.pack_into(batch, 0, *header._replace(batch_length=len(batch) - LENGTH_OVERHEAD))
    seal_batch(batch)
    return batch


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """A varint that starts below `end`."""
    if at >= end:
        raise _invalid("Record ends in the middle")
    first = body[at]
    if first < 0x80:
        return first >> 1 ^ -(first & 1), at + 1
    return decode_varint(body, at)


def _invalid(cause: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, cause)

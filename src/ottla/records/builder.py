"""Building a batch out of records: for clients, coordinators, compaction and control markers.

Deltas count from the base offset and from the first record's timestamp; with log-append time
every record has that time. The batch comes out sealed, with a CRC, as a bytearray that a log
may still place (`batch.PLACE`).
"""

from collections.abc import Iterable

from ottla.base.errors import check
from ottla.base.world import Bytes
from ottla.records.batch import (
    CONTROL,
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    MAGIC,
    TRANSACTIONAL,
    seal_batch,
)
from ottla.records.compression import compress
from ottla.records.kernel import append
from ottla.records.record import Header, Record
from ottla.records.varint import encode_varint

NULL = encode_varint(-1)


def build_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    codec: int = 0,
    level: int | None = None,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    log_append_time: int | None = None,
    leader_epoch: int = -1,
) -> bytearray:
    """One sealed batch of at least one record; offsets rise and none is below `base_offset`."""
    records = records if isinstance(records, list | tuple) else list(records)
    check(records, "a batch holds at least one record")
    check(records[0].offset >= base_offset, "a record lies below its batch")
    base_timestamp = records[0].timestamp if log_append_time is None else log_append_time
    max_timestamp = base_timestamp
    body = bytearray()
    for record in records:
        timestamp = record.timestamp if log_append_time is None else log_append_time
        max_timestamp = max(max_timestamp, timestamp)
        headers = encode_headers(record.headers) if record.headers else None
        offset_delta = record.offset - base_offset
        append(body, timestamp - base_timestamp, offset_delta, record.key, record.value, headers)
    payload = compress(codec, body, level) if codec else body
    attributes = (
        codec
        | (LOG_APPEND_TIME if log_append_time is not None else 0)
        | (TRANSACTIONAL if transactional else 0)
        | (CONTROL if control else 0)
    )
    batch = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        HEADER_BYTES - LENGTH_OVERHEAD + len(payload),
        leader_epoch,
        MAGIC,
        0,
        attributes,
        records[-1].offset - base_offset,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    batch += payload
    seal_batch(batch)
    return batch


def encode_headers(headers: Iterable[Header]) -> bytes:
    """The end of a record: a count, then each header's name and value."""
    rows = list(headers)
    parts: list[Bytes] = [encode_varint(len(rows))]
    for name, value in rows:
        name_bytes = name.encode("utf-8", "surrogateescape")
        parts += (encode_varint(len(name_bytes)), name_bytes)
        parts += (NULL,) if value is None else (encode_varint(len(value)), value)
    return b"".join(parts)

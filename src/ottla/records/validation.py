"""What a producer sent, held to what a log may store. The produce path: hot.

A Produce request of version 3 and later carries exactly one batch of magic 2 per partition.
Its header is checked against its bytes in the order of Kafka: length, magic, size, CRC, then
what the header says. Offsets are assigned when it is appended.

    CORRUPT_MESSAGE               length field, magic > 2, CRC
    INVALID_RECORD                no or several batches, magic 0 or 1, base offset, attributes,
                                  counts, producer fields; records that are not what they say
    INVALID_TIMESTAMP             out of the topic's bounds, or log-append time from a client
    MESSAGE_TOO_LARGE             over max.message.bytes, or unpacks to too much
    UNSUPPORTED_COMPRESSION_TYPE  unknown codec, zstd before Produce 7

The plain path is one unpack, the CRC and integer compares. Records are walked only where the
rules say so (`deep`, and compacted topics for their keys); the largest timestamp found then goes
into the header, as in Kafka. Unwalked, the largest is at least the first record's.
Log-append time is patched into the bytes that came; another codec makes new bytes, of which
the unpacked records are the same.

Stricter than Kafka: attribute bits that have no meaning, the delete-horizon and log-append bits
from a client, a producer id below -1, one with an epoch below 0, bytes behind the batch.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from crc32c import crc32c

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import DECOMPRESSED_BYTES, WALKED_RECORDS_COUNT
from ottla.base.world import Bytes
from ottla.records.batch import (
    CODEC_MASK,
    CONTROL,
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    MAGIC,
    TRANSACTIONAL,
    BatchHeader,
    read_header,
    seal_batch,
)
from ottla.records.compression import CODEC_NAMES, ZSTD, compress, decompress
from ottla.records.kernel import IS_COMPILED, walk
from ottla.records.record import TIMESTAMP_MAX, TIMESTAMP_MIN, iterate_body

NO_TIMESTAMP: Final = -1
TIMESTAMP_BEFORE_MAX_MS: Final = (1 << 63) - 1
TIMESTAMP_AFTER_MAX_MS: Final = 3_600_000
MESSAGE_MAX_BYTES: Final = 1_048_588
UNPACKED_RATIO: Final = 32
"""How much larger than `max.message.bytes` the records of a batch may be when unpacked."""
RECORD_ERRORS_COUNT: Final = 100
"""How many records an error names; the walk ends there."""

_LENGTH_AND_MAGIC: Final = Struct(">8xi4xb")
_SMALLEST_LENGTH: Final = 14
"""Of a record of magic 0: below it Kafka calls a length corrupt, above it merely short."""
_LOWEST_UNKNOWN_CODEC: Final = len(CODEC_NAMES)
_CLIENT_BITS: Final = CODEC_MASK | TRANSACTIONAL


class RecordsRejected(KafkaError):
    """Records of a batch were refused, each for a reason: (index in the batch, message)."""

    def __init__(self, code: ErrorCode, message: str, record_errors: list[tuple[int, str]]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What a topic's configuration says of batches; the defaults are Kafka's."""

    max_message_bytes: int = MESSAGE_MAX_BYTES
    log_append_time: bool = False
    timestamp_before_max_ms: int = TIMESTAMP_BEFORE_MAX_MS
    timestamp_after_max_ms: int = TIMESTAMP_AFTER_MAX_MS
    compacted: bool = False
    codec: int | None = None
    """None keeps the producer's (compression.type=producer)."""
    level: int | None = None
    deep: bool = False


class Checked(NamedTuple):
    """Bytes to append, and the header of each batch in them."""

    records: memoryview | bytearray
    batches: tuple[BatchHeader, ...]


def check_produced(
    records: memoryview, rules: BatchRules, now_ms: int, *, zstd_allowed: bool = True
) -> Checked:
    """Check the bytes of one partition of a Produce request and make them what the topic wants.

    `records` is writable; log-append time is patched into it. `zstd_allowed` is false before
    Produce 7. KafkaError (see the table above) where they are refused; nothing is kept then.
    """
    # hot: produce
    header = _framed(records)
    _, length, _, _, crc, attributes, _, base_timestamp, max_timestamp, *_ = header
    if length + LENGTH_OVERHEAD > rules.max_message_bytes:
        raise _too_large(length + LENGTH_OVERHEAD, rules)
    if crc != crc32c(records[CRC_START:]):
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "Batch does not have the CRC it names")
    _check_header(header)
    codec = attributes & CODEC_MASK
    if codec >= _LOWEST_UNKNOWN_CODEC or (codec == ZSTD and not zstd_allowed):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Compression codec {codec} is not known to this version of Produce",
        )
    if not rules.log_append_time:
        _check_timestamp(base_timestamp, rules, now_ms)
        _check_timestamp(max_timestamp, rules, now_ms)
    is_recoded = rules.codec is not None and rules.codec != codec
    if is_recoded or rules.deep or rules.compacted:
        return _check_records(records, header, rules, now_ms)
    if rules.log_append_time:
        return _patched(records, header, now_ms, is_append_time=True)
    if max_timestamp < base_timestamp:
        return _patched(records, header, base_timestamp, is_append_time=False)
    return Checked(records, (header,))


def _framed(records: memoryview) -> BatchHeader:
    """The header of the one batch that `records` must be."""
    size = len(records)
    if size >= HEADER_BYTES:
        header = read_header(records)
        if header.batch_length == size - LENGTH_OVERHEAD and header.magic == MAGIC:
            return header
    raise _badly_framed(records)


def _badly_framed(records: memoryview) -> KafkaError:
    size = len(records)
    if size < _LENGTH_AND_MAGIC.size:
        return _invalid("Produce must carry one batch for each partition")
    length, magic = _LENGTH_AND_MAGIC.unpack_from(records)
    if length < _SMALLEST_LENGTH:
        return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Batch has a length of {length}")
    if not 0 <= magic <= MAGIC:
        return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Batch has a magic of {magic}")
    if length + LENGTH_OVERHEAD > size:
        return _invalid("Produce carries less than one whole batch")
    if magic != MAGIC:
        return _invalid("Produce takes batches of magic 2 alone")
    if length + LENGTH_OVERHEAD < HEADER_BYTES:
        return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"Batch has a length of {length}")
    return _invalid("Produce carries more than one batch for a partition")


def _check_header(header: BatchHeader) -> None:
    base_offset, _, _, _, _, attributes, last_delta, _, _, producer_id, epoch, sequence, count = (
        header
    )
    if base_offset:
        raise _invalid(f"Batch of a client must start at offset 0, not {base_offset}")
    if attributes & ~_CLIENT_BITS:
        raise _bad_attributes(attributes)
    if count < 1 or last_delta != count - 1:
        raise _invalid(f"Batch of {count} records has a last offset delta of {last_delta}")
    if producer_id >= 0:
        if epoch < 0 or sequence < 0:
            raise _invalid(f"Producer {producer_id} sent epoch {epoch}, sequence {sequence}")
    elif attributes & TRANSACTIONAL or producer_id < -1:
        raise _invalid(f"Batch needs a producer id and has {producer_id}")


def _bad_attributes(attributes: int) -> KafkaError:
    if attributes & CONTROL:
        return _invalid("Clients may not write control records")
    if attributes & ~_CLIENT_BITS == LOG_APPEND_TIME:
        return KafkaError(
            ErrorCode.INVALID_TIMESTAMP, "Clients may not set log-append time themselves"
        )
    return _invalid(f"Batch has attributes {attributes & 0xFFFF:#06x}")


def _check_timestamp(timestamp: int, rules: BatchRules, now_ms: int) -> None:
    if timestamp != NO_TIMESTAMP and not (
        -rules.timestamp_after_max_ms <= now_ms - timestamp <= rules.timestamp_before_max_ms
    ):
        raise KafkaError(ErrorCode.INVALID_TIMESTAMP, _out_of_bounds(timestamp, rules, now_ms))


def _check_records(
    records: memoryview, header: BatchHeader, rules: BatchRules, now_ms: int
) -> Checked:
    """Unpack, walk where the rules want it, pack with the topic's codec."""
    # hot: produce deep
    body: Bytes = records[HEADER_BYTES:]
    if header.codec:
        most = min(DECOMPRESSED_BYTES, UNPACKED_RATIO * rules.max_message_bytes)
        body = decompress(header.codec, body, most)
    timestamp = max(header.base_timestamp, header.max_timestamp)
    if rules.deep or rules.compacted:
        timestamp = _walk(header, body, rules, now_ms)
    if rules.log_append_time:
        timestamp = now_ms
    batch: memoryview | bytearray = records
    if rules.codec is not None and rules.codec != header.codec:
        batch = _recoded(header, body, rules.codec, rules.level)
        if len(batch) > rules.max_message_bytes:
            raise _too_large(len(batch), rules)
    elif timestamp == header.max_timestamp and not rules.log_append_time:
        return Checked(records, (header,))
    return _patched(batch, header, timestamp, is_append_time=rules.log_append_time)


def _walk(header: BatchHeader, body: Bytes, rules: BatchRules, now_ms: int) -> int:
    """Check every record; the largest timestamp among them."""
    # hot: produce deep
    count = header.record_count
    if not IS_COMPILED and count > WALKED_RECORDS_COUNT:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"Batch of {count} records, of which {WALKED_RECORDS_COUNT} at most can be checked "
            "one by one",
        )
    lowest, highest = TIMESTAMP_MIN, TIMESTAMP_MAX
    if not rules.log_append_time:
        lowest = now_ms - rules.timestamp_before_max_ms
        highest = min(now_ms + rules.timestamp_after_max_ms, TIMESTAMP_MAX)
    try:
        return walk(body, count, header.base_timestamp, rules.compacted, lowest, highest)
    except ValueError:
        _refuse_records(header, bytes(body), rules, now_ms)
        raise _invalid("Batch refused for its records") from None


def _refuse_records(header: BatchHeader, body: bytes, rules: BatchRules, now_ms: int) -> None:
    """Say what is wrong with records that the kernel refused, of the first ones."""
    errors: list[tuple[int, str]] = []
    code = ErrorCode.INVALID_RECORD
    for index, record in enumerate(iterate_body(header, body)):
        if record.offset != index:
            errors.append((index, f"Offset delta is {record.offset}, not {index}"))
        elif rules.compacted and record.key is None:
            errors.append((index, "A record of a compacted topic must have a key"))
        elif not rules.log_append_time:
            try:
                _check_timestamp(record.timestamp, rules, now_ms)
            except KafkaError as error:
                code = error.code
                errors.append((index, error.message))
        if len(errors) >= RECORD_ERRORS_COUNT or index >= WALKED_RECORDS_COUNT:
            break
    if errors:
        raise RecordsRejected(code, f"Batch refused for its records: {errors[0][1]}", errors)


def _recoded(header: BatchHeader, body: Bytes, codec: int, level: int | None) -> bytearray:
    payload = compress(codec, body, level)
    batch = bytearray(HEADER_BYTES) + payload
    recoded = header._replace(
        batch_length=len(batch) - LENGTH_OVERHEAD,
        attributes=header.attributes & ~CODEC_MASK | codec,
    )
    HEADER.pack_into(batch, 0, *recoded)
    return batch


def _patched(
    batch: memoryview | bytearray, header: BatchHeader, max_timestamp: int, *, is_append_time: bool
) -> Checked:
    """The batch with this time in its header, sealed anew."""
    header = read_header(batch)
    attributes = header.attributes | (LOG_APPEND_TIME if is_append_time else 0)
    header = header._replace(attributes=attributes, max_timestamp=max_timestamp)
    HEADER.pack_into(batch, 0, *header)
    seal_batch(batch)
    return Checked(batch, (read_header(batch),))


def _out_of_bounds(timestamp: int, rules: BatchRules, now_ms: int) -> str:
    low, high = now_ms - rules.timestamp_before_max_ms, now_ms + rules.timestamp_after_max_ms
    return f"Timestamp {timestamp} lies outside of [{low}, {high}]"


def _too_large(size: int, rules: BatchRules) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"Batch of {size} bytes is larger than max.message.bytes={rules.max_message_bytes}",
    )


def _invalid(cause: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_RECORD, cause)

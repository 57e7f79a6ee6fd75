"""The records of `__transaction_state`, byte for byte Kafka's.

    key     i16 kind 0 | transactional id       value   i16 version | fields; null forgets the id

A value of version 1 has room for what the second protocol needs (KIP-890); it is written once the
cluster's `transaction.version` allows it. A record of a kind or version that is not known, or that
does not parse, is nothing here, and stays in the log.
"""

from struct import Struct as Layout
from typing import Final, NamedTuple

from ottla.protocol.compiler import decode, encode_into
from ottla.protocol.message import Struct, field
from ottla.protocol.types import int8, int16, int32, int64
from ottla.protocol.wire import DecodeError

_INT16: Final = Layout(">h")
_KIND: Final = 0
TAGGED_VERSION: Final = 1


class TransactionKey(Struct, versions="0"):
    transactional_id: str = field()


class TransactionPartitions(Struct):
    topic: str = field()
    partition_ids: list[int] = field(int32)


class TransactionValue(Struct, versions="0-1", flexible="1+"):
    producer_id: int = field(int64)
    previous_producer_id: int = field(int64, versions="1+", tag=0, default=-1, ignorable=True)
    next_producer_id: int = field(int64, versions="1+", tag=1, default=-1, ignorable=True)
    producer_epoch: int = field(int16)
    next_producer_epoch: int = field(int16, versions="1+", tag=3, default=-1, ignorable=True)
    transaction_timeout_ms: int = field(int32)
    transaction_status: int = field(int8)
    transaction_partitions: list[TransactionPartitions] | None = field(nullable="0+", default=None)
    transaction_last_update_timestamp_ms: int = field(int64)
    transaction_start_timestamp_ms: int = field(int64)
    client_transaction_version: int = field(int16, versions="1+", tag=2, default=0, ignorable=True)


class TransactionRecord(NamedTuple):
    """`value` None: there is no such id. `last_epoch` is kept in memory alone: the epoch that the
    producer had before, which it may name once more where an answer was lost (KIP-360)."""

    transactional_id: str
    value: TransactionValue | None
    last_epoch: int = -1


def encode_record(record: TransactionRecord, version: int) -> tuple[bytes, bytes | None]:
    key = _framed(_KIND, TransactionKey(transactional_id=record.transactional_id), 0)
    if record.value is None:
        return key, None
    return key, _framed(version, record.value, version)


def _framed(number: int, content: Struct, version: int) -> bytes:
    frame = bytearray(_INT16.pack(number))
    encode_into(content, version, [frame])
    return bytes(frame)


def decode_record(key: bytes, value: bytes | None) -> TransactionRecord | None:
    if len(key) < _INT16.size or _INT16.unpack_from(key)[0] != _KIND:
        return None
    try:
        transactional_id = decode(TransactionKey, 0, memoryview(key), _INT16.size).transactional_id
        if value is None:
            return TransactionRecord(transactional_id, None)
        if len(value) < _INT16.size:
            return None
        version = _INT16.unpack_from(value)[0]
        read = decode(TransactionValue, version, memoryview(value), _INT16.size)
    except (DecodeError, ValueError):
        return None
    return TransactionRecord(transactional_id, read)

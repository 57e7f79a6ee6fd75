"""Control records: what a coordinator writes into a log between the records of its users.

    key     i16 version 0 | i16 type
    value   of ABORT and COMMIT: i16 version 0 | i32 coordinator epoch

A marker ends one producer's transaction in one partition: a batch of one such record with the
transactional and the control bit, that producer's id and epoch, and no sequence. The other
types belong to Kafka's own metadata log; they are named so that a reader can tell them apart.
Later versions may be longer; what is known of them stays in front, so it is read alike.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.builder import build_batch
from ottla.records.record import Record

KEY: Final = Struct(">hh")
MARKER_VALUE: Final = Struct(">hi")


class ControlType(IntEnum):
    UNKNOWN = -1
    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


_TYPES: Final = {int(kind): kind for kind in ControlType}


class Marker(NamedTuple):
    committed: bool
    coordinator_epoch: int


def read_control_type(record: Record) -> ControlType:
    """The type of a record out of a control batch; UNKNOWN for one of the future."""
    key = record.key
    if key is None or len(key) < KEY.size:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Control record has a key that is too short")
    version, kind = KEY.unpack_from(key)
    if version < 0:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Control record has a negative version")
    return _TYPES.get(kind, ControlType.UNKNOWN)


def read_marker(record: Record) -> Marker | None:
    """The end of a transaction that this control record marks; None if it is of another type."""
    kind = read_control_type(record)
    if kind not in (ControlType.ABORT, ControlType.COMMIT):
        return None
    value = record.value
    if value is None or len(value) < MARKER_VALUE.size:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Transaction marker has a value too short")
    version, coordinator_epoch = MARKER_VALUE.unpack_from(value)
    if version < 0:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Transaction marker has a negative version")
    return Marker(kind is ControlType.COMMIT, coordinator_epoch)


def build_marker(
    marker: Marker,
    *,
    producer_id: int,
    producer_epoch: int,
    timestamp: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """The batch that ends the open transaction of this producer."""
    kind = ControlType.COMMIT if marker.committed else ControlType.ABORT
    key = KEY.pack(0, kind)
    value = MARKER_VALUE.pack(0, marker.coordinator_epoch)
    return build_batch(
        [Record(base_offset, timestamp, key, value)],
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
        leader_epoch=leader_epoch,
    )

"""The records of `__consumer_offsets`, byte for byte Kafka's.

    key     i16 kind | fields            value   i16 version | fields; null forgets the key

    kind  what                            key fields                value versions (written)
    0, 1  how far a group read            group, topic, partition   0-4 (4; 1 with an expiry)
    2     generation and members          group                     0-4 (3)

Those of consumer groups are in `consumer_records`; the kinds of share and streams groups are not
known yet. Kind 0 is what Kafka wrote once. A record
of a kind or version that is not known, or that does not parse, is nothing here: whoever loads the
log passes over it, and it stays in the log.
"""

from collections.abc import Mapping
from struct import Struct as Layout
from typing import Final, NamedTuple

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.coordinator.batches import RECORD_OVERHEAD_BYTES
from ottla.coordinator.group.consumer_records import CONSUMER_KINDS, KIND_OF, ConsumerRecord
from ottla.protocol.compiler import decode, encode_into
from ottla.protocol.message import Struct, field
from ottla.protocol.types import int32, int64
from ottla.protocol.wire import DecodeError

_INT16: Final = Layout(">h")


class OffsetKey(Struct, versions="0"):
    group: str = field()
    topic: str = field()
    partition: int = field(int32)


class OffsetValue(Struct, versions="0-4", flexible="4+"):
    offset: int = field(int64)
    leader_epoch: int = field(int32, versions="3+", default=-1, ignorable=True)
    metadata: str = field()
    commit_timestamp: int = field(int64)
    expire_timestamp: int = field(int64, versions="1", default=-1, ignorable=True)
    topic_id: Uuid = field(versions="4+", tag=0, default=ZERO_UUID, ignorable=True)

    def is_of(self, topic_id: Uuid) -> bool:
        """Whether it was committed of the topic of that id: yes, if it does not say."""
        return self.topic_id in (topic_id, ZERO_UUID)


class GroupKey(Struct, versions="0"):
    group: str = field()


class MemberValue(Struct):
    member_id: str = field()
    group_instance_id: str | None = field(
        versions="3+", nullable="3+", default=None, ignorable=True
    )
    client_id: str = field()
    client_host: str = field()
    rebalance_timeout: int = field(int32, versions="1+", default=-1, ignorable=True)
    session_timeout: int = field(int32)
    subscription: bytes = field()
    assignment: bytes = field()


class GroupValue(Struct, versions="0-4", flexible="4+"):
    protocol_type: str = field()
    generation: int = field(int32)
    protocol: str | None = field(nullable="0+", default=None)
    leader: str | None = field(nullable="0+", default=None)
    current_state_timestamp: int = field(int64, versions="2+", default=-1, ignorable=True)
    members: list[MemberValue] = field(default_factory=list)


class OffsetRecord(NamedTuple):
    """`value` None: the group has read nothing of that partition."""

    key: OffsetKey
    value: OffsetValue | None


class GroupRecord(NamedTuple):
    """`value` None: there is no such group."""

    key: GroupKey
    value: GroupValue | None


GroupLogRecord = OffsetRecord | GroupRecord | ConsumerRecord

_OFFSET: Final = 1
_GROUP: Final = 2
_KINDS: Final[
    Mapping[
        int,
        tuple[
            type[OffsetRecord] | type[GroupRecord] | type[ConsumerRecord],
            type[Struct],
            type[Struct],
        ],
    ]
] = {
    0: (OffsetRecord, OffsetKey, OffsetValue),
    _OFFSET: (OffsetRecord, OffsetKey, OffsetValue),
    _GROUP: (GroupRecord, GroupKey, GroupValue),
    **{kind: (ConsumerRecord, *classes) for kind, classes in CONSUMER_KINDS.items()},
}
_GROUP_VERSION: Final = 3
_OFFSET_VERSION: Final = 4
_OFFSET_EXPIRY_VERSION: Final = 1


def encode_record(record: GroupLogRecord) -> tuple[bytes, bytes | None]:
    value = record.value
    if isinstance(record, ConsumerRecord):
        key = _framed(KIND_OF[type(record.key)], record.key, 0)
        return key, None if value is None else _framed(0, value, 0)
    kind = _OFFSET if isinstance(record, OffsetRecord) else _GROUP
    key = _framed(kind, record.key, 0)
    if value is None:
        return key, None
    version = _GROUP_VERSION
    if isinstance(value, OffsetValue):
        has_expiry = value.expire_timestamp != -1
        version = _OFFSET_EXPIRY_VERSION if has_expiry else _OFFSET_VERSION
    return key, _framed(version, value, version)


def size_of_record(record: GroupLogRecord) -> int:
    """What it takes of a batch, at most."""
    key, value = encode_record(record)
    return len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES


def is_too_large(record: GroupLogRecord, record_max_bytes: int) -> bool:
    """Whether the log would refuse it, as it does in Kafka."""
    key, value = encode_record(record)
    return len(key) + len(value or b"") > record_max_bytes


def _framed(number: int, content: Struct, version: int) -> bytes:
    frame = bytearray(_INT16.pack(number))
    encode_into(content, version, [frame])
    return bytes(frame)


def decode_record(key: bytes, value: bytes | None) -> GroupLogRecord | None:
    if len(key) < _INT16.size:
        return None
    known = _KINDS.get(_INT16.unpack_from(key)[0])
    if known is None:
        return None
    make, key_class, value_class = known
    try:
        key_read = decode(key_class, 0, memoryview(key), _INT16.size)
        if value is None:
            return make(key_read, None)  # type: ignore[arg-type]
        if len(value) < _INT16.size:
            return None
        version = _INT16.unpack_from(value)[0]
        value_read: Struct = decode(value_class, version, memoryview(value), _INT16.size)
    except (DecodeError, ValueError):
        return None
    return make(key_read, value_read)  # type: ignore[arg-type]


def group_forgotten(group_id: str) -> GroupRecord:
    return GroupRecord(GroupKey(group=group_id), None)


def offset_forgotten(group_id: str, topic: str, partition: int) -> OffsetRecord:
    return OffsetRecord(OffsetKey(group=group_id, topic=topic, partition=partition), None)

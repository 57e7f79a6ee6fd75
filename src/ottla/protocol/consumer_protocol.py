"""What consumers of the classic protocol say and are told: Kafka's ConsumerProtocol.

    i16 version | Subscription or Assignment of that version, or of the last one known

Later versions only add at the end, so a version that is not known is read as the last that is,
and what follows is left alone. What the sticky assignors want to know of a member stands in the
user data of its subscription, as the bytes of a message without a version. All these bytes are a
client's: whoever reads them is told by a ValueError where they are none.
"""

from collections.abc import Mapping
from struct import Struct as Layout
from typing import Final, TypeVar

from ottla.protocol.compiler import decoder, encode_into
from ottla.protocol.message import Struct, field
from ottla.protocol.types import int32
from ottla.protocol.wire import FAULTS

LAST_VERSION: Final = 3
_VERSION: Final = Layout(">h")

S = TypeVar("S", bound=Struct)


class TopicPartition(Struct):
    topic: str = field()
    partitions: list[int] = field(int32)


class ConsumerProtocolSubscription(Struct, versions="0-3"):
    topics: list[str] = field()
    user_data: bytes | None = field(nullable="0+", default=None)
    owned_partitions: list[TopicPartition] = field(
        versions="1+", default_factory=list, ignorable=True
    )
    generation_id: int = field(int32, versions="2+", default=-1, ignorable=True)
    rack_id: str | None = field(versions="3+", nullable="3+", default=None, ignorable=True)


class ConsumerProtocolAssignment(Struct, versions="0-3"):
    assigned_partitions: list[TopicPartition] = field()
    user_data: bytes | None = field(nullable="0+", default=None)


class StickyUserData(Struct, versions="0-1"):
    """What the assignor `sticky` is told: what the member had, and since which generation."""

    previous_assignment: list[TopicPartition] = field()
    generation: int = field(int32, versions="1+", default=-1)


class CooperativeStickyUserData(Struct, versions="0"):
    """What `cooperative-sticky` is told beside the owned partitions."""

    generation: int = field(int32)


def version_of(data: bytes) -> int:
    """ValueError where there is none."""
    if len(data) < _VERSION.size:
        raise ValueError("no version")
    (version,) = _VERSION.unpack_from(data)
    if version < 0:
        raise ValueError(f"version {version}")
    return int(version)


def read_subscription(data: bytes) -> ConsumerProtocolSubscription:
    return _read(ConsumerProtocolSubscription, data)


def read_assignment(data: bytes) -> ConsumerProtocolAssignment:
    """No bytes are an assignment of nothing."""
    if not data:
        return ConsumerProtocolAssignment(assigned_partitions=[])
    return _read(ConsumerProtocolAssignment, data)


def read_sticky(data: bytes) -> StickyUserData:
    """ValueError where the bytes are of neither version."""
    try:
        return _decoded(StickyUserData, 1, data, 0)
    except ValueError:
        return _decoded(StickyUserData, 0, data, 0)


def user_data(message: StickyUserData | CooperativeStickyUserData) -> bytes:
    content = bytearray()
    last = 1 if isinstance(message, StickyUserData) else 0
    encode_into(message, last, [content])
    return bytes(content)


def _read(cls: type[S], data: bytes) -> S:
    """ValueError where the bytes are none."""
    return _decoded(cls, min(version_of(data), LAST_VERSION), data, _VERSION.size)


def _decoded(cls: type[S], version: int, data: bytes, at: int) -> S:
    try:
        message: S
        message, _ = decoder(cls, version).function(memoryview(data), at)
    except FAULTS as error:
        raise ValueError(str(error)) from None
    return message


def written(message: Struct, version: int) -> bytes:
    version = min(version, LAST_VERSION)
    content = bytearray(_VERSION.pack(version))
    encode_into(message, version, [content])
    return bytes(content)


def assignment_bytes(partitions: Mapping[str, list[int]], version: int) -> bytes:
    """An assignment of these partitions, by topic."""
    rows = rows_of(partitions)
    return written(ConsumerProtocolAssignment(assigned_partitions=rows), version)


def rows_of(partitions: Mapping[str, list[int]]) -> list[TopicPartition]:
    return [
        TopicPartition(topic=topic, partitions=indexes) for topic, indexes in partitions.items()
    ]

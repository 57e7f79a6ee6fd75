"""The record kernel in Python: writing records, and the hash of their keys (see kernel.py)."""

from collections.abc import Sequence
from typing import Final, Protocol

from ottla.records.murmur2 import hash_of
from ottla.records.record import TIMESTAMP_MAX, TIMESTAMP_MIN
from ottla.records.varint import encode_varint

VARINTS: Final = tuple(encode_varint(number) for number in range(2_048))
"""Of lengths and deltas: most of them are small."""
_NULL: Final = encode_varint(-1)
INT32_MAX: Final = (1 << 31) - 1
CONTENT_MAX_BYTES: Final = INT32_MAX // 4


class Buffered(Protocol):
    """Anything with a buffer: bytes, bytearray, memoryview, a row of an array."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


def append(
    body: bytearray,
    timestamp_delta: int,
    offset_delta: int,
    key: Buffered | None,
    value: Buffered | None,
    headers: Buffered | None,
) -> None:
    # hot: client produce
    offset = VARINTS[offset_delta] if 0 <= offset_delta < 2_048 else _offset(offset_delta)
    when = VARINTS[timestamp_delta] if 0 <= timestamp_delta < 2_048 else _time(timestamp_delta)
    if key is None:
        key_length, key = _NULL, b""
    else:
        key = key if type(key) is bytes else _held(key)
        size = len(key)
        key_length = VARINTS[size] if size < 2_048 else _length(size)
    if value is None:
        value_length, value = _NULL, b""
    else:
        value = value if type(value) is bytes else _held(value)
        size = len(value)
        value_length = VARINTS[size] if size < 2_048 else _length(size)
    tail = b"\0" if headers is None else _held(headers)
    record = b"".join((b"\0", when, offset, key_length, key, value_length, value, tail))
    size = len(record)
    body += (VARINTS[size] if size < 2_048 else encode_varint(size)) + record


def extend(
    body: bytearray,
    timestamp_delta: int,
    offset_delta: int,
    keys: Sequence[Buffered | None] | None,
    values: Sequence[Buffered | None],
) -> None:
    # hot: client produce
    when, _ = _time(timestamp_delta), _offset(offset_delta)
    if keys is not None and len(keys) != len(values):
        raise ValueError("keys are None, or a list as long as the values")
    plain = [value for value in values if type(value) is bytes] if keys is None else []
    if len(plain) < len(values):
        section = bytearray()
        for index, value in enumerate(values):
            key = None if keys is None else keys[index]
            append(section, timestamp_delta, offset_delta + index, key, value, None)
        body += section
    else:
        body += _plain_section(when, offset_delta, plain)


def _plain_section(when: bytes, offset_delta: int, values: Sequence[bytes]) -> bytes:
    """Records of a value alone: what comes before it is the same for values of one size."""
    # hot: client produce
    fixed = len(when) + 3  # attributes, the null key's length, the count of headers
    heads: dict[int, tuple[bytes, bytes]] = {}
    parts: list[bytes] = []
    for count, value in enumerate(values, offset_delta):
        offset = VARINTS[count] if 0 <= count < 2_048 else _offset(count)
        size = len(value)
        shape = size << 3 | len(offset)
        head = heads.get(shape)
        if head is None:
            length = _length(size)
            whole = fixed + len(offset) + len(length) + size
            head = heads[shape] = encode_varint(whole) + b"\0" + when, _NULL + length
        parts += (head[0], offset, head[1], value, b"\0")
    return b"".join(parts)


def _held(content: Buffered) -> bytes:
    """Its bytes; TypeError where it has none."""
    view = memoryview(content)
    if not view.c_contiguous:
        raise BufferError("keys and values lie in one piece")
    return view.tobytes()


def _length(size: int) -> bytes:
    if size > CONTENT_MAX_BYTES:
        raise OverflowError("a record is too large for its length field")
    return encode_varint(size)


def _offset(delta: int) -> bytes:
    if not -INT32_MAX - 1 <= delta <= INT32_MAX:
        raise OverflowError("an offset is too far from its batch")
    return encode_varint(delta)


def _time(delta: int) -> bytes:
    if not TIMESTAMP_MIN <= delta <= TIMESTAMP_MAX:
        raise OverflowError("a timestamp is too far from its batch")
    return encode_varint(delta)


def murmur2(key: Buffered) -> int:
    return hash_of(key if type(key) is bytes else _held(key))

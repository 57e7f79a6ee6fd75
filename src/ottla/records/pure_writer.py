"""The record kernel in Python: writing records, and the hash of their keys (see kernel.py)."""

from typing import Any, Final, Protocol

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
    keys: list[bytes | None] | None,
    values: list[bytes | None],
    start: int,
    limit: int,
) -> int:
    # hot: client produce
    when, _ = _time(timestamp_delta), _offset(offset_delta)
    if keys is not None and len(keys) != len(values):
        raise ValueError("keys are None, or a list as long as the values")
    if not 0 <= start <= len(values):
        raise IndexError("no such record in the values")
    room, index = limit - len(body), start
    heads: dict[int, tuple[bytes, bytes, bytes, int]] = {}
    parts: list[bytes] = []
    for index in range(start, len(values)):
        key, value = None if keys is None else keys[index], values[index]
        count = offset_delta + index - start
        offset = VARINTS[count] if 0 <= count < 2_048 else _offset(count)
        key_size = -1 if key is None else len(key) if type(key) is bytes else _no_bytes()
        size = -1 if value is None else len(value) if type(value) is bytes else _no_bytes()
        shape = (size + 1 << 32 | key_size + 1) << 3 | len(offset)
        head = heads.get(shape)
        if head is None:
            head = heads[shape] = _head(when, len(offset), key_size, size)
        room -= head[3]
        if room < 0:
            break
        parts += (head[0], offset, head[1], key or b"", head[2], value or b"", b"\0")
    else:
        index = len(values)
    body += b"".join(parts)
    return index


def _head(
    when: bytes, offset_bytes: int, key_size: int, value_size: int
) -> tuple[bytes, bytes, bytes, int]:
    """What records without headers of these sizes share: what comes before the offset, the key
    and the value, and how much they take in all."""
    key_length, value_length = _length(key_size), _length(value_size)
    lengths = len(key_length) + len(value_length) + max(key_size, 0) + max(value_size, 0)
    whole = 1 + len(when) + offset_bytes + lengths + 1
    before = encode_varint(whole)
    return before + b"\0" + when, key_length, value_length, len(before) + whole


def _no_bytes() -> int:
    raise TypeError("keys and values of many records are bytes or None")


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


def spread(
    pairs: list[Any], count: int
) -> list[tuple[int, list[bytes | None], list[bytes | None]]] | None:
    # hot: client produce
    if count < 1:
        raise ValueError("pairs are spread over one place or more")
    placed: dict[int, tuple[int, list[bytes | None], list[bytes | None]]] = {}
    for pair in pairs:
        if type(pair) is not tuple or len(pair) != 2:
            return None
        key, value = pair
        if type(key) is not bytes or (value is not None and type(value) is not bytes):
            return None
        place = (hash_of(key) & INT32_MAX) % count
        group = placed.get(place)
        if group is None:
            group = placed[place] = place, [], []
        group[1].append(key)
        group[2].append(value)
    return list(placed.values())

"""The record kernel in Python: what runs where the compiled twin is not (see kernel.py).

The reading loops trust that every length moves forward: a record that does not end where it says
is refused, so a part that reaches out of its record is found at the end of the record, and one
that reaches out of the body ends in an IndexError.
"""

from array import array
from itertools import accumulate
from typing import Any, Final, TypeVar

from ottla.base.errors import KafkaError
from ottla.base.world import Bytes
from ottla.records.pure_writer import append, extend, murmur2, spread
from ottla.records.record import Header
from ottla.records.varint import decode_varint

Packed = tuple[bytes, bytes, bytes]
Row = TypeVar("Row", bound=tuple[Any, ...])

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
RECORD_MIN_BYTES: Final = 7
"""Length, attributes, timestamp, offset, key, value, headers: a byte each at least."""

__all__ = ["Block", "append", "extend", "murmur2", "read", "spread", "walk"]


class Block:
    """The records of one batch. All ranges are of indexes, `start` to below `stop`."""

    __slots__ = ("_headers", "_keys", "_offsets", "_timestamps", "_values")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[tuple[Header, ...]] = []

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, offset: int) -> int:
        """Index of the first record at that offset or past it; the length where none is."""
        for index, each in enumerate(self._offsets):
            if each >= offset:
                return index
        return len(self._offsets)

    def offsets(self, start: int, stop: int) -> list[int]:
        return self._offsets[self._held(start, stop)]

    def timestamps(self, start: int, stop: int) -> list[int]:
        return self._timestamps[self._held(start, stop)]

    def keys(self, start: int, stop: int) -> list[bytes | None]:
        return self._keys[self._held(start, stop)]

    def values(self, start: int, stop: int) -> list[bytes | None]:
        return self._values[self._held(start, stop)]

    def headers(self, start: int, stop: int) -> list[tuple[Header, ...]]:
        return self._headers[self._held(start, stop)]

    def rows(self, kind: type[Row], head: tuple[Any, ...], start: int, stop: int) -> list[Row]:
        """Tuples of that type: the items of `head`, then offset, timestamp, key, value, headers."""
        held, make = self._held(start, stop), tuple.__new__
        return [
            make(kind, (*head, *row))
            for row in zip(
                self._offsets[held],
                self._timestamps[held],
                self._keys[held],
                self._values[held],
                self._headers[held],
                strict=True,
            )
        ]

    def offset_bytes(self) -> bytes:
        """All offsets as int64 of this machine."""
        return array("q", self._offsets).tobytes()

    def timestamp_bytes(self) -> bytes:
        return array("q", self._timestamps).tobytes()

    def packed_keys(self, start: int, stop: int) -> Packed:
        """Keys as Arrow keeps them: (bytes one behind the other, int32 of where each starts and
        the last one ends, a bit for each that is not null, from the lowest)."""
        return _packed(self.keys(start, stop))

    def packed_values(self, start: int, stop: int) -> Packed:
        return _packed(self.values(start, stop))

    def _held(self, start: int, stop: int) -> slice:
        if not 0 <= start <= stop <= len(self._offsets):
            raise IndexError("no such records in the block")
        return slice(start, stop)


def _packed(contents: list[bytes | None]) -> Packed:
    ends = array("i", accumulate((len(each or b"") for each in contents), initial=0))
    bits = sum(1 << index for index, each in enumerate(contents) if each is not None)
    data = b"".join([each for each in contents if each is not None])
    return data, ends.tobytes(), bits.to_bytes((len(contents) + 7) // 8, "little")


def walk(
    body: Bytes, count: int, base_timestamp: int, needs_key: bool, lowest: int, highest: int
) -> int:
    # hot: produce deep
    largest, held = -1, bytes(body)
    at, end = 0, len(held)
    try:
        for index in range(count):
            size, at = _number(held, at)
            stop = at + size
            if size <= 0 or stop > end:
                raise _refused()
            delta, at = _delta(held, at + 1)
            timestamp = base_timestamp + delta
            if timestamp > largest:
                largest = timestamp
            if timestamp != -1 and not lowest <= timestamp <= highest:
                raise _refused()
            number, at = _number(held, at)
            key_size, at = _number(held, at)
            if number != index or (needs_key and key_size < 0):
                raise _refused()
            if key_size > 0:
                at += key_size
            value_size, at = _number(held, at)
            if value_size > 0:
                at += value_size
            if held[at] == 0:
                at += 1
            else:
                _, at = _headers(held, at, stop)
            if at != stop:
                raise _refused()
    except (IndexError, KafkaError):
        raise _refused() from None
    if at != end:
        raise _refused()
    return largest


def read(
    body: Bytes, count: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> Block:
    block, held = Block(), bytes(body)
    if not 0 <= count <= len(held) // RECORD_MIN_BYTES:
        raise _refused()
    try:
        _fill(block, held, count, base_offset, base_timestamp, append_time)
    except (IndexError, KafkaError):
        raise _refused() from None
    return block


def _fill(
    block: Block,
    body: bytes,
    count: int,
    base_offset: int,
    base_timestamp: int,
    append_time: int | None,
) -> None:
    # hot: client consume
    offsets, times, keys = block._offsets, block._timestamps, block._keys
    values, headers = block._values, block._headers
    at, end = 0, len(body)
    for _ in range(count):
        first, second = body[at], body[at + 1]
        if second < 0x80 <= first and not first & 1:  # of two bytes, as most are here
            size, at = (first & 0x7F | second << 7) >> 1, at + 2
        else:
            size, at = _number(body, at)
        stop = at + size
        if size <= 0 or stop > end:
            raise _refused()
        number = body[at + 1]
        if number < 0x80:
            delta, at = number >> 1 ^ -(number & 1), at + 2
        else:
            delta, at = decode_varint(body, at + 1, bits=64)
        times.append(base_timestamp + delta if append_time is None else append_time)
        number = body[at]
        if number < 0x80:
            offsets.append(base_offset + (number >> 1 ^ -(number & 1)))
            at += 1
        else:
            number, at = _any_number(body, at)
            offsets.append(base_offset + number)
        if body[at] == 1:
            keys.append(None)
            at += 1
        else:
            key, at = _content(body, at)
            keys.append(key)
        first, second = body[at], body[at + 1]
        if second < 0x80 <= first and not first & 1:
            size, at = (first & 0x7F | second << 7) >> 1, at + 2
        else:
            size, at = _number(body, at)
        if size < 0:
            values.append(None)
        else:
            values.append(body[at : at + size])
            at += size
        if body[at] == 0:
            at += 1
            headers.append(())
        else:
            found, at = _headers(body, at, stop)
            headers.append(found)
        if at != stop:
            raise _refused()
    if at != end or not (_all_fit(offsets) and _all_fit(times)):
        raise _refused()


def _all_fit(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) >= INT64_MIN and max(numbers) <= INT64_MAX)


def _refused() -> ValueError:
    return ValueError("records are not what they say")


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A varint of at least -1, quick for one and two bytes."""
    # hot: client consume
    first = body[at]
    if first < 0x80:
        if first & 1 and first != 1:
            raise _refused()
        return first >> 1 ^ -(first & 1), at + 1
    second = body[at + 1]
    if second < 0x80 and not first & 1:
        return (first & 0x7F | second << 7) >> 1, at + 2
    number, at = decode_varint(body, at)
    if number < -1:
        raise _refused()
    return number, at


def _content(body: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _number(body, at)
    return (None, at) if size < 0 else (body[at : at + size], at + size)


def _any_number(body: bytes, at: int) -> tuple[int, int]:
    """A varint of either sign, quick for two bytes."""
    # hot: client consume
    first, second = body[at], body[at + 1]
    if second < 0x80 <= first:
        rest = first & 0x7F | second << 7
        return rest >> 1 ^ -(rest & 1), at + 2
    return decode_varint(body, at)


def _delta(body: bytes, at: int) -> tuple[int, int]:
    # hot: client consume
    first = body[at]
    if first < 0x80:
        return first >> 1 ^ -(first & 1), at + 1
    return decode_varint(body, at, bits=64)


def _headers(body: bytes, at: int, stop: int) -> tuple[tuple[Header, ...], int]:
    count, at = _number(body, at)
    if not 0 <= count <= stop - at:
        raise _refused()
    found: list[Header] = []
    for _ in range(count):
        size, at = _number(body, at)
        if size < 0 or at + size > stop:
            raise _refused()
        name = body[at : at + size].decode("utf-8", "surrogateescape")
        at += size
        size, at = _number(body, at)
        if size < 0:
            found.append((name, None))
        else:
            found.append((name, body[at : at + size]))
            at += size
    return tuple(found), at

"""What compiled codecs call at run time: varints, tagged fields, records; and their errors.

A codec raises `Malformed`, or whatever a read past the end of the frame raises (struct.error,
IndexError) or bad text (UnicodeDecodeError); `compiler.explain_*` turns that into a DecodeError
or an EncodeError that names the field. Reads that run past the end need no check of their own:
the view ends where the frame ends.
"""

import struct
from typing import Any, Final

from ottla.base.world import Bytes, FileRange
from ottla.protocol.types import Records

Part = Bytes | FileRange

VARINT_MAX_BYTES: Final = 5
SMALL_RECORDS_BYTES: Final = 512
"""Records up to this size are copied among the bytes around them: cheaper than a part."""

_put_int32: Final = struct.Struct(">i").pack


class Malformed(ValueError):
    """Raised inside a codec: a cause, without a place."""


class DecodeError(Exception):
    """Bytes that are not the message they should be: which field, where, and why."""


NOT_IN_VERSION: Final = "not in this version"
"""The cause of an EncodeError where a field holds something that the version cannot say."""


class EncodeError(Exception):
    """A message that cannot be sent in this version. Always a bug of whoever made it."""


FAULTS: Final = (struct.error, IndexError, ValueError)
"""What a decoder may raise on hostile bytes."""
ENCODE_FAULTS: Final = (*FAULTS, TypeError, AttributeError)
"""What an encoder may raise on a field that holds something it must not."""


def uvarint(view: memoryview, at: int, value: int) -> tuple[int, int]:
    """(value, end) of an unsigned varint of more than a byte: `value` is its first, at `at - 1`."""
    # hot: produce
    byte = view[at]
    value = value & 0x7F | (byte & 0x7F) << 7
    if byte < 0x80:
        return value, at + 1
    byte = view[at + 1]
    value |= (byte & 0x7F) << 14
    if byte < 0x80:
        return value, at + 2
    byte = view[at + 2]
    value |= (byte & 0x7F) << 21
    if byte < 0x80:
        return value, at + 3
    byte = view[at + 3]
    if byte > 0x0F:
        raise Malformed(f"varint of more than {VARINT_MAX_BYTES} bytes or 32 bits")
    return value | byte << 28, at + 4


def read_uvarint(view: memoryview, at: int) -> tuple[int, int]:
    value = view[at]
    return (value, at + 1) if value < 0x80 else uvarint(view, at + 1, value)


def read_tag(view: memoryview, at: int, last: int) -> tuple[int, int, int]:
    """(tag, start, stop) of the tagged field at `at`, which must be above tag `last`."""
    tag, at = read_uvarint(view, at)
    size, at = read_uvarint(view, at)
    if tag <= last:
        raise Malformed(f"tag {tag} after tag {last}")
    if size > len(view) - at:
        raise Malformed(f"{size} bytes of tag {tag} where {len(view) - at} are left")
    return tag, at, at + size


def skip_tags(view: memoryview, at: int, count: int) -> int:
    """The end of tagged fields of which none is known here. Each is at least two bytes, so a
    count that is a lie runs into the end of the frame."""
    if count > 0x7F:
        count, at = uvarint(view, at, count)
    tag = -1
    for _ in range(count):
        tag, _, at = read_tag(view, at, tag)
    return at


def put_uvarint(value: int) -> bytes:
    # hot: fetch
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x20_0000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return bytes((value & 0x7F | 0x80,)) + put_uvarint(value >> 7)


def put_tags(out: bytearray, tags: list[tuple[int, bytearray]]) -> None:
    """Append tagged fields, given in ascending order of tag."""
    out += put_uvarint(len(tags))
    for tag, content in tags:
        out += put_uvarint(tag) + put_uvarint(len(content)) + content


def part_bytes(part: Part) -> int:
    return part.length if isinstance(part, FileRange) else len(part)


def put_records(
    parts: list[Any], out: bytearray, records: Records | None, is_flexible: bool
) -> bytearray:
    """Append records to the parts of a message, without a copy unless they are small.

    `out` is the last part, being filled; returns the one to be filled from here on.
    """
    # hot: fetch
    if records is None:
        out += b"\0" if is_flexible else b"\xff\xff\xff\xff"
        return out
    if isinstance(records, list):
        size = sum(map(part_bytes, records))
        out += put_uvarint(size + 1) if is_flexible else _put_int32(size)
        for piece in records:
            out = _put_piece(parts, out, piece, part_bytes(piece))
        return out
    size = part_bytes(records)
    out += put_uvarint(size + 1) if is_flexible else _put_int32(size)
    return _put_piece(parts, out, records, size)


def _put_piece(parts: list[Any], out: bytearray, piece: Part, size: int) -> bytearray:
    if isinstance(piece, FileRange):
        if not size:
            return out
    elif size <= SMALL_RECORDS_BYTES:
        out += piece
        return out
    if not out:
        parts.pop()
    out = bytearray()
    parts += (piece, out)
    return out

"""Variable-length integers of records: zigzag, then 7 bits a byte from the lowest, top bit = more.

A varint holds 32 bits in at most 5 bytes, a varlong 64 bits in at most 10. Most numbers in a
record take one byte, which callers decode in line; what is longer comes here.
"""

from typing import Final

from ottla.base.errors import ErrorCode, KafkaError

_SHORT: Final = tuple(bytes((n,)) for n in range(0x80))


def encode_varint(value: int) -> bytes:
    """`value` of at most 64 bits: its sign decides the lowest bit, so that -1 is short too."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    if rest < 0x80:
        return _SHORT[rest]
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def decode_varint(data: bytes, at: int, bits: int = 32) -> tuple[int, int]:
    """(value, position behind it); INVALID_RECORD where it does not end or is out of range."""
    rest = shift = 0
    for byte in data[at : at + (bits + 6) // 7]:
        at += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            if rest >> bits:
                break
            return rest >> 1 ^ -(rest & 1), at
        shift += 7
    raise KafkaError(ErrorCode.INVALID_RECORD, "Record holds a number that does not end in time")

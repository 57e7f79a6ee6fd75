"""The primitive types of Kafka's protocol, and the spans of versions that a field lives in.

    type                            on the wire (big-endian)
    bool int8 int16 int32 int64     1 1 2 4 8 bytes, two's complement
    uint16 uint32 float64           2 4 8 bytes
    uuid                            16 bytes
    string                          int16 length (-1 null), UTF-8
    bytes, records                  int32 length (-1 null), bytes
    array                           int32 count (-1 null), elements
    nullable struct                 int8 (-1 null, 1 present), fields

In a flexible version the length or count before a string, bytes, records or array is an
unsigned varint of n + 1 (0 null), and every struct ends with its tagged fields: a count, then
(tag, size, bytes) each, all three unsigned varints, tags ascending.
Source: Kafka's protocol guide; KIP-482 (flexible versions), KIP-893 (nullable structs).
"""

from typing import Final, NamedTuple

from ottla.base.ids import ZERO_UUID
from ottla.base.world import Bytes, FileRange

Records = Bytes | FileRange | list[Bytes | FileRange]
"""What a records field may hold when sent; what was received is a memoryview of the frame."""

STRING_MAX_BYTES: Final = 32_767
NEVER: Final = range(0)


class Kind(NamedTuple):
    name: str
    code: str
    """Its letter in a struct format; empty where the size varies."""
    size: int
    zero: object
    """What a field of this kind holds when nothing else was said."""


boolean: Final = Kind("bool", "?", 1, False)
int8: Final = Kind("int8", "b", 1, 0)
int16: Final = Kind("int16", "h", 2, 0)
uint16: Final = Kind("uint16", "H", 2, 0)
int32: Final = Kind("int32", "i", 4, 0)
uint32: Final = Kind("uint32", "I", 4, 0)
int64: Final = Kind("int64", "q", 8, 0)
float64: Final = Kind("float64", "d", 8, 0.0)
uuid: Final = Kind("uuid", "16s", 16, ZERO_UUID)
string: Final = Kind("string", "", 0, "")
binary: Final = Kind("bytes", "", 0, b"")
records: Final = Kind("records", "", 0, None)
struct: Final = Kind("struct", "", 0, None)


def span(text: str) -> range:
    """The versions that Kafka writes as `3-13`, `9+`, `4` or `none`."""
    if text == "none":
        return NEVER
    if text.endswith("+"):
        return range(int(text[:-1]), 32_768)
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)

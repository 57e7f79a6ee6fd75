"""Values to test the codecs with: every class and version, and any message of one of them."""

from random import Random
from typing import Any

from ottla.protocol import types
from ottla.protocol.message import Field, Struct
from ottla.protocol.registry import APIS, ApiKey, request_class, response_class

CLASSES: list[type[Struct]] = [
    find(key) for key in APIS for find in (request_class, response_class)
]
VERSIONS: list[tuple[type[Struct], int]] = [
    (cls, version) for cls in CLASSES for version in cls.__versions__
]
REQUESTS: list[tuple[ApiKey, int]] = [
    (ApiKey(key), version)
    for key, api in APIS.items()
    for version in range(api.first, api.last + 1)
]

INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
TIME_MAX_MS = 4_000_000_000_000
"""Of int64 times: what kio can turn into a moment and back."""
ERROR_MAX = 119
"""Of error codes: what kio has a name for."""
TEXTS = ("", "a", "topic-1", "grüße ☃ 𝄞", "x" * 126, "x" * 127, "é" * 100)


def label(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def message(cls: type[Struct], version: int, draw: Random) -> Any:
    """Some instance of `cls` that `version` can carry."""
    values = {
        each.name: _value(each, version, draw) if version in each.versions else each.missing()
        for each in cls.__fields__
    }
    return cls(**values)


def _value(field: Field, version: int, draw: Random) -> Any:
    if version in field.nullable and draw.random() < 0.25:
        return None
    if field.is_array:
        return [_single(field, version, draw) for _ in range(draw.choice((0, 1, 1, 2, 3)))]
    if field.tag is not None and draw.random() < 0.4:
        return field.missing()
    value = _single(field, version, draw)
    if field.tag is not None and field.nested is not None and value == field.nested():
        return None
    return value


def _single(field: Field, version: int, draw: Random) -> Any:
    kind = field.kind.name
    if field.nested is not None:
        return message(field.nested, version, draw)
    if kind in INTEGERS:
        return _integer(field, draw)
    if kind == "string":
        return draw.choice(TEXTS)
    if kind == "bool":
        return draw.random() < 0.5
    if kind == "uuid":
        return draw.randbytes(16)
    if kind == "float64":
        return draw.uniform(-1e9, 1e9)
    return draw.randbytes(draw.choice((0, 1, 100, 126, 127, 1000, 20_000)))


def _integer(field: Field, draw: Random) -> int:
    low, high = INTEGERS[field.kind.name]
    if field.name.endswith("error_code"):
        low, high = -1, ERROR_MAX
    elif field.kind is types.int64 and "time" in field.name:
        low, high = -1, TIME_MAX_MS
    return draw.choice((low, high, max(low, -1), 0, 1, draw.randint(low, high)))


def joined(parts: list[Any]) -> bytes:
    return b"".join(parts)

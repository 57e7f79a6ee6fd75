"""kio and kafka-python as independent codecs: what they read, as our classes.

Both keep the fields of Kafka's definitions in their order, so fields are paired by position.
kio has richer types (errors, durations, moments, uuids), turned back into the plain ones here.
It must only be fed bytes that a codec of ours made: kio 0.6.5 aborts on a hostile length.
"""

import dataclasses
import datetime
import importlib
import io
import uuid
import warnings
from typing import Any

from kio.index import load_payload_module
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

from ottla.base.ids import ZERO_UUID
from ottla.protocol import types
from ottla.protocol.message import Request, Struct

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from kafka.protocol.api_message import ApiMessage

    KAFKA_PYTHON = [
        importlib.import_module(f"kafka.protocol.{room}")
        for room in ("producer", "consumer", "metadata", "admin")
    ]


def kio_class(cls: type[Struct], version: int) -> Any:
    """kio's class of a message in a version; None where it has none."""
    kind = EntityType.request if issubclass(cls, Request) else EntityType.response
    try:
        return getattr(load_payload_module(cls.__api__, version, kind), cls.__name__)
    except RuntimeError:
        return None


def kio_read(theirs: Any, data: bytes) -> Any:
    message, end = entity_reader(theirs)(data, 0)
    assert end == len(data)
    return message


def kio_write(message: Any) -> bytes:
    out = io.BytesIO()
    entity_writer(type(message))(out, message)
    return out.getvalue()


def kio_fields(message: Any, version: int) -> list[Any]:
    return [getattr(message, each.name) for each in dataclasses.fields(message)]


def kafka_python_class(cls: type[Struct], version: int) -> Any:
    for room in KAFKA_PYTHON:
        theirs = getattr(room, cls.__name__, None)
        if theirs is not None and version <= theirs.max_version:
            return theirs
    return None


def kafka_python_fields(message: Any, version: int) -> list[Any]:
    fields = [each for each in message._struct._fields if each.for_version_q(version)]
    return [getattr(message, each.name) for each in fields]


def kafka_python_read(theirs: Any, data: bytes, version: int) -> Any:
    """Past the classes' own `decode`, which takes an ApiVersions with an error for version 0."""
    return ApiMessage.decode.__func__(theirs, data, version=version)


def kafka_python_write(message: Any, version: int) -> bytes:
    """Past the classes' own `encode`, which fills in fields the way its clients want them."""
    message._header = None
    written: bytes = ApiMessage.encode(message, version=version)
    return written


def as_ours(cls: type[Struct], version: int, theirs: Any, fields_of: Any) -> Struct:
    """The message of `cls` that holds what the oracle's `theirs` does."""
    present = [each for each in cls.__fields__ if version in each.versions]
    values = fields_of(theirs, version)
    assert len(present) == len(values), (cls, version, theirs)
    made: dict[str, Any] = {each.name: each.missing() for each in cls.__fields__}
    for field, value in zip(present, values, strict=True):
        if field.is_array and value is not None:
            made[field.name] = [_single(field, version, item, fields_of) for item in value]
        else:
            made[field.name] = _single(field, version, value, fields_of)
        is_tagged_struct = field.tag is not None and field.nested is not None
        if is_tagged_struct and not field.is_array and made[field.name] == field.nested():
            made[field.name] = None
    return cls(**made)


def _single(field: Any, version: int, value: Any, fields_of: Any) -> Any:
    if field.kind is types.uuid:
        return ZERO_UUID if value is None else value.bytes
    if field.kind is types.int64 and "time" in field.name and value is None:
        return -1
    if field.name.endswith("authorized_operations") and not isinstance(value, int):
        bits = sum(1 << bit for bit in value or ()) if value is not None else 1 << 31
        return bits - (1 << 32) if bits >= 1 << 31 else bits
    if field.nested is not None and value is not None:
        return as_ours(field.nested, version, value, fields_of)
    if isinstance(value, datetime.timedelta):
        return round(value / MILLISECOND)
    if isinstance(value, datetime.datetime):
        return round((value - EPOCH) / MILLISECOND)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value

"""Responses that refuse: of any request, with one error code, made of its class alone.

As Kafka's do, a response tells the code where it has a place for it at the top, and else once for
each thing that was asked for: its rows are those of the request, with the same names and numbers.
A Fetch has both places. The one at the top is its session's: only the codes of sessions go there.
"""

from collections.abc import Iterator
from typing import Any, Final

from ottla.base.errors import ErrorCode
from ottla.protocol.message import Field, Request, Response, Struct
from ottla.protocol.messages.fetch import FetchResponse
from ottla.protocol.registry import response_class
from ottla.protocol.types import int64

_PARTITION: Final = ("partition_index", "index", "partition")
"""The names that requests and responses have for the number of a partition."""
_TOPIC: Final = ("name", "topic", "topic_name", "resource_name", "topic_id")
_NAMES: Final = (*_PARTITION, *_TOPIC, "resource_type", "group_id", "member_id", "transactional_id")
_OF_A_SESSION: Final = (
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
    ErrorCode.INVALID_FETCH_SESSION_EPOCH,
    ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
)
_TOPICS: Final = ("topic_names", "subscribed_topic_names")


def refusal(request: Request, version: int, code: ErrorCode) -> Response:
    """The response to `request` that says nothing but `code`."""
    key = request.__api__
    assert key is not None
    made = _refused(response_class(key), request, version, code)
    assert isinstance(made, Response)
    return made


def topics_named(request: Struct) -> Iterator[str | bytes]:
    """The topics that a request names, by name or id."""
    for field in type(request).__fields__:
        value = getattr(request, field.name)
        if field.name in _TOPIC and value:
            yield value
        elif field.name in _TOPICS:
            yield from value or ()
        elif field.nested and field.is_array:
            for row in value or ():
                yield from topics_named(row)


def _refused(cls: Any, asked: Any, version: int, code: ErrorCode) -> Struct:
    """A `cls` that answers `asked`: a request, a row of one, or the bare name of something."""
    values: dict[str, object] = {}
    is_for_rows = cls is FetchResponse and code not in _OF_A_SESSION
    has_code = _has_code(cls, version) and not is_for_rows
    for field in cls.__fields__:
        if version not in field.versions:
            values[field.name] = field.missing()
        elif field.name == "error_code":
            values[field.name] = code if has_code else 0
        elif field.nested and field.is_array and not has_code and _leads_to_code(field, version):
            rows = _rows(asked, version)
            values[field.name] = [_refused(field.nested, row, version, code) for row in rows]
        else:
            values[field.name] = _same(field, asked)
    if isinstance(asked, str | int):
        values[_first_of(cls, type(asked))] = asked
    made: Struct = cls(**values)
    return made


def _has_code(cls: Any, version: int) -> bool:
    return any(f.name == "error_code" and version in f.versions for f in cls.__fields__)


def _leads_to_code(field: Field, version: int) -> bool:
    inner: Any = field.nested
    return _has_code(inner, version) or any(
        each.nested and each.is_array and _leads_to_code(each, version)
        for each in inner.__fields__
        if version in each.versions
    )


def _rows(asked: Struct, version: int) -> list[Any]:
    """What was asked for: the first list of the request, or of its row, that has something."""
    for field in type(asked).__fields__:
        if field.is_array and version in field.versions and getattr(asked, field.name):
            found: list[Any] = getattr(asked, field.name)
            return found
    return []


def _same(field: Field, asked: object) -> object:
    """What names the thing is taken from the request; offsets are -1, the rest is its default."""
    if field.name in _NAMES:
        for name in _PARTITION if field.name in _PARTITION else (field.name,):
            if hasattr(asked, name):
                return getattr(asked, name)
    return -1 if field.is_required and field.kind is int64 else field.missing()


def _first_of(cls: Any, kind: type) -> str:
    for field in cls.__fields__:
        if type(field.missing()) is kind and field.name != "error_code":
            name: str = field.name
            return name
    raise AssertionError(f"{cls.__name__} has no place for a {kind.__name__}")

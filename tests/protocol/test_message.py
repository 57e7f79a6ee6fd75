"""What a class of fields makes: slots, a constructor of keywords, equality, a text."""

import sys
from pathlib import Path

import pytest

from ottla.protocol import types
from ottla.protocol.message import Struct, field
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest
from ottla.protocol.messages.metadata import MetadataRequest
from ottla.protocol.registry import APIS, ApiKey, request_class, response_class


class Point(Struct):
    x: int = field(types.int32)
    y: int = field(types.int32, default=0)
    names: list[str] = field(default_factory=list)


def test_fields_are_keywords_with_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y, point.names) == (1, 0, [])
    with pytest.raises(TypeError):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg,misc]
    with pytest.raises(TypeError):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_a_default_list_is_never_shared() -> None:
    one, other = Point(x=1), Point(x=1)
    one.names.append("a")
    assert other.names == []


def test_instances_have_slots_alone() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).z = 2  # type: ignore[attr-defined]
    assert not hasattr(Point(x=1), "__dict__")
    assert sys.getsizeof(Point(x=1)) <= 64


def test_equality_is_by_class_and_value() -> None:
    assert Point(x=1, names=["a"]) == Point(x=1, names=["a"])
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != FetchPartition(partition=1, fetch_offset=0, partition_max_bytes=0)
    with pytest.raises(TypeError):
        hash(Point(x=1))


def test_the_text_of_a_message_is_its_construction() -> None:
    assert repr(Point(x=1, names=["a"])) == "Point(x=1, y=0, names=['a'])"


def test_a_field_without_a_kind_takes_it_from_its_annotation() -> None:
    with pytest.raises(KeyError):

        class Wrong(Struct):
            number: int = field()


def test_a_class_is_found_by_its_key() -> None:
    assert request_class(1) is FetchRequest
    assert request_class(ApiKey.METADATA) is MetadataRequest
    for key in APIS:
        assert response_class(key).__name__ == request_class(key).__name__.replace(
            "Request", "Response"
        )


def test_each_message_module_is_a_served_api() -> None:
    folder = Path(str(sys.modules["ottla.protocol.messages"].__path__[0]))
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {ApiKey(key).name.lower() for key in APIS}

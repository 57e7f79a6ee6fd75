"""Our classes held to Kafka's own definitions, field by field and version by version."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ottla.base.ids import ZERO_UUID
from ottla.protocol.message import Field, Struct
from ottla.protocol.registry import (
    APIS,
    NEVER_FLEXIBLE,
    ApiKey,
    advertised,
    request_class,
    response_class,
)
from ottla.protocol.types import span
from tests.protocol.values import CLASSES, label

DEFINITIONS = Path(__file__).resolve().parents[2].parent / "shared" / "kafka-messages" / "clients"
pytestmark = pytest.mark.skipif(
    not DEFINITIONS.is_dir(), reason="Kafka's definitions are not beside this checkout"
)
ZERO = {"bool": False, "string": "", "uuid": ZERO_UUID, "float64": 0.0, "bytes": b""}


def definition(name: str) -> dict[str, Any]:
    text = (DEFINITIONS / f"{name}.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))  # type: ignore[no-any-return]


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def all_definitions() -> dict[int, dict[str, Any]]:
    requests = [definition(path.stem) for path in sorted(DEFINITIONS.glob("*Request.json"))]
    return {each["apiKey"]: each for each in requests if "apiKey" in each}


def test_every_api_key_has_kafkas_name() -> None:
    theirs = {
        key: snake(each["name"].removesuffix("Request")) for key, each in all_definitions().items()
    }
    assert {int(key): key.name.lower() for key in ApiKey} == theirs
    assert len(theirs) == 95


@pytest.mark.parametrize("key", APIS, ids=lambda key: ApiKey(key).name)
def test_the_table_of_versions_agrees_with_definition_and_classes(key: ApiKey) -> None:
    theirs = all_definitions()[key]
    valid = span(theirs["validVersions"])
    api = APIS[key]
    is_unstable = theirs.get("latestVersionUnstable", False)
    assert (api.first, api.last) == (valid[0], valid[-1] - is_unstable)
    flexible = span(theirs["flexibleVersions"])
    assert api.flexible == (flexible.start if flexible else NEVER_FLEXIBLE)
    assert advertised(key) == (0 if key is ApiKey.PRODUCE else api.first, api.last)
    for cls in (request_class(key), response_class(key)):
        assert cls.__api__ is key
        assert cls.__flexible__ == flexible


@pytest.mark.parametrize("cls", CLASSES, ids=label)
def test_class_is_kafkas(cls: type[Struct]) -> None:
    theirs = definition(cls.__name__)
    assert theirs["apiKey"] == cls.__api__
    assert span(theirs["validVersions"]) == cls.__versions__
    versions = list(cls.__versions__)
    flexible = span(theirs["flexibleVersions"])
    assert [v for v in versions if v in flexible] == [v for v in versions if v in cls.__flexible__]
    common = {each["name"]: each["fields"] for each in theirs.get("commonStructs", [])}
    compare_struct(cls, theirs["fields"], versions, common)


def compare_struct(
    cls: type[Struct], theirs: list[dict[str, Any]], versions: list[int], common: dict[str, Any]
) -> None:
    assert [each.name for each in cls.__fields__] == [snake(each["name"]) for each in theirs]
    for ours, each in zip(cls.__fields__, theirs, strict=True):
        where = f"{cls.__name__}.{ours.name}"
        present = [v for v in versions if v in span(each["versions"])]
        assert [v for v in versions if v in ours.versions] == present, where
        compare_type(ours, each, present, common)
        nullable = span(each.get("nullableVersions", "none"))
        assert [v for v in present if v in ours.nullable] == [
            v for v in present if v in nullable
        ], where
        tagged = span(each.get("taggedVersions", "none"))
        assert [v for v in present if v in tagged] == ([] if ours.tag is None else present), where
        assert ours.tag == each.get("tag"), where
        assert ours.ignorable == each.get("ignorable", False), where
        compare_default(ours, each, where)


def compare_type(
    ours: Field, theirs: dict[str, Any], versions: list[int], common: dict[str, Any]
) -> None:
    name = theirs["type"]
    assert ours.is_array == name.startswith("[]")
    name = name.removeprefix("[]")
    fields = theirs.get("fields") or common.get(name)
    if fields is None:
        assert ours.kind.name == name
        assert ours.nested is None
    else:
        assert ours.nested is not None
        assert ours.nested.__name__ == name
        compare_struct(ours.nested, fields, versions, common)


def compare_default(ours: Field, theirs: dict[str, Any], where: str) -> None:
    """Ours may have None where Kafka says nothing and null is allowed, or the field is a tagged
    struct."""
    default, kind = theirs.get("default"), theirs["type"]
    if ours.nested and not ours.is_array and not ours.nullable and ours.tag is None:
        assert default is None and ours.is_required, where
        return
    if default is None:
        if ours.nullable or (ours.nested and ours.tag is not None and not ours.is_array):
            assert ours.is_required or ours.missing() is None, where
        elif ours.is_array:
            assert ours.missing() == [], where
        else:
            assert ours.missing() == ZERO.get(kind, 0), where
        return
    assert not ours.is_required, where
    if default == "null":
        expected: object = None
    elif kind == "bool":
        expected = str(default).lower() == "true"
    elif kind == "string":
        expected = default
    else:
        expected = int(str(default), 0)
    assert ours.missing() == expected, where
    assert type(ours.missing()) is type(expected), where

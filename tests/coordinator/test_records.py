"""The records of `__consumer_offsets`, held to Kafka's definitions and to bytes of its own."""

import json
import re
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.coordinator.group.records import (
    GroupKey,
    GroupRecord,
    GroupValue,
    OffsetKey,
    OffsetRecord,
    OffsetValue,
    decode_record,
    encode_record,
    group_forgotten,
    offset_forgotten,
)
from ottla.coordinator.group.subscription import topics_of
from ottla.protocol.compiler import encode
from ottla.protocol.message import Struct
from ottla.protocol.types import span
from tests.protocol.values import message

DEFINITIONS = (
    Path(__file__).resolve().parents[2].parent / "shared" / "kafka-messages" / "group-coordinator"
)
PAIRS: list[tuple[type[Struct], str]] = [
    (OffsetKey, "OffsetCommitKey"),
    (OffsetValue, "OffsetCommitValue"),
    (GroupKey, "GroupMetadataKey"),
    (GroupValue, "GroupMetadataValue"),
]


def offset(**values: Any) -> OffsetRecord:
    value = OffsetValue(
        **{"offset": 5, "leader_epoch": 2, "metadata": "m", "commit_timestamp": 7, **values}
    )
    return OffsetRecord(OffsetKey(group="g", topic="t", partition=1), value)


@pytest.mark.skipif(not DEFINITIONS.is_dir(), reason="Kafka's definitions are not beside this")
@pytest.mark.parametrize(("ours", "name"), PAIRS, ids=[name for _, name in PAIRS])
def test_fields_are_kafkas(ours: type[Struct], name: str) -> None:
    text = (DEFINITIONS / f"{name}.json").read_text()
    theirs = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    common = {each["name"]: each["fields"] for each in theirs.get("commonStructs", [])}
    assert ours.__versions__ == span(theirs["validVersions"])
    assert bool(ours.__flexible__) == (theirs["flexibleVersions"] != "none")
    compare(ours, theirs["fields"], common, list(ours.__versions__))


def compare(
    ours: type[Struct],
    theirs: list[dict[str, Any]],
    common: dict[str, Any],
    versions: list[int],
) -> None:
    names = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each["name"]).lower() for each in theirs]
    assert [each.name for each in ours.__fields__] == names
    for field, each in zip(ours.__fields__, theirs, strict=True):
        for attribute, key in (("versions", "versions"), ("nullable", "nullableVersions")):
            expected = span(each.get(key, "none"))
            found = getattr(field, attribute)
            assert [v for v in versions if v in found] == [v for v in versions if v in expected]
        assert field.tag == each.get("tag")
        kind = each["type"].removeprefix("[]")
        if kind in common:
            compare(field.nested, common[kind], common, versions)
        else:
            assert field.kind.name == kind


def test_an_offset_is_written_as_kafka_writes_it() -> None:
    key, value = encode_record(offset())
    assert key == b"\0\1" + b"\0\1g" + b"\0\1t" + b"\0\0\0\1"
    assert value == b"\0\4" + struct.pack(">qi", 5, 2) + b"\2m" + struct.pack(">q", 7) + b"\0"
    key, value = encode_record(offset(expire_timestamp=9, topic_id=bytes(15) + b"x"))
    assert value == b"\0\1" + struct.pack(">q", 5) + b"\0\1m" + struct.pack(">qq", 7, 9)


def test_a_group_is_written_as_kafka_writes_it() -> None:
    value = GroupValue(protocol_type="consumer", generation=3, current_state_timestamp=9)
    key, written = encode_record(GroupRecord(GroupKey(group="g"), value))
    assert key == b"\0\2" + b"\0\1g"
    head = b"\0\3" + b"\0\x08consumer" + struct.pack(">i", 3)
    assert written == head + b"\xff\xff" * 2 + struct.pack(">q", 9) + bytes(4)


@pytest.mark.parametrize("version", range(5))
def test_every_version_that_kafka_wrote_is_read(version: int) -> None:
    draw = Random(version)
    for kind, key, value_class in (
        (0, OffsetKey(group="g", topic="t", partition=1), OffsetValue),
        (1, OffsetKey(group="g", topic="t", partition=1), OffsetValue),
        (2, GroupKey(group="g"), GroupValue),
    ):
        for _ in range(20):
            value = message(value_class, version, draw)
            record = decode_record(framed(kind, key, 0), framed(version, value, version))
            assert record == (key, value)


def framed(number: int, content: Struct, version: int) -> bytes:
    return struct.pack(">h", number) + b"".join(bytes(p) for p in encode(content, version))  # type: ignore[arg-type]


def test_what_is_not_known_is_nothing() -> None:
    key, value = encode_record(offset())
    assert value is not None
    for strange in (b"", b"\0", b"\0\3" + key[2:], b"\x7f\xff", key[:-1], key + b"x"):
        assert decode_record(strange, value) is None
    for strange in (b"", b"\0", b"\0\5" + value[2:], b"\xff\xff" + value[2:], value[:-2]):
        assert decode_record(key, strange) is None


def test_what_is_forgotten_has_no_value() -> None:
    for record in (group_forgotten("g"), offset_forgotten("g", "t", 3)):
        key, value = encode_record(record)
        assert value is None
        assert decode_record(key, None) == record


@given(st.binary(max_size=60), st.none() | st.binary(max_size=80))
def test_any_bytes_are_a_record_or_nothing(key: bytes, value: bytes | None) -> None:
    decode_record(key, value)
    for kind in range(4):
        decode_record(struct.pack(">h", kind) + key, value)


# --- subscriptions


def test_topics_of_subscriptions() -> None:
    one = b"\0\0" + b"\0\0\0\2" + b"\0\1a" + b"\0\2bc" + b"\xff\xff\xff\xff"
    newer = b"\0\3" + b"\0\0\0\1" + b"\0\1d" + b"whatever follows"
    assert topics_of([one, newer]) == {"a", "bc", "d"}
    assert topics_of([]) == set()
    assert topics_of([b"\0\0\0\0\0\0"]) == set()
    for damaged in (b"", one[:5], one[:9], b"\xff\xff" + one[2:], b"\0\0\x7f\xff\xff\xff" + one):
        assert topics_of([newer, damaged]) is None
    assert topics_of([b"\0\0" + b"\0\0\0\1" + b"\0\2\xff\xff"]) is None


@given(st.binary(max_size=60))
def test_any_subscription_is_topics_or_nothing(data: bytes) -> None:
    topics_of([data])
    topics_of([b"\0\0\0\0\0" + data])

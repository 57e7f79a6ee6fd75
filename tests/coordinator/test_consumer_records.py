"""The records of consumer groups, held to Kafka's definitions, there and back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ottla.base.ids import Uuid
from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.consumer_records import CONSUMER_KINDS, ConsumerRecord
from ottla.coordinator.group.records import decode_record, encode_record
from ottla.protocol.message import Field, Struct
from ottla.protocol.types import span

DEFINITIONS = (
    Path(__file__).resolve().parents[2].parent / "shared" / "kafka-messages" / "group-coordinator"
)
NAMES = {
    3: "ConsumerGroupMetadata",
    4: "ConsumerGroupPartitionMetadata",
    5: "ConsumerGroupMemberMetadata",
    6: "ConsumerGroupTargetAssignmentMetadata",
    7: "ConsumerGroupTargetAssignmentMember",
    8: "ConsumerGroupCurrentMemberAssignment",
    16: "ConsumerGroupRegularExpression",
}
A = Uuid(bytes(range(16)))
B = Uuid(bytes(range(16, 32)))


def definition(name: str) -> dict[str, Any]:
    text = (DEFINITIONS / f"{name}.json").read_text()
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))  # type: ignore[no-any-return]


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@pytest.mark.skipif(not DEFINITIONS.is_dir(), reason="Kafka's definitions are not beside this")
@pytest.mark.parametrize("kind", CONSUMER_KINDS)
def test_each_kind_is_kafkas(kind: int) -> None:
    for cls, part in zip(CONSUMER_KINDS[kind], ("Key", "Value"), strict=True):
        theirs = definition(NAMES[kind] + part)
        assert theirs["apiKey"] == kind
        assert span(theirs["validVersions"]) == cls.__versions__
        assert (span(theirs["flexibleVersions"]).stop > 0) == (0 in cls.__flexible__)
        common = {each["name"]: each["fields"] for each in theirs.get("commonStructs", [])}
        same_fields(cls, theirs["fields"], common)


def same_fields(cls: type[Struct], theirs: list[dict[str, Any]], common: dict[str, Any]) -> None:
    assert [each.name for each in cls.__fields__] == [snake(each["name"]) for each in theirs]
    for ours, each in zip(cls.__fields__, theirs, strict=True):
        same_field(ours, each, common)


def same_field(ours: Field, theirs: dict[str, Any], common: dict[str, Any]) -> None:
    name = theirs["type"]
    assert ours.is_array == name.startswith("[]")
    fields = theirs.get("fields") or common.get(name.removeprefix("[]"))
    if fields is None:
        assert ours.kind.name == name.removeprefix("[]")
    else:
        same_fields(ours.nested, fields, common)
    assert ours.tag == theirs.get("tag")
    assert (0 in ours.nullable) == ("nullableVersions" in theirs)
    if "default" in theirs:
        assert ours.missing() == theirs["default"]


MEMBER = records.ConsumerMemberValue(
    instance_id="i",
    rack_id=None,
    client_id="c",
    client_host="/127.0.0.1",
    subscribed_topic_names=["a", "b"],
    subscribed_topic_regex="a.*",
    rebalance_timeout_ms=300_000,
    server_assignor="uniform",
    classic_member_metadata=records.ClassicMemberMetadata(
        session_timeout_ms=10,
        supported_protocols=[records.ClassicProtocol(name="range", metadata=b"\0\1")],
    ),
)
CURRENT = records.current_of_member(
    "g", "m", epoch=5, previous_epoch=4, state=1, assigned={A: {2: 3, 0: 5}}, revoking={B: {1: 2}}
)


@pytest.mark.parametrize(
    "record",
    [
        records.group_epoch("g", 7, -3),
        records.group_gone("g"),
        records.partition_metadata_gone("g"),
        records.member_record("g", "m", MEMBER),
        records.target_epoch("g", 7, 1_700_000_000_000),
        records.target_gone("g"),
        records.target_of_member("g", "m", {A: frozenset({1, 0}), B: frozenset({3})}),
        CURRENT,
        *records.member_gone("g", "m"),
        records.expression_record("g", "a.*", {"ab", "aa"}, 12, 34),
        records.expression_gone("g", "a.*"),
    ],
)
def test_a_record_comes_back(record: ConsumerRecord) -> None:
    assert decode_record(*encode_record(record)) == record


def test_bytes_of_a_member_of_a_target() -> None:
    key, value = encode_record(records.target_of_member("g", "m", {A: frozenset({1, 0})}))
    assert key == b"\0\7" + b"\0\1g" + b"\0\1m"
    rows = b"\2" + A + b"\3" + b"\0\0\0\0" + b"\0\0\0\1" + b"\0"
    assert value == b"\0\0" + rows + b"\0"


def test_epochs_of_partitions_come_back_and_default_to_the_members() -> None:
    rows = CURRENT.value.assigned_partitions
    assert records.epochs_of(rows, 9) == {A: {0: 5, 2: 3}}
    rows[0].assignment_epochs = None
    assert records.epochs_of(rows, 9) == {A: {0: 9, 2: 9}}


@pytest.mark.parametrize("kind", CONSUMER_KINDS)
def test_a_record_cut_short_is_nothing(kind: int) -> None:
    key, value = encode_record(CURRENT)
    assert value is not None
    for end in range(len(value)):
        assert decode_record(key, value[:end]) is None
    for end in range(len(key)):
        assert decode_record(key[:end], value) is None

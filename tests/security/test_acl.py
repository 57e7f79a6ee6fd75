"""Entries and filters against Kafka's rules, as a table of cases each."""

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.security.acl import (
    CLUSTER_NAME,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
    known,
)

ENTRY = Acl(
    ResourceType.TOPIC,
    PatternType.LITERAL,
    "t",
    "User:alice",
    "10.0.0.1",
    Operation.READ,
    Permission.ALLOW,
)
ANYTHING = AclFilter(
    ResourceType.ANY, PatternType.ANY, None, None, None, Operation.ANY, Permission.ANY
)


@pytest.mark.parametrize(
    ("change", "asked", "speaks"),
    [
        ({}, ("User:alice", "10.0.0.1", Operation.READ), True),
        ({}, ("User:bob", "10.0.0.1", Operation.READ), False),
        ({}, ("Group:alice", "10.0.0.1", Operation.READ), False),
        ({}, ("User:alice", "10.0.0.2", Operation.READ), False),
        ({}, ("User:alice", "10.0.0.1", Operation.WRITE), False),
        ({"principal": "User:*"}, ("User:bob", "10.0.0.1", Operation.READ), True),
        ({"principal": "User:*"}, ("Group:x", "10.0.0.1", Operation.READ), True),
        ({"host": "*"}, ("User:alice", "10.9.9.9", Operation.READ), True),
        ({"operation": Operation.ALL}, ("User:alice", "10.0.0.1", Operation.DELETE), True),
        *(
            ({"operation": each}, ("User:alice", "10.0.0.1", Operation.DESCRIBE), True)
            for each in (Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER)
        ),
        *(
            ({"operation": each}, ("User:alice", "10.0.0.1", Operation.DESCRIBE), False)
            for each in (Operation.CREATE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS)
        ),
        (
            {"operation": Operation.ALTER_CONFIGS},
            ("User:alice", "10.0.0.1", Operation.DESCRIBE_CONFIGS),
            True,
        ),
        ({"permission": Permission.DENY}, ("User:alice", "10.0.0.1", Operation.READ), True),
        ({"permission": Permission.DENY}, ("User:alice", "10.0.0.1", Operation.DESCRIBE), False),
    ],
)
def test_whom_and_what_an_entry_speaks_of(change, asked, speaks) -> None:  # type: ignore[no-untyped-def]
    assert ENTRY._replace(**change).speaks_of(*asked) is speaks


@pytest.mark.parametrize(
    "change",
    [
        {"resource_type": ResourceType.UNKNOWN},
        {"resource_type": ResourceType.ANY},
        {"pattern_type": PatternType.MATCH},
        {"pattern_type": PatternType.ANY},
        {"operation": Operation.ANY},
        {"operation": known(Operation, 99)},
        {"permission": Permission.ANY},
        {"name": ""},
        {"resource_type": ResourceType.CLUSTER},
        {"principal": "alice"},
        {"principal": "User:"},
        {"principal": ""},
    ],
)
def test_what_cannot_be_kept(change: dict[str, object]) -> None:
    with pytest.raises(KafkaError) as caught:
        ENTRY._replace(**change).check()  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_what_can_be_kept() -> None:
    ENTRY.check()
    ENTRY._replace(resource_type=ResourceType.CLUSTER, name=CLUSTER_NAME).check()
    ENTRY._replace(pattern_type=PatternType.PREFIXED).check()


LITERAL, PREFIX = (
    ENTRY._replace(name="abc"),
    ENTRY._replace(name="ab", pattern_type=PatternType.PREFIXED),
)
STAR = ENTRY._replace(name="*")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, "LPS"),
        ({"pattern_type": PatternType.LITERAL}, "LS"),
        ({"pattern_type": PatternType.PREFIXED}, "P"),
        ({"pattern_type": PatternType.MATCH}, "LPS"),
        ({"name": "abc"}, "L"),
        ({"name": "ab"}, "P"),
        ({"name": "abc", "pattern_type": PatternType.MATCH}, "LPS"),
        ({"name": "abd", "pattern_type": PatternType.MATCH}, "PS"),
        ({"name": "x", "pattern_type": PatternType.MATCH}, "S"),
        ({"name": "abc", "pattern_type": PatternType.PREFIXED}, ""),
        ({"resource_type": ResourceType.GROUP}, ""),
        ({"resource_type": ResourceType.TOPIC}, "LPS"),
        ({"principal": "User:bob"}, ""),
        ({"host": "*"}, ""),
        ({"host": "10.0.0.1"}, "LPS"),
        ({"operation": Operation.ALL}, ""),
        ({"permission": Permission.DENY}, ""),
        ({"permission": Permission.UNKNOWN}, ""),
    ],
)
def test_what_a_filter_finds(change: dict[str, object], found: str) -> None:
    asked = ANYTHING._replace(**change)  # type: ignore[arg-type]
    entries = {"L": LITERAL, "P": PREFIX, "S": STAR}
    assert "".join(name for name, acl in entries.items() if asked.matches(acl)) == found


def test_a_filter_with_a_part_that_is_not_known() -> None:
    ANYTHING.check()
    with pytest.raises(KafkaError):
        ANYTHING._replace(pattern_type=known(PatternType, 77)).check()

"""Configuration files: TOML and Java properties, and what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.config_file import parse_config_file
from ottla.base.errors import ErrorCode, KafkaError


def test_toml_tables_join_with_dots_and_lists_with_commas() -> None:
    text = """
    "num.partitions" = 3
    flush.on.ack = false
    [log]
    dirs = ["/a", "/b"]
    [log.retention]
    hours = 24
    [log.cleaner.min.cleanable]
    ratio = 0.5
    """
    assert parse_config_file(text, "toml") == {
        "num.partitions": "3",
        "flush.on.ack": "false",
        "log.dirs": "/a,/b",
        "log.retention.hours": "24",
        "log.cleaner.min.cleanable.ratio": "0.5",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = ", "not TOML"),
        ('"a.b" = 1\n[a]\nb = 2', "a.b: is given twice"),
        ("a = 2026-01-01", "a: is no text"),
        ("a = [[1]]", "a: is no text"),
        ("a = [{b = 1}]", "a: is no text"),
    ],
)
def test_refused_toml(text: str, fault: str) -> None:
    with pytest.raises(KafkaError) as caught:
        parse_config_file(text, "toml")
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        # Each as java.util.Properties.load reads it.
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a = b", {"a": "b"}),
        ("a:b", {"a": "b"}),
        ("a b", {"a": "b"}),
        ("  a\t:\f b c ", {"a": "b c "}),
        ("a", {"a": ""}),
        ("a==b", {"a": "=b"}),
        ("a = : b", {"a": ": b"}),
        ("# a=b\n! c=d\n\ne=f # g", {"e": "f # g"}),
        ("a=b\r\nc=d\re=f", {"a": "b", "c": "d", "e": "f"}),
        ("a=b\\\n \t\f c", {"a": "bc"}),
        ("\t\f# a=b\n\tc=d", {"c": "d"}),
        ("a=b\\\n# c", {"a": "b# c"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("a=b\\\n\nc=d", {"a": "b", "c": "d"}),
        ("a=b\\", {"a": "b"}),
        ("a\\ b=c", {"a b": "c"}),
        ("a\\=b\\:c=d", {"a=b:c": "d"}),
        ("a=\\t\\n\\r\\f\\q\\u00e9", {"a": "\t\n\r\fqé"}),
        ("a=1\na=2", {"a": "2"}),
        ("listeners=PLAINTEXT://:9092", {"listeners": "PLAINTEXT://:9092"}),
    ],
)
def test_properties(text: str, pairs: dict[str, str]) -> None:
    assert parse_config_file(text, "properties") == pairs


def test_a_broken_escape_names_its_line() -> None:
    with pytest.raises(KafkaError, match=r"line 2: .u needs four hex digits"):
        parse_config_file("a=b\nc=\\u00g0", "properties")


KEYS = st.text(st.sampled_from("abz.-_0"), min_size=1, max_size=12)


@given(st.dictionaries(KEYS, st.text(max_size=30), max_size=6))
def test_properties_that_java_writes_come_back(pairs: dict[str, str]) -> None:
    def escape(text: str) -> str:
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

    lines = "\n".join(f"{key} = {escape(value)}" for key, value in pairs.items())
    assert parse_config_file(lines, "properties") == pairs


@given(st.text(max_size=200))
def test_any_text_is_pairs_or_refused(text: str) -> None:
    for kind in ("toml", "properties"):
        try:
            parse_config_file(text, kind)
        except KafkaError as error:
            assert error.code is ErrorCode.INVALID_CONFIG

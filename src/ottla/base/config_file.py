"""A configuration file as (key, text) pairs: TOML, or Java properties as Kafka writes them.

TOML. Nested tables join with dots, so `[log.retention]` and `hours = 24` are
`log.retention.hours`; a list becomes the comma text that Kafka's lists are.

Properties. A line is a key, then `=`, `:` or blanks, then a value; blanks before either are
dropped, those at the end of a value are kept, as in Java (options strip them). `#` and `!` begin
a comment where a line begins. A backslash at the end of a line (an odd number of them) continues
it on the next one, whose leading blanks are dropped; else it escapes: \\t \\n \\r \\f and \\uXXXX
mean what they mean in Java, any other character itself. Of a key given twice the last one counts.
Source: the documentation of java.util.Properties.load.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, Literal

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.option import text_of

_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_SEPARATOR: Final = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_BLANKS: Final = " \t\f"


def parse_config_file(text: str, kind: Literal["toml", "properties"]) -> dict[str, str]:
    """Keys and their texts; KafkaError(INVALID_CONFIG) naming the line or key that is wrong."""
    return _parse_toml(text) if kind == "toml" else _parse_properties(text)


# --- TOML -------------------------------------------------------------------------------------


def _parse_toml(text: str) -> dict[str, str]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"not TOML: {error}") from None
    pairs: dict[str, str] = {}
    for key, value in _leaves("", table):
        if key in pairs:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{key}: is given twice")
        pairs[key] = value
    return pairs


def _leaves(prefix: str, table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(f"{name}.", value)
        else:
            yield name, _toml_text(name, value)


def _toml_text(name: str, value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | bool | int | float) for item in items):
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"{name}: is no text, number, boolean or list")
    return ",".join(text_of(item) or "" for item in items)


# --- properties -------------------------------------------------------------------------------


def _parse_properties(text: str) -> dict[str, str]:
    pairs = {}
    for number, line in _logical_lines(text):
        match = _SEPARATOR.fullmatch(line)
        if match is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"line {number}: is no key = value")
        key, value = (_unescape(part, number) for part in match.groups())
        pairs[key] = value
    return pairs


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) with continuations joined, comments and blanks left out."""
    parts: list[str] = []
    first, continuing = 0, False
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.lstrip(_BLANKS)
        if not continuing:
            if not line or line[0] in "#!":
                continue
            parts, first = [], number
        continuing = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        parts.append(line[:-1] if continuing else line)
        if not continuing:
            yield first, "".join(parts)
    if continuing:
        yield first, "".join(parts)


def _unescape(text: str, number: int) -> str:
    def meaning(match: re.Match[str]) -> str:
        escaped = match[1]
        if escaped[0] != "u":
            return _ESCAPES.get(escaped, escaped)
        if len(escaped) == 1:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"line {number}: \\u needs four hex digits")
        return chr(int(escaped[1:], 16))

    # \u escapes are UTF-16: two of them may be one character.
    units = _ESCAPE.sub(meaning, text).encode("utf-16-be", "surrogatepass")
    return units.decode("utf-16-be", "replace")

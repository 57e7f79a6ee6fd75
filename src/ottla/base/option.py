"""One config key: its type, default and bounds, and how its text is read.

The class is the schema. A settings class is a frozen dataclass whose fields are made by
`option(...)`; the config key is the field's name with dots for underscores:

    class TopicSettings:
        retention_ms: int = option(LONG, 604_800_000, at_least(-1), "How long …")

`table_of(TopicSettings)` gives the options by key, so names, types, defaults, bounds and
documentation stand in one place, and what reads a setting reads a slot of its own type.

What is refused is refused by INVALID_CONFIG with the key and the value in the message. A secret
is never printed: its text is None.

Rejected: reading values when they are used (a bad value would be met in the middle of a
request); a dictionary of settings (no types, and slow on the path of a produce).
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Final, NamedTuple, NoReturn

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS

Value = bool | int | float | str | tuple[str, ...] | None
Validator = Callable[[Any], str | None]
"""What is wrong with a parsed value, in words; None if nothing is."""


class OptionType(IntEnum):
    """Kafka's types of config values, by the number DescribeConfigs gives them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


BOOLEAN, STRING, INT, SHORT, LONG, DOUBLE, LIST, CLASS, PASSWORD = OptionType

INTEGER_BITS: Final = {SHORT: 16, INT: 32, LONG: 64}
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1


class Update(Enum):
    """Whether AlterConfigs may change a broker option while the broker runs."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER_WIDE = "cluster-wide"


class Effect(Enum):
    """What setting an option does in this version."""

    WORKS = "works"
    LATER = "accepted, for a feature that is yet to come"
    NONE = "accepted, has no effect in Ottla"


class Synonym(NamedTuple):
    """A broker option that gives this one its value, times `factor` (hours to ms)."""

    name: str
    factor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One config key."""

    name: str = ""
    type: OptionType
    default: Value
    validator: Validator | None
    documentation: str
    importance: str
    update: Update
    effect: Effect
    synonyms: tuple[Synonym, ...]

    @property
    def is_sensitive(self) -> bool:
        return self.type is PASSWORD

    def parse(self, text: str) -> Value:
        """The value that `text` means; KafkaError(INVALID_CONFIG) naming key and value."""
        value = _parse(self, text)
        fault = self.validator(value) if self.validator else None
        if fault:
            refuse(self, text, fault)
        return value

    def text_of(self, value: Value) -> str | None:
        """A value as Kafka prints it; None for a secret, and for what is not set."""
        return None if self.is_sensitive else text_of(value)


def option(
    type: OptionType,
    default: Value,
    validator: Validator | None,
    documentation: str,
    *,
    importance: str = "medium",
    update: Update = Update.READ_ONLY,
    effect: Effect = Effect.WORKS,
    synonyms: tuple[Synonym, ...] = (),
) -> Any:
    """A field of a settings class."""
    made = Option(
        type=type,
        default=default,
        validator=validator,
        documentation=documentation,
        importance=importance,
        update=update,
        effect=effect,
        synonyms=synonyms,
    )
    return dataclasses.field(default=default, metadata={"option": made})


def table_of(settings: type[Any]) -> Mapping[str, Option]:
    """The options of a settings class by key, in alphabetical order."""
    named = (
        dataclasses.replace(field.metadata["option"], name=field.name.replace("_", "."))
        for field in dataclasses.fields(settings)
    )
    return {made.name: made for made in sorted(named, key=lambda made: made.name)}


def attribute_of(key: str) -> str:
    return key.replace(".", "_")


# --- reading and writing values ---------------------------------------------------------------


def refuse(option: Option, text: str, fault: str) -> NoReturn:
    shown = "the value" if option.is_sensitive else repr(text[:CLIENT_TEXT_LOG_CHARS])
    raise KafkaError(ErrorCode.INVALID_CONFIG, f"{option.name}: {shown} {fault}")


_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL_CHARS: Final = 40


def _parse(option: Option, text: str) -> Value:
    text = text.strip()
    if option.type in INTEGER_BITS:
        return _parse_whole(option, text)
    if option.type is BOOLEAN:
        if text.lower() not in ("true", "false"):
            refuse(option, text, "is neither true nor false")
        return text.lower() == "true"
    if option.type is DOUBLE:
        if len(text) > _DECIMAL_CHARS or not _DECIMAL.fullmatch(text):
            refuse(option, text, "is not a number")
        return float(text)
    if option.type is LIST:
        return _parse_list(option, text)
    return text


def _parse_whole(option: Option, text: str) -> int:
    bits = INTEGER_BITS[option.type]
    if not _WHOLE.fullmatch(text):
        refuse(option, text, "is not a whole number")
    value = int(text)
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        refuse(option, text, f"does not fit {bits} bits ({option.type.name.lower()})")
    return value


def _parse_list(option: Option, text: str) -> tuple[str, ...]:
    """Items between commas, without their blanks; of twins the first stays, as in Kafka."""
    if not text:
        return ()
    items = [item.strip() for item in text.split(",")]
    if "" in items:
        refuse(option, text, "has an empty item")
    return tuple(dict.fromkeys(items))


def text_of(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return repr(value).upper().replace("E+", "E")
    return str(value)


# --- validators -------------------------------------------------------------------------------


def at_least(low: int) -> Validator:
    return lambda value: None if value >= low else f"is less than {low}"


def between(low: int, high: int) -> Validator:
    return lambda value: None if low <= value <= high else f"is not between {low} and {high}"


def either(special: int, then: Validator) -> Validator:
    """`special`, or what another validator takes."""

    def fault(value: Any) -> str | None:
        found = None if value == special else then(value)
        return found and f"{found}, nor is it {special}"

    return fault


def one_of(*allowed: str) -> Validator:
    """For a string: one of these words. For a list: nothing but these words."""

    def fault(value: Any) -> str | None:
        items = value if isinstance(value, tuple) else (value,)
        wrong = [item for item in items if item not in allowed]
        return f"is not one of {', '.join(allowed)}" if wrong else None

    return fault


def not_empty(value: Any) -> str | None:
    return None if value else "is empty"


_REPLICAS = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")


def replica_list(value: Any) -> str | None:
    if value == ("*",) or all(_REPLICAS.fullmatch(item) for item in value):
        return None
    return "is neither * nor a list of partition:broker"

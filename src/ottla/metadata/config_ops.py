"""What IncrementalAlterConfigs and AlterConfigs make of a resource's configs: pure functions.

Operations name a key each, once. APPEND and SUBTRACT are for list options alone and work on
what is set, or else on the default; they keep the order, and add nothing twice. Replacing
(AlterConfigs, the older request) is to forget all keys and to set the ones given.
The values that come out are checked by the option tables, topics as a whole, since some options
of a topic are bound to each other; brokers by what was set, since what stands from before may
be of an older version. A group's bounds are its brokers' settings: whoever knows these checks them.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.group_options import GROUP_OPTIONS, validate_group_config
from ottla.base.option import Option
from ottla.base.options import (
    BROKER_OPTIONS,
    TOPIC_OPTIONS,
    OptionType,
    validate_broker_config,
    validate_topic_configs,
)

CONFIG_VALUE_BYTES: Final = 32_767
"""Longest value of a config (Kafka's bound)."""


class ResourceType(IntEnum):
    """Kafka's kinds of resources that have configs here."""

    TOPIC = 2
    BROKER = 4
    GROUP = 32


class OpType(IntEnum):
    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigOp(NamedTuple):
    name: str
    type: OpType
    value: str | None
    """None for DELETE alone."""


_TABLES: Final[Mapping[ResourceType, Mapping[str, Option]]] = {
    ResourceType.TOPIC: TOPIC_OPTIONS,
    ResourceType.BROKER: BROKER_OPTIONS,
    ResourceType.GROUP: GROUP_OPTIONS,
}


def altered(
    resource: ResourceType, current: Mapping[str, str], ops: Sequence[ConfigOp]
) -> dict[str, str]:
    """`current` after all operations; KafkaError where one cannot be."""
    if len({op.name for op in ops}) != len(ops):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "A config key is named more than once.")
    result = dict(current)
    for op in ops:
        if op.type is OpType.DELETE:
            result.pop(op.name, None)
        elif op.value is None:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"{op.name}: the value may not be null.")
        elif op.type is OpType.SET:
            result[op.name] = op.value
        else:
            result[op.name] = _edited_list(_TABLES[resource].get(op.name), result, op)
    return result


def validate(
    resource: ResourceType, resource_name: str, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """KafkaError where configs may not become `after`."""
    for name, value in after.items():
        if len(value.encode(errors="surrogatepass")) > CONFIG_VALUE_BYTES:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"{name}: the value is longer than {CONFIG_VALUE_BYTES} bytes.",
            )
    if resource is ResourceType.TOPIC:
        validate_topic_configs(after)
        return
    if resource is ResourceType.GROUP:
        for name, value in after.items():
            validate_group_config(name, value)
        return
    for name, value in after.items():
        if before.get(name) != value:
            validate_broker_config(name, value, cluster_wide=not resource_name)


def _edited_list(option: Option | None, configs: Mapping[str, str], op: ConfigOp) -> str:
    if option is None or option.type is not OptionType.LIST:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"{op.type.name} of {op.name} cannot be: it is not a list.",
        )
    now = configs.get(op.name, option.text_of(option.default) or "")
    parts, given = _parts(now), _parts(op.value or "")
    if op.type is OpType.APPEND:
        parts = list(dict.fromkeys((*parts, *given)))
    else:
        parts = [part for part in parts if part not in given]
    return ",".join(parts)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

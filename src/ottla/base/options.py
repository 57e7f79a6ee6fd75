"""The options of topics and brokers, and where the value of each comes from.

A value is looked for in layers, the strongest first, which is what DescribeConfigs lists:

    DYNAMIC_TOPIC_CONFIG            set of the topic
    DYNAMIC_BROKER_CONFIG           set of this broker while it runs
    DYNAMIC_DEFAULT_BROKER_CONFIG   set of all brokers while they run
    STATIC_BROKER_CONFIG            this broker's file and command line
    DEFAULT_CONFIG                  the table

What is set of a group (DYNAMIC_GROUP_CONFIG) is as strong for it as a topic's for the topic.
Settings are made from the layers when a node starts, a topic is loaded or something is altered,
never for a request. Between the broker options that give a topic its value the finer unit wins
whatever the layer (`log.retention.ms` over `log.retention.hours`), as in Kafka.

This module is the one that other rooms import: the tables are re-exported here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from ottla.base.broker_options import BROKER_OPTIONS, BrokerSettings
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.group_options import GROUP_OPTIONS
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS
from ottla.base.option import Effect, Option, OptionType, Synonym, Update, Value, attribute_of
from ottla.base.topic_options import TOPIC_OPTIONS, TopicSettings

__all__ = [
    "BROKER_OPTIONS",
    "TOPIC_OPTIONS",
    "BrokerLayers",
    "BrokerSettings",
    "ConfigEntry",
    "ConfigSource",
    "ConfigSynonym",
    "Effect",
    "Option",
    "OptionType",
    "TopicSettings",
    "Update",
    "check_topic_bounds",
    "describe_broker",
    "describe_cluster_default",
    "describe_group",
    "describe_topic",
    "effective_broker",
    "effective_topic",
    "validate_broker_config",
    "validate_topic_config",
    "validate_topic_configs",
]


class ConfigSource(IntEnum):
    """Where a value came from, by the number DescribeConfigs gives it."""

    DYNAMIC_TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5
    DYNAMIC_GROUP_CONFIG = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLayers:
    """What was set of a broker's options, as text, by who set it."""

    static: Mapping[str, str] = field(default_factory=dict)
    dynamic_default: Mapping[str, str] = field(default_factory=dict)
    dynamic: Mapping[str, str] = field(default_factory=dict)

    def by_source(self) -> tuple[tuple[ConfigSource, Mapping[str, str]], ...]:
        """Strongest first."""
        return (
            (ConfigSource.DYNAMIC_BROKER_CONFIG, self.dynamic),
            (ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, self.dynamic_default),
            (ConfigSource.STATIC_BROKER_CONFIG, self.static),
        )

    def text(self, name: str) -> str | None:
        """What the strongest layer that sets the option says."""
        return next((texts[name] for _, texts in self.by_source() if name in texts), None)


class ConfigSynonym(NamedTuple):
    """One place where a value was found, or would be if the ones before it were not set."""

    name: str
    value: str | None
    source: ConfigSource


class ConfigEntry(NamedTuple):
    """One row of a DescribeConfigs answer."""

    name: str
    value: str | None
    source: ConfigSource
    is_sensitive: bool
    read_only: bool
    type: OptionType
    documentation: str
    synonyms: tuple[ConfigSynonym, ...]


# --- settings ---------------------------------------------------------------------------------


def effective_broker(layers: BrokerLayers) -> BrokerSettings:
    """The settings that the layers come to; KafkaError naming the key where one is wrong."""
    values: dict[str, Any] = {}
    for name, option in BROKER_OPTIONS.items():
        for alias in (name, *(synonym.name for synonym in option.synonyms)):
            text = layers.text(alias)
            if text is not None:
                values[attribute_of(name)] = option.parse(text)
                break
    return BrokerSettings(**values)


def effective_topic(topic_configs: Mapping[str, str], broker: BrokerSettings) -> TopicSettings:
    """The settings of a topic. What `topic_configs` holds was validated when it was set."""
    values: dict[str, Any] = {}
    for name, option in TOPIC_OPTIONS.items():
        text = topic_configs.get(name)
        values[attribute_of(name)] = (
            option.parse(text) if text is not None else _broker_default(option, broker)
        )
    return TopicSettings(**values)


def _broker_default(option: Option, broker: BrokerSettings) -> Value:
    for synonym in option.synonyms:
        value: Value = getattr(broker, attribute_of(synonym.name))
        if value is not None:
            return _scaled(value, synonym)
    return option.default


def _scaled(value: Value, synonym: Synonym) -> Value:
    """Hours to milliseconds and the like; a negative time is 'no bound', -1 in every unit."""
    if synonym.factor == 1 or not isinstance(value, int):
        return value
    return value * synonym.factor if value >= 0 else -1


# --- validation -------------------------------------------------------------------------------


def validate_topic_config(name: str, value: str) -> None:
    """KafkaError(INVALID_CONFIG) naming the key, where a topic cannot have this."""
    option = TOPIC_OPTIONS.get(name)
    if option is None:
        shown = name[:CLIENT_TEXT_LOG_CHARS]
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {shown}")
    option.parse(value)


def validate_topic_configs(configs: Mapping[str, str]) -> None:
    """`validate_topic_config` of each."""
    for name, value in configs.items():
        validate_topic_config(name, value)


def check_topic_bounds(configs: Mapping[str, str], broker: BrokerSettings) -> None:
    """KafkaError(INVALID_CONFIG) where a topic of this broker would contradict itself: what its
    configs leave open the broker's settings say."""
    settings = effective_topic(configs, broker)
    low, high = settings.min_compaction_lag_ms, settings.max_compaction_lag_ms
    if low > high:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"min.compaction.lag.ms: {low} is more than max.compaction.lag.ms: {high}",
        )


def validate_broker_config(name: str, value: str, *, cluster_wide: bool) -> None:
    """KafkaError where AlterConfigs may not set this of a broker, or of all (`cluster_wide`):
    INVALID_REQUEST where the option cannot be altered, INVALID_CONFIG for key and value."""
    option = BROKER_OPTIONS.get(name)
    if option is None:
        shown = name[:CLIENT_TEXT_LOG_CHARS]
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown broker config name: {shown}")
    if option.update is Update.READ_ONLY:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{name}: cannot be altered while running")
    if option.update is Update.PER_BROKER and cluster_wide:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{name}: is set of single brokers only")
    option.parse(value)


# --- description ------------------------------------------------------------------------------


def describe_topic(topic_configs: Mapping[str, str], layers: BrokerLayers) -> list[ConfigEntry]:
    """Every option of a topic, with all places that give it a value."""
    settings = effective_topic(topic_configs, effective_broker(layers))
    entries = []
    for name, option in TOPIC_OPTIONS.items():
        text = option.text_of(getattr(settings, attribute_of(name)))
        found: list[ConfigSynonym] = []
        if name in topic_configs:
            found.append(ConfigSynonym(name, text, ConfigSource.DYNAMIC_TOPIC_CONFIG))
        for synonym in option.synonyms:
            found.extend(_places(BROKER_OPTIONS[synonym.name], layers))
        entries.append(_entry(option, text, found, read_only=False))
    return entries


def describe_group(configs: Mapping[str, str], layers: BrokerLayers) -> list[ConfigEntry]:
    """Every option of a group, with all places that give it a value."""
    broker = effective_broker(layers)
    values = {name: GROUP_OPTIONS[name].parse(text) for name, text in configs.items()}
    entries = []
    for name, option in GROUP_OPTIONS.items():
        value = values[name] if name in values else _broker_default(option, broker)
        text = option.text_of(value)
        found: list[ConfigSynonym] = []
        if name in values:
            found.append(ConfigSynonym(name, text, ConfigSource.DYNAMIC_GROUP_CONFIG))
        for synonym in option.synonyms:
            found.extend(_places(BROKER_OPTIONS[synonym.name], layers))
        entries.append(_entry(option, text, found, read_only=False))
    return entries


def describe_broker(layers: BrokerLayers) -> list[ConfigEntry]:
    """Every option of one broker."""
    settings = effective_broker(layers)
    entries = []
    for name, option in BROKER_OPTIONS.items():
        text = option.text_of(getattr(settings, attribute_of(name)))
        found = list(_places(option, layers))
        for synonym in option.synonyms:
            found.extend(_places(BROKER_OPTIONS[synonym.name], layers))
        read_only = option.update is Update.READ_ONLY
        entries.append(_entry(option, text, found, read_only=read_only))
    return entries


def describe_cluster_default(layers: BrokerLayers) -> list[ConfigEntry]:
    """What was altered for all brokers: the resource of a broker without a name."""
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG
    entries = []
    for name, text in sorted(layers.dynamic_default.items()):
        option = BROKER_OPTIONS[name]
        shown = option.text_of(option.parse(text))
        found = [ConfigSynonym(name, shown, source)]
        entries.append(_entry(option, shown, found, read_only=option.update is Update.READ_ONLY))
    return entries


def _places(option: Option, layers: BrokerLayers) -> Iterator[ConfigSynonym]:
    for source, texts in layers.by_source():
        if option.name in texts:
            text = None if option.is_sensitive else texts[option.name]
            yield ConfigSynonym(option.name, text, source)
    if option.default is not None:
        default = option.text_of(option.default)
        yield ConfigSynonym(option.name, default, ConfigSource.DEFAULT_CONFIG)


def _entry(
    option: Option, text: str | None, found: list[ConfigSynonym], *, read_only: bool
) -> ConfigEntry:
    """A row whose source is that of the first place found. A default that stands before a value
    that was set (of the broker's file, under an older name) is no place to look in."""
    found.sort(key=_is_default)
    return ConfigEntry(
        name=option.name,
        value=text,
        source=found[0].source if found else ConfigSource.DEFAULT_CONFIG,
        is_sensitive=option.is_sensitive,
        read_only=read_only,
        type=option.type,
        documentation=option.documentation,
        synonyms=tuple(found),
    )


def _is_default(place: ConfigSynonym) -> bool:
    return place.source is ConfigSource.DEFAULT_CONFIG

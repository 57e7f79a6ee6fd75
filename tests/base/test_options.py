"""The tables against Kafka's own; values from text; the layers and what is described of them."""

import dataclasses
import typing

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.foreign_options import accept_static
from ottla.base.group_options import check_broker_bounds
from ottla.base.option import INTEGER_BITS, Effect, Option, OptionType, Update, attribute_of
from ottla.base.options import (
    BROKER_OPTIONS,
    TOPIC_OPTIONS,
    BrokerLayers,
    BrokerSettings,
    ConfigEntry,
    ConfigSource,
    ConfigSynonym,
    TopicSettings,
    check_topic_bounds,
    describe_broker,
    describe_cluster_default,
    describe_topic,
    effective_broker,
    effective_topic,
    validate_broker_config,
    validate_topic_config,
)
from tests.base import kafka_options

OWN = {"flush.on.ack", "record.validation"}
OF_THE_AUTHORIZER = {"super.users", "allow.everyone.if.no.acl.found"}
"""Read by Kafka's StandardAuthorizer itself, so that Kafka does not list them."""
OTHER_DEFAULTS = {
    "listeners": "PLAINTEXT://127.0.0.1:9092",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT",
    "log.dir": None,
    "log.dirs": "./ottla-data",
    "node.id": "1",
    "max.connections": "20000",
    "queued.max.request.bytes": "268435456",
    "controller.listener.names": "",
}
"""Where Ottla's default is not Kafka's (broker_options says why)."""
OTHER_TYPES = {"listener.security.protocol.map", "max.connections.per.ip.overrides"}
"""Lists in all but name: Kafka calls them strings and splits them later."""
OTHER_UPDATES = {"listeners", "listener.security.protocol.map"}
"""Kafka can open and close listeners while it runs."""
BOTH = [
    (name, option) for table in (TOPIC_OPTIONS, BROKER_OPTIONS) for name, option in table.items()
]
BOUNDS = {name: row[2] for name, row in {**kafka_options.BROKER, **kafka_options.TOPIC}.items()}


def refusal(option: Option, text: str) -> str | None:
    """The message `text` is refused with; None if it is taken, as a value of the option's type."""
    try:
        value = option.parse(text)
    except KafkaError as error:
        assert error.code is ErrorCode.INVALID_CONFIG
        assert error.message.startswith(f"{option.name}: ")
        return error.message
    kinds = {OptionType.BOOLEAN: bool, OptionType.DOUBLE: float, OptionType.LIST: tuple}
    kind = int if option.type in INTEGER_BITS else kinds.get(option.type, str)
    assert type(value) is kind
    return None


# --- the tables -------------------------------------------------------------------------------


def test_topic_options_are_kafkas_and_two_of_our_own() -> None:
    assert set(TOPIC_OPTIONS) == set(kafka_options.TOPIC) | OWN


@pytest.mark.parametrize("name", kafka_options.TOPIC)
def test_topic_option_is_kafkas(name: str) -> None:
    kind, default, _, synonym = kafka_options.TOPIC[name]
    option = TOPIC_OPTIONS[name]
    assert option.type.name.lower() == kind
    assert option.text_of(option.default) == default
    assert option.importance == "medium"
    assert [other.name for other in option.synonyms[:1]] == ([synonym] if synonym else [])


@pytest.mark.parametrize("name", [*kafka_options.BROKER])
def test_broker_option_is_kafkas(name: str) -> None:
    kind, default, _, update = kafka_options.BROKER[name]
    option = BROKER_OPTIONS.get(name)
    if option is None:
        return  # test_every_broker_option_of_kafka_has_an_answer
    assert option.type.name.lower() == kind or name in OTHER_TYPES
    assert option.text_of(option.default) == OTHER_DEFAULTS.get(name, default)
    assert option.update.value == update or name in OTHER_UPDATES


def test_no_broker_option_is_made_up() -> None:
    assert set(BROKER_OPTIONS) - set(kafka_options.BROKER) == OWN | OF_THE_AUTHORIZER


@pytest.mark.parametrize("name", sorted(set(kafka_options.BROKER) - set(BROKER_OPTIONS)))
def test_every_broker_option_of_kafka_has_an_answer(name: str) -> None:
    """Its default is no reason not to start; another value is noted, or refused with a reason."""
    try:
        options, notes = accept_static({name: "x"})
    except KafkaError as error:
        assert error.message.startswith(f"{name}: cannot be set: ")
    else:
        assert not options
        assert notes[0].startswith(f"{name} has no effect: ")


def test_synonyms_are_broker_options() -> None:
    for _, option in BOTH:
        for synonym in option.synonyms:
            assert synonym.name in BROKER_OPTIONS


@pytest.mark.parametrize("settings", [TopicSettings, BrokerSettings])
def test_annotations_fit_types(settings: type) -> None:
    """mypy sees the annotation, the parser the type: they must mean the same."""
    table = TOPIC_OPTIONS if settings is TopicSettings else BROKER_OPTIONS
    hints = typing.get_type_hints(settings)
    plain = {
        OptionType.BOOLEAN: bool,
        OptionType.DOUBLE: float,
        OptionType.LIST: tuple[str, ...],
        OptionType.STRING: str,
    }
    for field in dataclasses.fields(settings):
        option = table[field.name.replace("_", ".")]
        kind = int if option.type in INTEGER_BITS else plain[option.type]
        assert hints[field.name] == (kind if option.default is not None else kind | None)


def test_every_option_is_documented_in_a_sentence() -> None:
    for _, option in BOTH:
        assert option.documentation.endswith(".")
        assert len(option.documentation) > 20


@pytest.mark.parametrize(("name", "option"), BOTH)
def test_default_is_a_value_of_the_option(name: str, option: Option) -> None:
    text = option.text_of(option.default)
    if text is not None:
        assert option.parse(text) == option.default


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "option"), BOTH)
@pytest.mark.parametrize(
    "text", ["0", "-1", "-3", "9" * 30, "9" * 10_000, "yes", "1.5", "", "a,,b"]
)
def test_any_text_is_a_value_or_refused_by_name(name: str, option: Option, text: str) -> None:
    message = refusal(option, text)
    whole = option.type in INTEGER_BITS
    if whole and text in ("9" * 30, "9" * 10_000, "yes", "1.5", "", "a,,b"):
        assert message
        assert len(message) < 500
    if option.type is OptionType.BOOLEAN:
        assert message
    if option.type is OptionType.LIST and text == "a,,b":
        assert message


@pytest.mark.parametrize(("name", "option"), [row for row in BOTH if row[1].type in INTEGER_BITS])
def test_whole_numbers_end_at_kafkas_bounds_and_at_their_width(name: str, option: Option) -> None:
    least, most = BOUNDS[name] or (None, None)
    top = 2 ** (INTEGER_BITS[option.type] - 1) - 1
    assert refusal(option, str(top + 1))
    assert refusal(option, str(-top - 2))
    assert bool(refusal(option, str(top))) == (most is not None)
    if most is not None:
        assert refusal(option, str(most)) is None
        assert refusal(option, str(most + 1))
    if least is not None:
        assert refusal(option, str(least)) is None
        below = str(least - 1)
        assert bool(refusal(option, below)) != (name == "compression.gzip.level" and below == "-1")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        # Each as LogConfig of Kafka 4.3.1 takes it.
        ("cleanup.policy", "", ()),
        ("cleanup.policy", " compact , delete ", ("compact", "delete")),
        ("cleanup.policy", "delete,delete", ("delete",)),
        ("retention.ms", " 5 ", 5),
        ("retention.ms", "+5", 5),
        ("retention.bytes", "-5", -5),
        ("preallocate", "TRUE", True),
        ("min.cleanable.dirty.ratio", ".5", 0.5),
        ("compression.gzip.level", "-1", -1),
        ("leader.replication.throttled.replicas", "*", ("*",)),
        ("leader.replication.throttled.replicas", "0:1,1:2", ("0:1", "1:2")),
    ],
)
def test_text_that_kafka_takes(name: str, text: str, value: object) -> None:
    validate_topic_config(name, text)
    assert TOPIC_OPTIONS[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cleanup.policy", "delete,"),
        ("cleanup.policy", "shred"),
        ("retention.ms", "-2"),
        ("retention.ms", "1e3"),
        ("retention.ms", "1_000"),
        ("retention.ms", "٣"),
        ("preallocate", "yes"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("compression.gzip.level", "0"),
        ("compression.type", "LZ4"),
        ("compression.type", "none"),
        ("segment.bytes", "1048575"),
        ("segment.bytes", "2147483648"),
        ("message.timestamp.type", "logappendtime"),
        ("leader.replication.throttled.replicas", "x"),
        ("flush.messages", "0"),
        ("flush.on.ack", "1"),
        ("record.validation", "none"),
    ],
)
def test_text_that_is_refused(name: str, text: str) -> None:
    with pytest.raises(KafkaError) as caught:
        validate_topic_config(name, text)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert caught.value.message.startswith(f"{name}: ")
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    "name", ["nope", "", "log.retention.ms", "internal.segment.bytes", "x" * 9999]
)
def test_unknown_topic_config(name: str) -> None:
    with pytest.raises(KafkaError, match="Unknown topic config name: ") as caught:
        validate_topic_config(name, "1")
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert len(caught.value.message) < 300


def test_compaction_lags_must_agree() -> None:
    low, high = "min.compaction.lag.ms", "max.compaction.lag.ms"
    built_in, broker = BrokerSettings(), BrokerSettings(log_cleaner_max_compaction_lag_ms=5)
    check_topic_bounds({low: "5", high: "5"}, built_in)
    check_topic_bounds({low: "6"}, built_in)
    check_topic_bounds({low: "6", high: "6"}, broker)
    for configs, settings in (({low: "6", high: "5"}, built_in), ({low: "6"}, broker)):
        with pytest.raises(KafkaError, match=r"min\.compaction\.lag\.ms: 6 is more than") as caught:
            check_topic_bounds(configs, settings)
        assert caught.value.code is ErrorCode.INVALID_CONFIG


def test_secrets_are_not_shown() -> None:
    secret = dataclasses.replace(
        TOPIC_OPTIONS["compression.type"],
        type=OptionType.PASSWORD,
        validator=lambda value: "is too short",
    )
    message = refusal(secret, "hunter2")
    assert message
    assert "hunter2" not in message
    assert secret.text_of("hunter2") is None


# --- layers -----------------------------------------------------------------------------------


def row(entries: list[ConfigEntry], name: str) -> ConfigEntry:
    (found,) = (entry for entry in entries if entry.name == name)
    return found


def test_settings_of_nothing_are_the_defaults() -> None:
    assert effective_broker(BrokerLayers()) == BrokerSettings()
    assert effective_topic({}, BrokerSettings()) == TopicSettings()


@pytest.mark.parametrize("name", TOPIC_OPTIONS)
def test_each_topic_option_comes_from_the_topic_else_the_broker(name: str) -> None:
    option = TOPIC_OPTIONS[name]
    texts = {
        OptionType.BOOLEAN: ("false", "true"),
        OptionType.DOUBLE: ("0.25", "0.75"),
        OptionType.LIST: ("compact", "compact,delete") if "policy" in name else ("1:2", "*"),
        OptionType.STRING: {
            "compression.type": ("gzip", "zstd"),
            "message.timestamp.type": ("CreateTime", "LogAppendTime"),
            "record.validation": ("header", "deep"),
        }.get(name, ("", "")),
    }
    low, high = texts.get(option.type, ("4", "7"))
    if name == "segment.bytes":
        low, high = "2000000", "7000000"
    assert getattr(
        effective_topic({name: high}, BrokerSettings()), attribute_of(name)
    ) == option.parse(high)
    for synonym in option.synonyms:
        broker = effective_broker(BrokerLayers(static={synonym.name: low}))
        expected = option.parse(low)
        if synonym.factor != 1:
            assert isinstance(expected, int)
            expected *= synonym.factor
        assert getattr(effective_topic({}, broker), attribute_of(name)) == expected
        assert getattr(effective_topic({name: high}, broker), attribute_of(name)) == option.parse(
            high
        )


def test_the_finer_unit_wins() -> None:
    static = {"log.retention.hours": "1"}
    assert (
        effective_topic({}, effective_broker(BrokerLayers(static=static))).retention_ms == 3_600_000
    )
    static["log.retention.minutes"] = "2"
    assert (
        effective_topic({}, effective_broker(BrokerLayers(static=static))).retention_ms == 120_000
    )
    static["log.retention.ms"] = "3"
    assert effective_topic({}, effective_broker(BrokerLayers(static=static))).retention_ms == 3


def test_no_bound_is_no_bound_in_hours_too() -> None:
    broker = effective_broker(BrokerLayers(static={"log.retention.hours": "-1"}))
    assert effective_topic({}, broker).retention_ms == -1


def test_stronger_layers_win() -> None:
    name = "log.segment.bytes"
    static, default, dynamic = ({name: str(n << 20)} for n in (2, 3, 4))
    assert effective_broker(BrokerLayers(static=static)).log_segment_bytes == 2 << 20
    layers = BrokerLayers(static=static, dynamic_default=default)
    assert effective_broker(layers).log_segment_bytes == 3 << 20
    layers = BrokerLayers(static=static, dynamic_default=default, dynamic=dynamic)
    assert effective_broker(layers).log_segment_bytes == 4 << 20

    entry = row(describe_topic({"segment.bytes": str(5 << 20)}, layers), "segment.bytes")
    assert entry.value == str(5 << 20)
    assert entry.source is ConfigSource.DYNAMIC_TOPIC_CONFIG
    assert entry.synonyms == (
        ConfigSynonym("segment.bytes", str(5 << 20), ConfigSource.DYNAMIC_TOPIC_CONFIG),
        ConfigSynonym(name, str(4 << 20), ConfigSource.DYNAMIC_BROKER_CONFIG),
        ConfigSynonym(name, str(3 << 20), ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG),
        ConfigSynonym(name, str(2 << 20), ConfigSource.STATIC_BROKER_CONFIG),
        ConfigSynonym(name, str(1 << 30), ConfigSource.DEFAULT_CONFIG),
    )
    assert (
        row(describe_topic({}, layers), "segment.bytes").source
        is ConfigSource.DYNAMIC_BROKER_CONFIG
    )
    assert row(describe_broker(layers), name).source is ConfigSource.DYNAMIC_BROKER_CONFIG
    (shared,) = describe_cluster_default(layers)
    assert shared.value == str(3 << 20)
    assert shared.source is ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG


def test_a_description_holds_every_option_once() -> None:
    assert [entry.name for entry in describe_topic({}, BrokerLayers())] == sorted(TOPIC_OPTIONS)
    assert [entry.name for entry in describe_broker(BrokerLayers())] == sorted(BROKER_OPTIONS)
    for entry in describe_topic({}, BrokerLayers()) + describe_broker(BrokerLayers()):
        assert entry.source is ConfigSource.DEFAULT_CONFIG
        assert not entry.is_sensitive


def test_source_of_hours_is_where_the_hours_were_set() -> None:
    layers = BrokerLayers(static={"log.retention.hours": "24"})
    entry = row(describe_topic({}, layers), "retention.ms")
    assert entry.value == "86400000"
    assert entry.source is ConfigSource.STATIC_BROKER_CONFIG


def test_older_names_of_a_broker_count_where_the_new_one_is_not_set() -> None:
    settings = effective_broker(BrokerLayers(static={"broker.id": "7", "log.dir": "/a"}))
    assert (settings.node_id, settings.log_dirs) == (7, ("/a",))
    static = {"broker.id": "7", "node.id": "8", "log.dir": "/a", "log.dirs": "/b, /c"}
    settings = effective_broker(BrokerLayers(static=static))
    assert (settings.node_id, settings.log_dirs) == (8, ("/b", "/c"))
    entry = row(describe_broker(BrokerLayers(static={"broker.id": "7"})), "node.id")
    assert (entry.value, entry.source) == ("7", ConfigSource.STATIC_BROKER_CONFIG)


def test_read_only_is_described_as_such() -> None:
    rows = {entry.name: entry.read_only for entry in describe_broker(BrokerLayers())}
    assert rows["log.dirs"]
    assert not rows["log.retention.ms"]
    assert not any(entry.read_only for entry in describe_topic({}, BrokerLayers()))


def test_alteration_of_brokers() -> None:
    validate_broker_config("log.retention.ms", "5", cluster_wide=True)
    validate_broker_config("log.retention.ms", "5", cluster_wide=False)
    for name, text, code in [
        ("log.dirs", "/x", ErrorCode.INVALID_REQUEST),
        ("log.retention.ms", "x", ErrorCode.INVALID_CONFIG),
        ("nope", "1", ErrorCode.INVALID_CONFIG),
    ]:
        with pytest.raises(KafkaError, match=name) as caught:
            validate_broker_config(name, text, cluster_wide=True)
        assert caught.value.code is code


def test_what_has_an_effect_says_so() -> None:
    """What issue 5 covers works; nothing is both alterable and without an effect in silence."""
    working = {name for name, option in TOPIC_OPTIONS.items() if option.effect is Effect.WORKS}
    assert {"retention.ms", "segment.bytes", "compression.type", "flush.on.ack"} <= working
    assert "remote.storage.enable" not in working
    assert BROKER_OPTIONS["flush.on.ack"].update is Update.CLUSTER_WIDE


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"group.min.session.timeout.ms": "9", "group.max.session.timeout.ms": "8"}, "is more"),
        (
            {"log.cleaner.min.compaction.lag.ms": "2", "log.cleaner.max.compaction.lag.ms": "1"},
            "lag",
        ),
        ({"group.consumer.min.session.timeout.ms": "45001"}, "group.consumer.session.timeout.ms"),
        ({"group.consumer.max.session.timeout.ms": "44999"}, "group.consumer.min.session"),
        ({"group.consumer.session.timeout.ms": "60001"}, "group.consumer.max.session.timeout.ms"),
        ({"group.consumer.heartbeat.interval.ms": "4999"}, "group.consumer.min.heartbeat"),
        ({"group.consumer.assignment.interval.ms": "15001"}, "group.consumer.max.assignment"),
        (
            {
                "group.consumer.session.timeout.ms": "5000",
                "group.consumer.min.session.timeout.ms": "5000",
            },
            "group.consumer.heartbeat.interval.ms: 5000 is not less than",
        ),
    ],
)
def test_options_of_a_broker_that_contradict_each_other(
    options: dict[str, str], named: str
) -> None:
    with pytest.raises(KafkaError, match=named):
        check_broker_bounds(effective_broker(BrokerLayers(static=options)))
    check_broker_bounds(BrokerSettings())

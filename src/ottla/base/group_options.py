"""The options of a group: Kafka's, set of one group by AlterConfigs, as of a topic.

Those of consumer groups are heeded. A group that does not set one takes the broker's value, and
its own has to lie within bounds that the broker sets: when it is set, and again when it is used,
since the broker's bounds may have changed. Those of share and streams groups are described.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from ottla.base.broker_options import BrokerSettings
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import CLIENT_TEXT_LOG_CHARS
from ottla.base.option import (
    BOOLEAN,
    INT,
    STRING,
    Effect,
    Synonym,
    at_least,
    attribute_of,
    between,
    one_of,
    option,
    table_of,
)


def later(default: Any, validator: Any, documentation: str) -> Any:
    kind = {bool: BOOLEAN, int: INT, str: STRING}[type(default)]
    return option(kind, default, validator, documentation, effect=Effect.LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What the options of one group are."""

    consumer_session_timeout_ms: int = option(
        INT,
        45_000,
        at_least(1),
        "Session timeout of the group's members (ms).",
        synonyms=(Synonym("group.consumer.session.timeout.ms"),),
    )
    consumer_heartbeat_interval_ms: int = option(
        INT,
        5_000,
        at_least(1),
        "Heartbeat of the group's members (ms).",
        synonyms=(Synonym("group.consumer.heartbeat.interval.ms"),),
    )
    consumer_assignment_interval_ms: int = option(
        INT,
        1_000,
        at_least(0),
        "Shortest time between two assignments of the group (ms).",
        synonyms=(Synonym("group.consumer.assignment.interval.ms"),),
    )
    consumer_assignor_offload_enable: bool = option(
        BOOLEAN, True, None, "Assignments are made on the reactor.", effect=Effect.NONE
    )
    share_session_timeout_ms: int = later(
        45_000, at_least(1), "Session timeout of the members of a share group (ms)."
    )
    share_heartbeat_interval_ms: int = later(
        5_000, at_least(1), "Heartbeat of the members of a share group (ms)."
    )
    share_record_lock_duration_ms: int = later(
        30_000, at_least(1_000), "How long a delivered record is locked (ms)."
    )
    share_delivery_count_limit: int = later(
        5, at_least(2), "How often a record is delivered at most."
    )
    share_partition_max_record_locks: int = later(
        2_000, at_least(100), "Most locked records of a share partition."
    )
    share_auto_offset_reset: str = later("latest", None, "Where a share group starts to read.")
    share_isolation_level: str = later(
        "read_uncommitted",
        one_of("read_committed", "read_uncommitted"),
        "Whether a share group reads what a transaction has not committed.",
    )
    share_renew_acknowledge_enable: bool = later(
        True, None, "Whether members of a share group may ask for more time."
    )
    share_assignment_interval_ms: int = later(
        1_000, at_least(0), "Shortest time between two assignments of a share group (ms)."
    )
    share_assignor_offload_enable: bool = later(
        True, None, "Whether assignments of a share group are made beside the coordinator."
    )
    streams_session_timeout_ms: int = later(
        45_000, at_least(1), "Session timeout of the members of a streams group (ms)."
    )
    streams_heartbeat_interval_ms: int = later(
        5_000, at_least(1), "Heartbeat of the members of a streams group (ms)."
    )
    streams_num_standby_replicas: int = later(
        0, between(0, 2), "Standby replicas of each task of a streams group."
    )
    streams_initial_rebalance_delay_ms: int = later(
        3_000, at_least(0), "How long a new streams group waits for more members (ms)."
    )
    streams_assignment_interval_ms: int = later(
        1_000, at_least(0), "Shortest time between two assignments of a streams group (ms)."
    )
    streams_assignor_offload_enable: bool = later(
        True, None, "Whether assignments of a streams group are made beside the coordinator."
    )


GROUP_OPTIONS: Final = table_of(GroupSettings)


class ConsumerGroupSettings(NamedTuple):
    """What of it a coordinator of consumer groups asks for."""

    session_timeout_ms: int
    heartbeat_interval_ms: int
    assignment_interval_ms: int


def consumer_group_settings(
    configs: Mapping[str, str] | None, broker: BrokerSettings
) -> ConsumerGroupSettings:
    """`configs` are what is set of the group; values past the broker's bounds are cut to them."""
    found = ConsumerGroupSettings(
        broker.group_consumer_session_timeout_ms,
        broker.group_consumer_heartbeat_interval_ms,
        broker.group_consumer_assignment_interval_ms,
    )
    for name, (low, high), field in _bounds(broker) if configs else ():
        text = (configs or {}).get(name)
        if text is not None:
            found = found._replace(**{field: min(max(int(text), low), high)})
    return found


def validate_group_config(name: str, value: str) -> None:
    """KafkaError(INVALID_CONFIG) naming the key, where no group can have this."""
    known = GROUP_OPTIONS.get(name)
    if known is None:
        shown = name[:CLIENT_TEXT_LOG_CHARS]
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown group config name: {shown}")
    known.parse(value)


def check_group_bounds(configs: Mapping[str, str], broker: BrokerSettings) -> None:
    """KafkaError(INVALID_CONFIG) where a group of this broker cannot have what is valid else."""
    for name, (low, high), _ in _bounds(broker):
        text = configs.get(name)
        if text is not None and not low <= int(text) <= high:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG,
                f"{name}: {text} is not between {low} and {high}, the broker's bounds",
            )
    wanted = consumer_group_settings(configs, broker)
    if wanted.session_timeout_ms <= wanted.heartbeat_interval_ms:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms",
        )


def check_broker_bounds(broker: BrokerSettings) -> None:
    """KafkaError(INVALID_CONFIG) naming two options of the broker that contradict each other."""
    lag = "log.cleaner.{}.compaction.lag.ms"
    orders = [
        (lag.format("min"), lag.format("max")),
        ("group.min.session.timeout.ms", "group.max.session.timeout.ms"),
    ]
    for name in ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"):
        low, default, high = (f"group.consumer.{bound}{name}" for bound in ("min.", "", "max."))
        orders += [(low, high), (low, default), (default, high)]
    for least, most in orders:
        if _value(broker, least) > _value(broker, most):
            _refuse(broker, least, "is more than", most)
    heartbeat, session = "group.consumer.heartbeat.interval.ms", "group.consumer.session.timeout.ms"
    if _value(broker, heartbeat) >= _value(broker, session):
        _refuse(broker, heartbeat, "is not less than", session)


def _value(broker: BrokerSettings, name: str) -> int:
    return int(getattr(broker, attribute_of(name)))


def _refuse(broker: BrokerSettings, name: str, fault: str, other: str) -> NoReturn:
    values = _value(broker, name), _value(broker, other)
    raise KafkaError(ErrorCode.INVALID_CONFIG, f"{name}: {values[0]} {fault} {other}: {values[1]}")


def _bounds(broker: BrokerSettings) -> tuple[tuple[str, tuple[int, int], str], ...]:
    return (
        (
            "consumer.session.timeout.ms",
            (
                broker.group_consumer_min_session_timeout_ms,
                broker.group_consumer_max_session_timeout_ms,
            ),
            "session_timeout_ms",
        ),
        (
            "consumer.heartbeat.interval.ms",
            (
                broker.group_consumer_min_heartbeat_interval_ms,
                broker.group_consumer_max_heartbeat_interval_ms,
            ),
            "heartbeat_interval_ms",
        ),
        (
            "consumer.assignment.interval.ms",
            (
                broker.group_consumer_min_assignment_interval_ms,
                broker.group_consumer_max_assignment_interval_ms,
            ),
            "assignment_interval_ms",
        ),
    )

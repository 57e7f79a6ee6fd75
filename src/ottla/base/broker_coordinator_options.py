"""The broker's options of groups, offsets and transactions.

Those of share groups are read and described, so that a Kafka configuration starts; there are no
share groups yet.
"""

from dataclasses import dataclass
from typing import Any, Final

from ottla.base.broker_log_options import BrokerLogSettings
from ottla.base.option import (
    INT,
    INT_MAX,
    LIST,
    LONG,
    SHORT,
    STRING,
    Effect,
    OptionType,
    Update,
    Validator,
    at_least,
    between,
    not_empty,
    one_of,
    option,
)

WEEK_MS: Final = 604_800_000


def group(
    type: OptionType,
    default: int,
    validator: Validator | None,
    documentation: str,
    importance: str = "high",
) -> Any:
    return option(type, default, validator, documentation, importance=importance)


def later(
    type: OptionType,
    default: int,
    validator: Validator | None,
    documentation: str,
    importance: str = "high",
) -> Any:
    return option(
        type, default, validator, documentation, importance=importance, effect=Effect.LATER
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerCoordinatorSettings(BrokerLogSettings):
    group_initial_rebalance_delay_ms: int = group(
        INT, 3_000, None, "How long a new group waits for more members (ms).", "medium"
    )
    group_min_session_timeout_ms: int = group(
        INT, 6_000, None, "Shortest session timeout a member may ask for (ms).", "medium"
    )
    group_max_session_timeout_ms: int = group(
        INT, 1_800_000, None, "Longest session timeout a member may ask for (ms).", "medium"
    )
    group_max_size: int = group(INT, INT_MAX, at_least(1), "Most members of a group.", "medium")
    group_coordinator_rebalance_protocols: tuple[str, ...] = option(
        LIST,
        ("classic", "consumer", "streams"),
        one_of("classic", "consumer", "streams", "share"),
        "Protocols that groups may speak; without consumer, ConsumerGroupHeartbeat is refused.",
    )
    group_consumer_session_timeout_ms: int = group(
        INT, 45_000, at_least(1), "Session timeout of members of consumer groups (ms).", "medium"
    )
    group_consumer_min_session_timeout_ms: int = group(
        INT, 45_000, at_least(1), "Shortest session timeout of a group's own (ms).", "medium"
    )
    group_consumer_max_session_timeout_ms: int = group(
        INT, 60_000, at_least(1), "Longest session timeout of a group's own (ms).", "medium"
    )
    group_consumer_heartbeat_interval_ms: int = group(
        INT, 5_000, at_least(1), "Heartbeat of members of consumer groups (ms).", "medium"
    )
    group_consumer_min_heartbeat_interval_ms: int = group(
        INT, 5_000, at_least(1), "Shortest heartbeat of a group's own (ms).", "medium"
    )
    group_consumer_max_heartbeat_interval_ms: int = group(
        INT, 15_000, at_least(1), "Longest heartbeat of a group's own (ms).", "medium"
    )
    group_consumer_assignment_interval_ms: int = option(
        INT,
        1_000,
        at_least(0),
        "Shortest time between two assignments of a consumer group (ms).",
        update=Update.CLUSTER_WIDE,
    )
    group_consumer_min_assignment_interval_ms: int = group(
        INT, 0, at_least(0), "Shortest assignment interval of a group's own (ms).", "medium"
    )
    group_consumer_max_assignment_interval_ms: int = group(
        INT, 15_000, at_least(0), "Longest assignment interval of a group's own (ms).", "medium"
    )
    group_consumer_max_size: int = group(
        INT, INT_MAX, at_least(1), "Most members of a consumer group.", "medium"
    )
    group_consumer_assignors: tuple[str, ...] = option(
        LIST,
        ("uniform", "range"),
        lambda value: not_empty(value) or one_of("uniform", "range")(value),
        "Assignors of consumer groups; the first is the default.",
    )
    group_consumer_migration_policy: str = option(
        STRING,
        "bidirectional",
        one_of("bidirectional", "upgrade", "downgrade", "disabled"),
        "Whether a group with members may change between the classic and the consumer protocol.",
    )
    group_share_delivery_count_limit: int = later(
        INT, 5, between(2, 10), "How often a record is delivered to a share group.", "medium"
    )
    group_share_record_lock_duration_ms: int = later(
        INT, 30_000, between(1_000, 3_600_000), "How long a delivered record is locked.", "medium"
    )
    group_share_partition_max_record_locks: int = later(
        INT, 2_000, between(100, 10_000), "Most locked records of a share partition.", "medium"
    )
    offset_metadata_max_bytes: int = group(
        INT, 4_096, None, "Longest text that may be committed with an offset (bytes)."
    )
    offsets_commit_timeout_ms: int = group(
        INT, 5_000, at_least(1), "How long a commit may wait for its replicas (ms)."
    )
    offsets_retention_minutes: int = group(
        INT, 10_080, at_least(1), "How long the offsets of an empty group are kept (minutes)."
    )
    offsets_retention_check_interval_ms: int = group(
        LONG, 600_000, at_least(1), "How often offsets are looked through for old ones (ms)."
    )
    offsets_topic_num_partitions: int = group(
        INT, 50, at_least(1), "Partitions of the topic of offsets."
    )
    offsets_topic_replication_factor: int = group(
        SHORT, 3, at_least(1), "Replicas of the topic of offsets."
    )
    offsets_topic_segment_bytes: int = group(
        INT, 104_857_600, at_least(1), "Segment size of the topic of offsets."
    )
    transaction_max_timeout_ms: int = group(
        INT, 900_000, at_least(1), "Longest timeout a transaction may ask for (ms)."
    )
    transaction_state_log_min_isr: int = group(
        INT, 2, at_least(1), "min.insync.replicas of the topic of transactions."
    )
    transaction_state_log_num_partitions: int = group(
        INT, 50, at_least(1), "Partitions of the topic of transactions."
    )
    transaction_state_log_replication_factor: int = group(
        SHORT, 3, at_least(1), "Replicas of the topic of transactions."
    )
    transaction_state_log_segment_bytes: int = group(
        INT, 104_857_600, at_least(1), "Segment size of the topic of transactions."
    )
    transactional_id_expiration_ms: int = group(
        INT, WEEK_MS, at_least(1), "How long an idle transactional id is kept (ms)."
    )
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = group(
        INT, 10_000, at_least(1), "How often overdue transactions are aborted (ms).", "low"
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = group(
        INT, 3_600_000, at_least(1), "How often idle transactional ids are looked for (ms).", "low"
    )

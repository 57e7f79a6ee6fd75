"""The options of a topic: Kafka 4's, and two of Ottla's own (`flush.on.ack`, `record.validation`).

Defaults and bounds are Kafka's. A topic that does not set an option takes the broker's value,
which goes by other names: the synonyms of each row, in the order in which they win.
"""

from dataclasses import dataclass
from typing import Final

from ottla.base.option import (
    BOOLEAN,
    DOUBLE,
    INT,
    LIST,
    LONG,
    LONG_MAX,
    STRING,
    Effect,
    Synonym,
    at_least,
    between,
    either,
    one_of,
    option,
    replica_list,
    table_of,
)

LATER: Final = Effect.LATER
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
WEEK_MS: Final = 7 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """What the options of one topic are, all layers taken together."""

    cleanup_policy: tuple[str, ...] = option(
        LIST,
        ("delete",),
        one_of("compact", "delete"),
        "What becomes of old segments: delete drops them by retention.ms and retention.bytes, "
        "compact keeps the last record of each key; both may be named, and none keeps all.",
        synonyms=(Synonym("log.cleanup.policy"),),
    )
    compression_gzip_level: int = option(
        INT,
        -1,
        either(-1, between(1, 9)),
        "Level of gzip where compression.type is gzip; -1 is the library's own choice.",
        synonyms=(Synonym("compression.gzip.level"),),
    )
    compression_lz4_level: int = option(
        INT,
        9,
        between(1, 17),
        "Level of lz4 where compression.type is lz4.",
        synonyms=(Synonym("compression.lz4.level"),),
    )
    compression_type: str = option(
        STRING,
        "producer",
        one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        "Codec that batches are stored with. producer stores them as they were sent; any other "
        "value makes the broker unpack and pack again a batch that differs.",
        synonyms=(Synonym("compression.type"),),
    )
    compression_zstd_level: int = option(
        INT,
        3,
        between(-131_072, 22),
        "Level of zstd where compression.type is zstd.",
        synonyms=(Synonym("compression.zstd.level"),),
    )
    delete_retention_ms: int = option(
        LONG,
        24 * HOUR_MS,
        at_least(0),
        "How long a compacted topic keeps the tombstone of a deleted key (ms).",
        synonyms=(Synonym("log.cleaner.delete.retention.ms"),),
    )
    file_delete_delay_ms: int = option(
        LONG,
        MINUTE_MS,
        at_least(0),
        "How long a dropped segment's renamed files stay on the disk (ms).",
        synonyms=(Synonym("log.segment.delete.delay.ms"),),
    )
    flush_messages: int = option(
        LONG,
        LONG_MAX,
        at_least(1),
        "Flush the log after this many records. Matters where flush.on.ack is false.",
        synonyms=(Synonym("log.flush.interval.messages"),),
    )
    flush_ms: int = option(
        LONG,
        LONG_MAX,
        at_least(0),
        "Flush records that are this old (ms). Matters where flush.on.ack is false.",
        synonyms=(Synonym("log.flush.interval.ms"), Synonym("log.flush.scheduler.interval.ms")),
    )
    flush_on_ack: bool = option(
        BOOLEAN,
        True,
        None,
        "Ottla's own. true: what is acknowledged is on the disk. false: it is in the page cache "
        "of the operating system, as with Kafka, and a power cut may take it.",
        synonyms=(Synonym("flush.on.ack"),),
    )
    follower_replication_throttled_replicas: tuple[str, ...] = option(
        LIST,
        (),
        replica_list,
        "Replicas whose fetching is throttled, as partition:broker, or * for all.",
        effect=LATER,
    )
    index_interval_bytes: int = option(
        INT,
        4096,
        at_least(0),
        "Bytes of log between two entries of the offset index.",
        synonyms=(Synonym("log.index.interval.bytes"),),
    )
    leader_replication_throttled_replicas: tuple[str, ...] = option(
        LIST,
        (),
        replica_list,
        "Replicas whose serving to followers is throttled, as partition:broker, or * for all.",
        effect=LATER,
    )
    local_retention_bytes: int = option(
        LONG,
        -2,
        at_least(-2),
        "Bytes of a tiered partition kept on the local disk; -2 is retention.bytes.",
        effect=LATER,
        synonyms=(Synonym("log.local.retention.bytes"),),
    )
    local_retention_ms: int = option(
        LONG,
        -2,
        at_least(-2),
        "How long a tiered segment is kept on the local disk (ms); -2 is retention.ms.",
        effect=LATER,
        synonyms=(Synonym("log.local.retention.ms"),),
    )
    max_compaction_lag_ms: int = option(
        LONG,
        LONG_MAX,
        at_least(1),
        "Longest that a record of a compacted topic may wait for compaction (ms).",
        synonyms=(Synonym("log.cleaner.max.compaction.lag.ms"),),
    )
    max_message_bytes: int = option(
        INT,
        1_048_588,
        at_least(0),
        "Largest batch of records that is taken, as it is sent, compressed or not (bytes).",
        synonyms=(Synonym("message.max.bytes"),),
    )
    message_timestamp_after_max_ms: int = option(
        LONG,
        HOUR_MS,
        at_least(0),
        "How far a record's timestamp may lie ahead of the broker's clock (ms).",
        synonyms=(Synonym("log.message.timestamp.after.max.ms"),),
    )
    message_timestamp_before_max_ms: int = option(
        LONG,
        LONG_MAX,
        at_least(0),
        "How far a record's timestamp may lie behind the broker's clock (ms).",
        synonyms=(Synonym("log.message.timestamp.before.max.ms"),),
    )
    message_timestamp_type: str = option(
        STRING,
        "CreateTime",
        one_of("CreateTime", "LogAppendTime"),
        "Whose timestamp a record bears: its producer's, or that of the broker's append.",
        synonyms=(Synonym("log.message.timestamp.type"),),
    )
    min_cleanable_dirty_ratio: float = option(
        DOUBLE,
        0.5,
        between(0, 1),
        "Share of a compacted log that must be uncompacted before it is compacted again.",
        synonyms=(Synonym("log.cleaner.min.cleanable.ratio"),),
    )
    min_compaction_lag_ms: int = option(
        LONG,
        0,
        at_least(0),
        "Shortest that a record of a compacted topic stays uncompacted (ms).",
        synonyms=(Synonym("log.cleaner.min.compaction.lag.ms"),),
    )
    min_insync_replicas: int = option(
        INT,
        1,
        at_least(1),
        "In-sync replicas that there must be for a produce with acks=all to be taken.",
        synonyms=(Synonym("min.insync.replicas"),),
    )
    preallocate: bool = option(
        BOOLEAN,
        False,
        None,
        "Kafka allots a new segment's space ahead with this; Ottla does not.",
        effect=Effect.NONE,
        synonyms=(Synonym("log.preallocate"),),
    )
    record_validation: str = option(
        STRING,
        "header",
        one_of("header", "deep"),
        "Ottla's own. header: a produced batch's header is checked against its bytes, CRC "
        "included. deep: every record in it is walked too, as Kafka does.",
        synonyms=(Synonym("record.validation"),),
    )
    remote_log_copy_disable: bool = option(
        BOOLEAN,
        False,
        None,
        "Stop copying segments of a tiered topic to the remote store.",
        effect=LATER,
    )
    remote_log_delete_on_disable: bool = option(
        BOOLEAN,
        False,
        None,
        "Delete what lies in the remote store when tiering of the topic is switched off.",
        effect=LATER,
    )
    remote_storage_enable: bool = option(
        BOOLEAN,
        False,
        None,
        "Tier the topic: keep old segments in a remote store.",
        effect=LATER,
    )
    retention_bytes: int = option(
        LONG,
        -1,
        None,
        "Size of a partition past which its oldest segments are dropped; -1 is no bound (bytes).",
        synonyms=(Synonym("log.retention.bytes"),),
    )
    retention_ms: int = option(
        LONG,
        WEEK_MS,
        at_least(-1),
        "How long a segment is kept after its newest record; -1 is for ever (ms).",
        synonyms=(
            Synonym("log.retention.ms"),
            Synonym("log.retention.minutes", MINUTE_MS),
            Synonym("log.retention.hours", HOUR_MS),
        ),
    )
    segment_bytes: int = option(
        INT,
        1 << 30,
        at_least(1 << 20),
        "Size past which a new segment is begun (bytes).",
        synonyms=(Synonym("log.segment.bytes"),),
    )
    segment_index_bytes: int = option(
        INT,
        10 << 20,
        at_least(4),
        "Size of a segment's indexes; a full one begins a new segment (bytes).",
        synonyms=(Synonym("log.index.size.max.bytes"),),
    )
    segment_jitter_ms: int = option(
        LONG,
        0,
        at_least(0),
        "Most that is taken off segment.ms at random, so that segments roll apart (ms).",
        synonyms=(Synonym("log.roll.jitter.ms"), Synonym("log.roll.jitter.hours", HOUR_MS)),
    )
    segment_ms: int = option(
        LONG,
        WEEK_MS,
        at_least(1),
        "Age past which a new segment is begun though the old one is not full (ms).",
        synonyms=(Synonym("log.roll.ms"), Synonym("log.roll.hours", HOUR_MS)),
    )
    unclean_leader_election_enable: bool = option(
        BOOLEAN,
        False,
        None,
        "Let a replica that is not in sync become leader, at the price of records.",
        effect=LATER,
        synonyms=(Synonym("unclean.leader.election.enable"),),
    )


TOPIC_OPTIONS: Final = table_of(TopicSettings)

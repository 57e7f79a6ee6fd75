"""The broker's options of logs: what topics take that set no value of their own, and upkeep.

The first part are the synonyms of the options of topics, by Kafka's older names. Where a time
may be given in hours, minutes or milliseconds the finer unit wins, and the coarsest alone has a
default; None stands for 'not set'.
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
    Update,
    at_least,
    between,
    either,
    one_of,
    option,
)

CLUSTER: Final = Update.CLUSTER_WIDE
LATER: Final = Effect.LATER
FLOAT_MAX: Final = 1.7976931348623157e308
CODECS: Final = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLogSettings:
    # Defaults of topics, in the order of their names there.
    log_cleanup_policy: tuple[str, ...] = option(
        LIST, ("delete",), one_of("compact", "delete"), "Default of cleanup.policy.", update=CLUSTER
    )
    compression_gzip_level: int = option(
        INT,
        -1,
        either(-1, between(1, 9)),
        "Default of the topic option of the same name.",
        update=CLUSTER,
    )
    compression_lz4_level: int = option(
        INT, 9, between(1, 17), "Default of the topic option of the same name.", update=CLUSTER
    )
    compression_type: str = option(
        STRING,
        "producer",
        one_of(*CODECS),
        "Default of the topic option of the same name.",
        importance="high",
        update=CLUSTER,
    )
    compression_zstd_level: int = option(
        INT,
        3,
        between(-131_072, 22),
        "Default of the topic option of the same name.",
        update=CLUSTER,
    )
    log_cleaner_delete_retention_ms: int = option(
        LONG,
        86_400_000,
        at_least(0),
        "Default of delete.retention.ms (ms).",
        update=CLUSTER,
    )
    log_segment_delete_delay_ms: int = option(
        LONG,
        60_000,
        at_least(0),
        "Default of file.delete.delay.ms (ms).",
        importance="high",
        update=CLUSTER,
    )
    log_flush_interval_messages: int = option(
        LONG,
        LONG_MAX,
        at_least(1),
        "Default of flush.messages.",
        importance="high",
        update=CLUSTER,
    )
    log_flush_interval_ms: int | None = option(
        LONG,
        None,
        at_least(0),
        "Default of flush.ms (ms); log.flush.scheduler.interval.ms where it is not set.",
        importance="high",
        update=CLUSTER,
    )
    log_flush_scheduler_interval_ms: int = option(
        LONG,
        LONG_MAX,
        None,
        "Default of flush.ms where log.flush.interval.ms is not set (ms).",
        importance="high",
    )
    flush_on_ack: bool = option(
        BOOLEAN,
        True,
        None,
        "Ottla's own. Default of the topic option of the same name: whether what is "
        "acknowledged is on the disk.",
        importance="high",
        update=CLUSTER,
    )
    log_index_interval_bytes: int = option(
        INT, 4096, at_least(0), "Default of index.interval.bytes.", update=CLUSTER
    )
    log_local_retention_bytes: int = option(
        LONG, -2, at_least(-2), "Default of local.retention.bytes.", update=CLUSTER, effect=LATER
    )
    log_local_retention_ms: int = option(
        LONG, -2, at_least(-2), "Default of local.retention.ms (ms).", update=CLUSTER, effect=LATER
    )
    log_cleaner_max_compaction_lag_ms: int = option(
        LONG,
        LONG_MAX,
        at_least(1),
        "Default of max.compaction.lag.ms (ms).",
        update=CLUSTER,
    )
    message_max_bytes: int = option(
        INT,
        1_048_588,
        at_least(0),
        "Default of max.message.bytes: the largest batch of records that is taken.",
        importance="high",
        update=CLUSTER,
    )
    log_message_timestamp_after_max_ms: int = option(
        LONG, 3_600_000, at_least(0), "Default of message.timestamp.after.max.ms.", update=CLUSTER
    )
    log_message_timestamp_before_max_ms: int = option(
        LONG, LONG_MAX, at_least(0), "Default of message.timestamp.before.max.ms.", update=CLUSTER
    )
    log_message_timestamp_type: str = option(
        STRING,
        "CreateTime",
        one_of("CreateTime", "LogAppendTime"),
        "Default of message.timestamp.type.",
        update=CLUSTER,
    )
    log_cleaner_min_cleanable_ratio: float = option(
        DOUBLE,
        0.5,
        between(0, 1),
        "Default of min.cleanable.dirty.ratio.",
        update=CLUSTER,
    )
    log_cleaner_min_compaction_lag_ms: int = option(
        LONG,
        0,
        at_least(0),
        "Default of min.compaction.lag.ms (ms).",
        update=CLUSTER,
    )
    min_insync_replicas: int = option(
        INT,
        1,
        at_least(1),
        "Default of the topic option of the same name.",
        importance="high",
        update=CLUSTER,
    )
    log_preallocate: bool = option(
        BOOLEAN, False, None, "Default of preallocate.", update=CLUSTER, effect=Effect.NONE
    )
    record_validation: str = option(
        STRING,
        "header",
        one_of("header", "deep"),
        "Ottla's own. Default of the topic option of the same name: how far into a batch the "
        "broker looks.",
        update=CLUSTER,
    )
    log_retention_bytes: int = option(
        LONG, -1, None, "Default of retention.bytes.", importance="high", update=CLUSTER
    )
    log_retention_ms: int | None = option(
        LONG,
        None,
        None,
        "Default of retention.ms (ms); log.retention.minutes where it is not set.",
        importance="high",
        update=CLUSTER,
    )
    log_retention_minutes: int | None = option(
        INT,
        None,
        None,
        "Default of retention.ms, in minutes; log.retention.hours where it is not set.",
        importance="high",
    )
    log_retention_hours: int = option(
        INT, 168, None, "Default of retention.ms, in hours.", importance="high"
    )
    log_segment_bytes: int = option(
        INT,
        1 << 30,
        at_least(1 << 20),
        "Default of segment.bytes.",
        importance="high",
        update=CLUSTER,
    )
    log_index_size_max_bytes: int = option(
        INT, 10 << 20, at_least(4), "Default of segment.index.bytes.", update=CLUSTER
    )
    log_roll_jitter_ms: int | None = option(
        LONG,
        None,
        at_least(0),
        "Default of segment.jitter.ms (ms); log.roll.jitter.hours where it is not set.",
        importance="high",
        update=CLUSTER,
    )
    log_roll_jitter_hours: int = option(
        INT, 0, at_least(0), "Default of segment.jitter.ms, in hours.", importance="high"
    )
    log_roll_ms: int | None = option(
        LONG,
        None,
        at_least(1),
        "Default of segment.ms (ms); log.roll.hours where it is not set.",
        importance="high",
        update=CLUSTER,
    )
    log_roll_hours: int = option(
        INT, 168, at_least(1), "Default of segment.ms, in hours.", importance="high"
    )
    unclean_leader_election_enable: bool = option(
        BOOLEAN,
        False,
        None,
        "Default of the topic option of the same name.",
        importance="high",
        update=CLUSTER,
        effect=LATER,
    )
    # Upkeep of the logs of this broker.
    log_cleaner_backoff_ms: int = option(
        LONG,
        15_000,
        at_least(0),
        "How long compaction rests when no log is due (ms).",
        update=CLUSTER,
    )
    log_cleaner_dedupe_buffer_size: int = option(
        LONG,
        134_217_728,
        None,
        "Memory for the keys of a compaction pass, shared among the log directories: 26.7 bytes "
        "for each key (bytes).",
        update=CLUSTER,
    )
    log_cleaner_enable: bool = option(
        BOOLEAN, True, None, "Whether topics with cleanup.policy=compact are compacted."
    )
    log_cleaner_io_buffer_load_factor: float = option(
        DOUBLE,
        0.9,
        None,
        "How full the memory of log.cleaner.dedupe.buffer.size may get.",
        update=CLUSTER,
    )
    log_cleaner_io_buffer_size: int = option(
        INT, 524_288, at_least(0), "Twice what compaction reads at once (bytes).", update=CLUSTER
    )
    log_cleaner_io_max_bytes_per_second: float = option(
        DOUBLE,
        FLOAT_MAX,
        None,
        "What compaction reads and writes in a second, at most (bytes).",
        update=CLUSTER,
    )
    log_cleaner_threads: int = option(
        INT,
        1,
        at_least(0),
        "Each log directory has one cleaner, whatever is set; with 0 nothing is compacted.",
        update=CLUSTER,
    )
    log_retention_check_interval_ms: int = option(
        LONG, 300_000, at_least(1), "How often segments are looked through for old ones (ms)."
    )
    log_flush_offset_checkpoint_interval_ms: int = option(
        INT,
        60_000,
        at_least(0),
        "How often the recovery points are written down (ms).",
        importance="high",
    )
    log_flush_start_offset_checkpoint_interval_ms: int = option(
        INT,
        60_000,
        at_least(0),
        "How often the log start offsets are written down (ms).",
        importance="high",
    )
    replica_high_watermark_checkpoint_interval_ms: int = option(
        LONG, 5_000, None, "How often the high watermarks are written down (ms).", importance="high"
    )
    producer_id_expiration_ms: int = option(
        INT,
        86_400_000,
        at_least(1),
        "How long an idle producer id is remembered by a partition (ms).",
        importance="low",
        update=CLUSTER,
    )

"""The effective settings of one topic that its logs need, by Kafka's names and defaults.

Whoever owns configuration (broker) makes one of these per topic and hands the same object to
all of its logs; `Log.config` is replaced as a whole when a setting changes.
"""

from dataclasses import dataclass

HOUR_MS = 3_600_000
LONG_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class LogConfig:
    segment_bytes: int = 1 << 30
    segment_ms: int = 168 * HOUR_MS
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_ms: int = 168 * HOUR_MS
    """-1: without a limit."""
    retention_bytes: int = -1
    """-1: without a limit."""
    file_delete_delay_ms: int = 60_000
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    producer_id_expiration_ms: int = 24 * HOUR_MS
    is_deleted_by_retention: bool = True
    """`cleanup.policy` holds `delete`. Without it only what DeleteRecords freed goes."""
    is_compacted: bool = False
    """`cleanup.policy` holds `compact`."""
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = LONG_MAX
    delete_retention_ms: int = 24 * HOUR_MS
    codec: int | None = None
    """Of batches that compaction changes; None is the one they have."""
    codec_level: int | None = None

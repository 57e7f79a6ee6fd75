"""What a topic's settings come to: the rules of its batches, and the config of its logs.

A setting that only makes sense beside another is settled here, once, and nowhere in the hot paths.
"""

from ottla.base.options import BrokerSettings, TopicSettings
from ottla.records.compression import CODEC_NUMBERS
from ottla.records.validation import BatchRules
from ottla.storage.config import LogConfig


def batch_rules(settings: TopicSettings) -> BatchRules:
    """What a topic's settings ask of a produced batch."""
    codec = level = None
    if settings.compression_type == "uncompressed":
        codec = 0
    elif settings.compression_type != "producer":
        codec = CODEC_NUMBERS[settings.compression_type]
        level = getattr(settings, f"compression_{settings.compression_type}_level", None)
    return BatchRules(
        max_message_bytes=settings.max_message_bytes,
        log_append_time=settings.message_timestamp_type == "LogAppendTime",
        timestamp_before_max_ms=settings.message_timestamp_before_max_ms,
        timestamp_after_max_ms=settings.message_timestamp_after_max_ms,
        compacted="compact" in settings.cleanup_policy,
        codec=codec,
        level=level,
        deep=settings.record_validation == "deep",
    )


def log_config(settings: TopicSettings, broker: BrokerSettings) -> LogConfig:
    """What a topic's logs need of its settings."""
    is_compacted = "compact" in settings.cleanup_policy
    segment_ms = settings.segment_ms
    if is_compacted:  # what is not rolled cannot be compacted
        segment_ms = min(segment_ms, settings.max_compaction_lag_ms)
    rules = batch_rules(settings)
    return LogConfig(
        segment_bytes=settings.segment_bytes,
        segment_ms=segment_ms,
        segment_jitter_ms=settings.segment_jitter_ms,
        segment_index_bytes=settings.segment_index_bytes,
        index_interval_bytes=settings.index_interval_bytes,
        retention_ms=settings.retention_ms,
        retention_bytes=settings.retention_bytes,
        file_delete_delay_ms=settings.file_delete_delay_ms,
        flush_messages=settings.flush_messages,
        flush_ms=settings.flush_ms,
        producer_id_expiration_ms=broker.producer_id_expiration_ms,
        is_deleted_by_retention="delete" in settings.cleanup_policy,
        is_compacted=is_compacted,
        min_cleanable_dirty_ratio=settings.min_cleanable_dirty_ratio,
        min_compaction_lag_ms=settings.min_compaction_lag_ms,
        max_compaction_lag_ms=settings.max_compaction_lag_ms,
        delete_retention_ms=settings.delete_retention_ms,
        codec=rules.codec,
        codec_level=rules.level,
    )

"""Which segments of a log are no longer wanted: oldest first, and only whole ones.

A segment goes when every batch in it lies below the log start, or when its youngest record is
older than `retention.ms`, or when the log without it still holds `retention.bytes`. Nothing at
or past the high watermark goes, and an empty active segment stays. This module decides alone;
`Log.retire_old_segments` acts.
"""

from collections.abc import Sequence

from ottla.base.errors import CorruptionError
from ottla.storage.config import LogConfig
from ottla.storage.segment import Segment
from ottla.storage.times import largest


def deletable_count(
    segments: Sequence[Segment],
    config: LogConfig,
    now_ms: int,
    *,
    log_start_offset: int,
    log_end_offset: int,
    high_watermark: int,
) -> int:
    """How many of the first segments may go."""
    is_by_policy = config.is_deleted_by_retention
    surplus = 0
    if is_by_policy and config.retention_bytes >= 0:
        surplus = sum(segment.size_bytes for segment in segments) - config.retention_bytes
    for count, segment in enumerate(segments):
        is_last = count + 1 == len(segments)
        end_offset = log_end_offset if is_last else segments[count + 1].base_offset
        if end_offset > high_watermark or (is_last and not segment.size_bytes):
            return count
        is_wanted = not (
            (not is_last and end_offset <= log_start_offset)
            or (is_by_policy and _is_expired(segment, config.retention_ms, now_ms))
            or surplus >= segment.size_bytes > 0
        )
        if is_wanted:
            return count
        surplus -= segment.size_bytes
    return len(segments)


def _is_expired(segment: Segment, retention_ms: int, now_ms: int) -> bool:
    if retention_ms < 0:
        return False
    youngest = segment.max_timestamp
    if not _is_past(youngest, segment, retention_ms, now_ms) and youngest <= now_ms:
        return False
    try:  # an index that lies must not cost records, nor keep them for ever
        return _is_past(largest(segment), segment, retention_ms, now_ms)
    except CorruptionError:
        return False


def _is_past(youngest: int, segment: Segment, retention_ms: int, now_ms: int) -> bool:
    return now_ms - (youngest if youngest >= 0 else segment.created_ms) > retention_ms

"""Whether a log is due for compaction, and how far: Kafka's rules.

    |  clean             |  dirty                      |  not yet                       |
    log start            cleaner offset                first uncleanable segment        log end

Not yet may be compacted: the active segment and whatever is not sealed, what is not stable (past
the high watermark, or of an open transaction), and what is younger than `min.compaction.lag.ms`.
A log is due when the dirty part is more than `min.cleanable.dirty.ratio` of clean and dirty, or
holds records older than `max.compaction.lag.ms`. This module decides alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ottla.storage.compaction import LastBatch, Plan, Source
from ottla.storage.config import LONG_MAX
from ottla.storage.log import Log
from ottla.storage.segment import Segment
from ottla.storage.times import largest


class Cleanable(NamedTuple):
    """The parts of a log."""

    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool
    """Records wait longer than `max.compaction.lag.ms` allows."""

    @property
    def dirty_ratio(self) -> float:
        return self.dirty_bytes / max(self.clean_bytes + self.dirty_bytes, 1)


def cleanable(log: Log, now_ms: int, high_watermark: int) -> Cleanable | None:
    """The parts of a log that is due; None for one that is not."""
    if not log.config.is_compacted or log.is_replacing or log.is_held or len(log.segments) == 1:
        return None
    first_dirty = log.log_start_offset if log.cleaner_offset is None else log.cleaner_offset
    if not log.log_start_offset <= first_dirty <= log.log_end_offset:
        first_dirty = log.log_start_offset  # it speaks of a log that is gone
    end = _end(log, first_dirty, now_ms, high_watermark)
    segments = [each for each in log.segments if each.base_offset < end]
    ends = [each.base_offset for each in log.segments[1 : len(segments) + 1]]
    pairs = list(zip(segments, ends, strict=True))
    found = Cleanable(
        first_dirty,
        max(end, first_dirty),
        sum(each.size_bytes for each in segments if each.base_offset < first_dirty),
        sum(each.size_bytes for each, behind in pairs if behind > first_dirty),
        _is_overdue(log, first_dirty, now_ms),
    )
    is_due = found.is_overdue or found.dirty_ratio > log.config.min_cleanable_dirty_ratio
    return found if is_due and found.dirty_bytes else None


def _end(log: Log, first_dirty: int, now_ms: int, high_watermark: int) -> int:
    """Base offset of the first segment that may not be compacted yet."""
    stable = min(high_watermark, log.flushed_end_offset, log.first_unstable_offset)
    youngest = now_ms - log.config.min_compaction_lag_ms
    for segment, later in zip(log.segments[:-1], log.segments[1:], strict=True):
        end = later.base_offset
        is_young = log.config.min_compaction_lag_ms > 0 and end > first_dirty
        if not segment.is_sealed or end > stable or (is_young and _timestamp(segment) > youngest):
            return segment.base_offset
    return log.active.base_offset


def _timestamp(segment: Segment) -> int:
    youngest = largest(segment)
    return youngest if youngest >= 0 else segment.created_ms


def _is_overdue(log: Log, first_dirty: int, now_ms: int) -> bool:
    if log.config.max_compaction_lag_ms == LONG_MAX:
        return False
    dirty = _segments_from(log, first_dirty)[:-1]
    times = [each.first_timestamp for each in dirty if each.size_bytes]
    oldest = min((each for each in times if each > 0), default=LONG_MAX)
    return oldest < now_ms - log.config.max_compaction_lag_ms


def _segments_from(log: Log, offset: int) -> Sequence[Segment]:
    """From the one that holds `offset` on."""
    ends = [each.base_offset for each in log.segments[1:]] + [LONG_MAX]
    return [each for each, end in zip(log.segments, ends, strict=True) if end > offset]


def plan_of(
    log: Log,
    found: Cleanable,
    now_ms: int,
    *,
    map_bytes: int,
    load_factor: float,
    read_bytes: int,
) -> tuple[Plan, list[Segment]]:
    """What a pass over the log must know, and the segments that it is to read."""
    segments = [each for each in log.segments if each.base_offset < found.end_offset]
    behind = log.segments[len(segments) :]
    bases = [each.base_offset for each in log.segments]
    sources = [
        Source(each.base_offset, each.size_bytes, end)
        for each, end in zip(segments, bases[1:], strict=False)
    ]
    aborted = [
        transaction
        for segment in behind
        if not segment.is_sealed
        for transaction in segment.transaction_index.entries()
    ]
    producers = {}
    for each in log.producer_state:
        last_offset = each.batches[-1].last_offset if each.batches else -1
        producers[each.producer_id] = LastBatch(last_offset, each.epoch)
    plan = Plan(
        directory=log.directory,
        config=log.config,
        sources=sources,
        later=[each.base_offset for each in behind if each.is_sealed],
        aborted=aborted,
        first_dirty_offset=found.first_dirty_offset,
        end_offset=found.end_offset,
        now_ms=now_ms,
        producers=producers,
        map_bytes=map_bytes,
        load_factor=load_factor,
        read_bytes=read_bytes,
    )
    return plan, segments

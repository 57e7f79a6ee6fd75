"""What an unclean stop left of a log: all segments that reach past the recovery point, read whole.

Each batch's CRC is checked, both indexes are built anew, and the epochs are taken from the
headers. The first batch that is not sound is where the log ends:

    below the recovery point        these bytes were flushed. This is corruption, and nothing
                                    is cut: the log may be mended, or a replica be asked.
    at or past the recovery point   the tail of writes that no flush covered: it is cut there,
                                    with whatever stands behind it, and that is reported.

An unflushed write may be lost as a whole, in part or not at all, and later ones with it or not:
that a sound batch stands behind an unsound one tells nothing. The high watermark is no better
mark than the recovery point, for with `flush.on.ack=false` it runs ahead of the flushes.

A segment whose tail was lost at the border of two batches is sound by itself: it must reach as
far as the next one begins. Compaction leaves such gaps, below the recovery point; Kafka's may
stand past it, and are known by the other holes that it leaves.

After a sync that failed, a start that finds the page cache of the one before writes everything
past the recovery point again, or the next flush would vouch for pages that were never written.
"""

import logging
from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import NO_LEADER_EPOCH
from ottla.base.world import File
from ottla.records.batch import BatchHeader
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.log import Log
from ottla.storage.opening import Opening
from ottla.storage.segment import Segment
from ottla.storage.sound import OFFSET_MAX, SCAN_BYTES, Due, sound_batches

logger = logging.getLogger(__name__)


class Cut(NamedTuple):
    """Where a scan found the end of what is sound."""

    position: int
    size_bytes: int
    cause: str


def scan_tail(log: Log, opening: Opening) -> int | None:
    """Check every batch past the recovery point, and end the log where one is not sound. The base
    offset of the first segment that was read and knows of the end of a transaction."""
    with_markers = None
    due = Due(0)
    at = 0
    while at < len(log.segments):
        segment = log.segments[at]
        at += 1
        is_last = at == len(log.segments)
        # An empty segment may be of a roll that failed: the one before it was written still.
        is_written = is_last or (at + 1 == len(log.segments) and not log.active.size_bytes)
        # Flushed as a whole, indexes too, is what was rolled before the last flush began.
        is_flushed = not is_written and log.segments[at].base_offset < opening.recovery_point
        if is_flushed and segment.size_bytes:
            continue
        # One that a failed roll left begins where the one before it was written on.
        limit = OFFSET_MAX if is_written else log.segments[at].base_offset
        due.offset, due.end_offset = segment.base_offset, min(limit, segment.end_limit)
        end_offset, cut, has_markers = _scan(log, segment, due, opening)
        if with_markers is None and (has_markers or segment.transaction_index.exists):
            with_markers = segment.base_offset
        if cut is None and not is_last and _has_lost_end(log, segment, end_offset, opening):
            cut = Cut(segment.size_bytes, 0, "its last batches are missing")
        if cut is not None:
            _cut(log, segment, end_offset, cut, opening)
        elif not is_last:
            segment.trim()
            segment.is_sealed = False
            log.unflushed.add_rolled(segment)
        if opening.sync_failed:
            _write_again(segment)
    return with_markers


def _has_lost_end(log: Log, segment: Segment, end_offset: int, opening: Opening) -> bool:
    """Whether batches are missing between a sound segment and the next one, that compaction did
    not take: it takes none past the recovery point, but for Kafka's, which leaves other holes
    too."""
    next_base = log.segments[log.segments.index(segment) + 1].base_offset
    if end_offset >= next_base:
        return False
    if not segment.size_bytes:  # of which only Kafka's compaction leaves one
        return not log.config.is_compacted
    if next_base <= opening.recovery_point:
        if not log.config.is_compacted:
            logger.warning(
                "%s: offsets %d to %d are missing at its end",
                segment.path,
                end_offset,
                next_base - 1,
            )
        return False
    due = segment.base_offset
    for _, header in segment.headers(0, segment.size_bytes):
        if header.base_offset != due or header.record_count <= header.last_offset_delta:
            return False
        due = header.last_offset + 1
    return True


def _write_again(segment: Segment) -> None:
    """Make its pages dirty: those that a failed sync left count as written, and are not."""
    position = 0
    while position < segment.size_bytes:
        piece = segment.file.pread(SCAN_BYTES, position)
        segment.file.pwrite(piece, position)
        position += len(piece)


def _cut(log: Log, segment: Segment, end_offset: int, cut: Cut, opening: Opening) -> None:
    later = [each for each in log.segments if each.base_offset > segment.base_offset]
    lost_bytes = cut.size_bytes + sum(each.size_bytes for each in later)
    if max(end_offset, opening.log_start_offset) < opening.recovery_point:
        raise CorruptionError(
            f"{cut.cause}, below offset {opening.recovery_point} that was flushed",
            path=segment.path,
            position=cut.position,
            size_bytes=lost_bytes,
        )
    logger.warning(
        "%s: cut at position %d, offset %d: %d bytes that no flush covered (%s)",
        segment.path,
        cut.position,
        end_offset,
        lost_bytes,
        cut.cause,
    )
    for each in reversed(later):
        log.discard(each)
    segment.file.truncate(cut.position)


def _scan(log: Log, segment: Segment, due: Due, opening: Opening) -> tuple[int, Cut | None, bool]:
    """Read a segment whole and build its indexes anew: the offset behind its last sound batch,
    what is wrong behind it, and whether a control batch is in it."""
    has_markers = False
    size = segment.size_bytes
    segment.forget()
    segment.unread_bytes = 0
    next_offset = segment.base_offset
    if not size:
        return next_offset, None, False
    try:
        for position, header in sound_batches(segment.file, 0, size, due):
            has_markers = has_markers or header.is_control
            if header.base_offset > next_offset and not log.config.is_compacted:
                _meet_gap(segment.file, position, header, next_offset, opening.recovery_point)
            segment.note((header,), header.base_offset)
            _note_epoch(log.epochs, segment, position, header, opening)
            next_offset = header.last_offset + 1
    except CorruptionError as error:
        return next_offset, Cut(error.position, error.size_bytes, error.cause), has_markers
    return next_offset, None, has_markers


def _note_epoch(
    epochs: LeaderEpochs, segment: Segment, position: int, header: BatchHeader, opening: Opening
) -> None:
    """Both the book and the header may be wrong: no checksum covers either. The flush that moves
    the recovery point past an epoch's first batch has written the epoch into the book, and the
    high watermark is seldom ahead of that."""
    epoch = header.partition_leader_epoch
    is_known = epoch <= epochs.latest or not epochs.entries
    is_flushed = header.last_offset < opening.recovery_point
    if is_known or not is_flushed:
        if not is_known and header.last_offset < opening.high_watermark:
            text = "%s: position %d: leader epoch %d, of which no flush before has told"
            logger.warning(text, segment.path, position, epoch)
        epochs.assign(epoch, header.base_offset)
    told = epochs.epoch_of(header.base_offset)
    if told not in (NO_LEADER_EPOCH, epoch):
        text = "%s: position %d: leader epoch %d where %d is known"
        logger.warning(text, segment.path, position, epoch, told)


def _meet_gap(
    file: File, position: int, header: BatchHeader, next_offset: int, recovery_point: int
) -> None:
    """Offsets are missing. Compaction may have taken them while the topic had it; but what was
    written past the recovery point begins there."""
    cause = f"offset {header.base_offset} where {next_offset} was due"
    if next_offset <= recovery_point < header.base_offset:
        size = file.size() - position
        raise CorruptionError(cause, path=file.path, position=position, size_bytes=size)
    logger.warning("%s: position %d: %s", file.path, position, cause)

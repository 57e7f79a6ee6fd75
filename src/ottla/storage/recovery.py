"""How the log in a partition's directory is opened.

After a clean stop everything is trusted: the end of the log is read off its last batch, and an
index that is missing is built anew. After any other stop, all segments that reach past the
recovery point are read whole: each batch's CRC is checked, both indexes are built anew, and the
epochs are taken from the headers. The first batch that is not sound is where the log ends:

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

What compaction and deletion left half done is seen to first (`leftovers`).
"""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import NO_LEADER_EPOCH, TopicPartition
from ottla.base.world import Disk, File, Rng
from ottla.records.batch import BatchHeader
from ottla.storage import reader
from ottla.storage.config import LogConfig
from ottla.storage.leader_epochs import LeaderEpochs, read_leader_epochs
from ottla.storage.leftovers import clear_leftovers
from ottla.storage.log import Log
from ottla.storage.names import (
    LEADER_EPOCHS,
    LOG,
    OFFSET_INDEX,
    SWAP,
    TIME_INDEX,
    file_name,
    parse_file,
)
from ottla.storage.segment import Segment
from ottla.storage.sound import OFFSET_MAX, SCAN_BYTES, Due, sound_batches

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a log before its directory is looked at."""

    disk: Disk
    rng: Rng
    now_ms: int
    is_clean: bool
    recovery_point: int = 0
    log_start_offset: int = 0
    high_watermark: int = 0
    sync_failed: bool = False
    """Before this start: what the page cache shows of unflushed bytes may not be on the disk."""


class Cut(NamedTuple):
    """Where a scan found the end of what is sound."""

    position: int
    size_bytes: int
    cause: str


def open_log(
    opening: Opening, topic_partition: TopicPartition, directory: str, config: LogConfig
) -> Log:
    """The log in `directory`, ready to be read and written. CorruptionError if bytes that were
    flushed are not what they were: then nothing has been changed."""
    log = Log(opening.disk, opening.rng, topic_partition, directory, config)
    try:
        _open(log, opening)
    except BaseException:
        log.close()
        raise
    return log


def _open(log: Log, opening: Opening) -> None:
    directory = log.directory
    _check_not_lost(opening, directory)
    present = clear_leftovers(opening.disk, directory)
    bases = [each.offset for each in map(parse_file, present) if each and each.kind == LOG]
    if not bases:
        log.start_at(opening.log_start_offset, opening.now_ms)
    for base in bases:
        log.adopt(_segment(log, base, opening))
    _load_epochs(log, opening)
    _drop_retired(log, opening)
    _drop_empty(log)
    last = reader.last_header(log.active) if opening.is_clean else None
    opening = _believed(log, opening, last)
    scanned = None
    if not opening.is_clean:
        log.unflushed.add_directory(log.directory)
        scanned = _scan_tail(log, opening)
        last = None
    _drop_spurious(log)
    _find_end(log, opening, last or reader.last_header(log.active))
    _mend_indexes(log, present, is_clean=opening.is_clean)
    log.load_producers(opening.now_ms, is_clean=opening.is_clean, scanned=scanned)
    log.is_settled = opening.is_clean and bool(bases)


def _believed(log: Log, opening: Opening, last: BatchHeader | None) -> Opening:
    """A clean stop leaves the recovery point at the log's end. A log that goes past it was not
    open at that stop, or one of the two is not what it was: it is read as after any other."""
    point = opening.recovery_point
    if not opening.is_clean or not point:
        return opening
    end_offset = last.last_offset + 1 if last else log.active.base_offset
    if end_offset <= point:
        return opening
    logger.warning(
        "%s: the log ends at offset %d, a clean stop left it at %d: it is read whole from there",
        log.directory,
        end_offset,
        point,
    )
    return replace(opening, is_clean=False)


def _segment(log: Log, base: int, opening: Opening) -> Segment:
    size = log.disk.size(f"{log.directory}/{file_name(base, LOG)}")
    segment = Segment(log.disk, log.directory, base, log.config, size_bytes=size)
    segment.created_ms = opening.now_ms
    segment.is_sealed = True
    segment.unread_bytes = size
    return segment


def _find_end(log: Log, opening: Opening, last: BatchHeader | None) -> None:
    """Set the log's offsets by what its segments hold; `last` is the last batch of the active."""
    active = log.active
    log.log_end_offset = last.last_offset + 1 if last else active.base_offset
    # What lies below the log start may be gone, and the names of new segments with it.
    if max(log.log_end_offset, opening.log_start_offset) < opening.recovery_point:
        raise CorruptionError(
            f"the log ends at offset {log.log_end_offset}, {opening.recovery_point} was flushed",
            path=active.path,
            position=active.size_bytes,
        )
    if log.log_end_offset < opening.log_start_offset:
        if opening.is_clean:
            raise CorruptionError(
                f"the log ends at offset {log.log_end_offset}, and is said to start at"
                f" {opening.log_start_offset}",
                path=active.path,
                position=active.size_bytes,
            )
        _start_anew(log, opening)
        return
    if log.log_end_offset < opening.high_watermark:
        logger.warning(
            "%s: the log ends at offset %d, its high watermark was %d: a tail is missing that no"
            " flush is known to have covered",
            log.directory,
            log.log_end_offset,
            opening.high_watermark,
        )
    log.log_start_offset = max(opening.log_start_offset, log.segments[0].base_offset)
    log.flushed_end_offset = log.log_end_offset if opening.is_clean else log.log_start_offset
    active.is_sealed = False
    _compare_start(log)
    log.epochs.truncate_end(log.log_end_offset)
    log.epochs.truncate_start(log.log_start_offset)


def _compare_start(log: Log) -> None:
    """The book of epochs and the checkpoint of log starts have no checksum; they tell the same,
    but where a crash fell between the writing of one and of the other."""
    entries = log.epochs.entries
    if entries and entries[0].start_offset != log.log_start_offset:
        logger.warning(
            "%s: the log starts at offset %d, its leader epochs at %d: a crash fell between the"
            " writing of the two, or one of them is wrong",
            log.directory,
            log.log_start_offset,
            entries[0].start_offset,
        )


def _check_not_lost(opening: Opening, directory: str) -> None:
    """An empty directory is an empty log, unless something of it was flushed."""
    if opening.recovery_point <= opening.log_start_offset:
        return
    for file in map(parse_file, opening.disk.list_directory(directory)):
        if file and file.kind == LOG and file.state in ("", SWAP):
            return
    raise CorruptionError(
        f"all segments are missing; offset {opening.recovery_point} was flushed", path=directory
    )


def _start_anew(log: Log, opening: Opening) -> None:
    """All that is left had been deleted: DeleteRecords went past what survived."""
    logger.warning(
        "%s: nothing at or past log start %d is left", log.directory, opening.log_start_offset
    )
    for segment in log.segments[:]:
        log.discard(segment)
    log.start_at(opening.log_start_offset, opening.now_ms)
    log.active.make()  # its name tells the log start, too
    log.epochs = LeaderEpochs()
    log.epochs.is_dirty = True


def _drop_retired(log: Log, opening: Opening) -> None:
    """What lies wholly below the log start was being dropped, and may be there in part."""
    while len(log.segments) > 1 and log.segments[1].base_offset <= opening.log_start_offset:
        log.discard(log.segments[0])


def _drop_empty(log: Log) -> None:
    """An empty segment between others goes: it was lost, or made by a roll that failed. One
    before all others tells where the log begins."""
    for segment in log.segments[1:-1]:
        if not segment.size_bytes:
            log.discard(segment)


def _drop_spurious(log: Log) -> None:
    """So does an empty last one that was made by a roll that failed."""
    last = log.segments[-1]
    if len(log.segments) > 1 and not last.size_bytes:
        header = reader.last_header(log.segments[-2])
        if header is not None and header.last_offset >= last.base_offset:
            log.discard(last)


def _mend_indexes(log: Log, present: list[str], *, is_clean: bool) -> None:
    """Build anew what is missing of segments that were not scanned. An empty one needs none."""
    names = dict.fromkeys(present)
    for segment in log.segments:
        if not (segment.is_sealed or is_clean):
            continue
        wanted = [file_name(segment.base_offset, kind) for kind in (OFFSET_INDEX, TIME_INDEX)]
        if segment.size_bytes and not all(name in names for name in wanted):
            logger.warning("%s: index is missing, built anew", segment.path)
            segment.rebuild_indexes()
            segment.close_indexes()


def _load_epochs(log: Log, opening: Opening) -> None:
    """The book of epochs from its file; from all headers where there is none, or where it begins
    past the log start: a power cut took that back, but not the book that was cut for it."""
    path = f"{log.directory}/{LEADER_EPOCHS}"
    try:
        epochs = read_leader_epochs(log.disk, path)
    except CorruptionError as error:
        logger.warning("leader epochs built anew: %s", error)
        epochs = None
    start = max(opening.log_start_offset, log.segments[0].base_offset)
    is_cut = epochs is not None and (not epochs.entries or epochs.entries[0].start_offset > start)
    if is_cut and not opening.is_clean and epochs is not None and epochs.entries:
        logger.warning(
            "%s: the log starts at offset %d, its leader epochs at %d: they are built anew",
            log.directory,
            start,
            epochs.entries[0].start_offset,
        )
    if epochs is None or (is_cut and not opening.is_clean):
        epochs = LeaderEpochs()
        for segment in log.segments:
            try:
                for _, header in segment.headers(0, segment.size_bytes):
                    epochs.assign(header.partition_leader_epoch, header.base_offset)
            except CorruptionError:
                break
    log.epochs = epochs


# -- after an unclean stop


def _scan_tail(log: Log, opening: Opening) -> int | None:
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
        end_offset, cut, has_markers = _scan(log, segment, due, opening.recovery_point)
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
        piece = segment.file.pread(min(SCAN_BYTES, segment.size_bytes - position), position)
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


def _scan(
    log: Log, segment: Segment, due: Due, recovery_point: int
) -> tuple[int, Cut | None, bool]:
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
                _meet_gap(segment.file, position, header, next_offset, recovery_point)
            segment.note((header,), header.base_offset)
            _note_epoch(log.epochs, segment, position, header)
            next_offset = header.last_offset + 1
    except CorruptionError as error:
        return next_offset, Cut(error.position, error.size_bytes, error.cause), has_markers
    return next_offset, None, has_markers


def _note_epoch(epochs: LeaderEpochs, segment: Segment, position: int, header: BatchHeader) -> None:
    """Both the book and the header may be wrong: no checksum covers either."""
    epoch = header.partition_leader_epoch
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

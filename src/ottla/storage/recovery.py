"""How the log in a partition's directory is opened.

After a clean stop everything is trusted: the end of the log is read off its last batch, and an
index that is missing is built anew. After any other stop, what reaches past the recovery point is
read whole and cut where it is torn (`tail_scan`), its indexes are built anew, and the epochs are
taken from the headers. What compaction and deletion left half done is seen to first (`leftovers`).
"""

import logging

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition
from ottla.records.batch import BatchHeader
from ottla.storage import reader
from ottla.storage.aborted_check import first_that_lies
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
    TRANSACTION_INDEX,
    file_name,
    parse_file,
)
from ottla.storage.opening import Opening
from ottla.storage.segment import Segment
from ottla.storage.tail_scan import scan_tail

logger = logging.getLogger(__name__)


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
    names = opening.disk.list_directory(directory)
    _check_not_lost(opening, directory, names)
    present = clear_leftovers(opening.disk, directory, names)
    bases = list(_with_kind(present, LOG))
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
        scanned = scan_tail(log, opening)
        last = None
    _drop_spurious(log)
    _find_end(log, opening, last or reader.last_header(log.active))
    _mend_indexes(log, present, is_clean=opening.is_clean)
    doubted = first_that_lies(log, _with_kind(present, TRANSACTION_INDEX))
    if doubted is not None:
        scanned = doubted if scanned is None else min(scanned, doubted)
    log.load_producers(opening.now_ms, is_clean=opening.is_clean, scanned=scanned)
    log.is_settled = opening.is_clean and bool(bases) and doubted is None


def _with_kind(names: list[str], kind: str) -> dict[int, None]:
    """Base offsets of the segments that have such a file, in their order."""
    return {each.offset: None for each in map(parse_file, names) if each and each.kind == kind}


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
    return opening._replace(is_clean=False)


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


def _check_not_lost(opening: Opening, directory: str, names: list[str]) -> None:
    """An empty directory is an empty log, unless something of it was flushed."""
    if opening.recovery_point <= opening.log_start_offset:
        return
    for file in map(parse_file, names):
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

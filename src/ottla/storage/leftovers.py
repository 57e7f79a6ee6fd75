"""What a stop left half done in a partition's directory, finished or undone before it is opened.

    .deleted .tmp     go
    .cleaned          go: whoever wrote them did not come to the end
    .swap             a segment that is whole and durable. It takes the place of all segments whose
                      base offset lies in its range, unless something `.cleaned` stands at or below
                      it: then it is of a change of several segments (Kafka's split of one that
                      outgrew its offsets) that did not come to its end, and goes. Should what it
                      replaces be gone already, it stays all the same.

Finishing a swap may be interrupted in its turn, by a power cut that keeps some of the changes of
names and not others. So each kind of change is made durable before the next begins, and the
`.log`, by which all this is known, gets its name last:

    .swap is durable, the replaced segments behind it go, its indexes get their names, its log

Its indexes are built anew: one that is missing may stand under its own name already, where that
of the old segment may stand as well, and one that is there may be of an attempt that was cut
short. Of a transaction index those entries stay whose markers the segment holds.
"""

import logging
from collections.abc import Iterable
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.world import Disk
from ottla.storage import segment_files
from ottla.storage.checkpoints import replace_whole
from ottla.storage.config import LogConfig
from ottla.storage.names import (
    CLEANED,
    DELETED,
    LOG,
    SNAPSHOT,
    SWAP,
    TEMPORARY,
    TRANSACTION_INDEX,
    SegmentFile,
    file_name,
    parse_file,
)
from ottla.storage.segment import Segment
from ottla.storage.transaction_index import TransactionIndex, pack_entries

logger = logging.getLogger(__name__)

NO_OFFSET: Final = 1 << 63


def clear_leftovers(disk: Disk, directory: str, names: list[str]) -> list[str]:
    """Finish or undo what a stop interrupted; of `names`, all that are there, those that are
    left."""
    if not _are_leftovers(names):
        return names
    files = [file for file in map(parse_file, names) if file is not None]
    _finish_swaps(disk, directory, files)
    for name in disk.list_directory(directory):
        file = parse_file(name)
        if name.endswith(TEMPORARY) or (file and file.state in (DELETED, CLEANED)):
            disk.remove(f"{directory}/{name}")
    names = disk.list_directory(directory)
    for name in _stateful_and_orphans(names):
        disk.remove(f"{directory}/{name}")
    return disk.list_directory(directory)


def _are_leftovers(names: list[str]) -> bool:
    has_temporary = any(name.endswith(TEMPORARY) for name in names)
    return has_temporary or bool(_stateful_and_orphans(names))


def _stateful_and_orphans(names: list[str]) -> list[str]:
    """Those that are on their way in or out, and those whose segment is not there."""
    parsed = [(name, file) for name in names if (file := parse_file(name)) is not None]
    with_log = dict.fromkeys(
        file.offset for _, file in parsed if file.kind == LOG and not file.state
    )
    return [
        name
        for name, file in parsed
        if file.state or (file.kind != SNAPSHOT and file.offset not in with_log)
    ]


def _finish_swaps(disk: Disk, directory: str, files: list[SegmentFile]) -> None:
    lowest = min((each.offset for each in files if each.state == CLEANED), default=NO_OFFSET)
    logs = dict.fromkeys(each.offset for each in files if each.kind == LOG and not each.state)
    swaps = [each.offset for each in files if each.kind == LOG and each.state == SWAP]
    half_done = [offset for offset in swaps if offset >= lowest and offset in logs]
    for each in files:
        if each.state == SWAP and each.offset in half_done:
            disk.remove(f"{directory}/{file_name(each.offset, each.kind + SWAP)}")
    if half_done:
        disk.sync_directory(directory)  # before what told that they were half done goes
    for offset in swaps:
        if offset not in half_done:
            _finish_swap(disk, directory, offset)


def _finish_swap(disk: Disk, directory: str, offset: int) -> None:
    path = f"{directory}/{file_name(offset, LOG + SWAP)}"
    swap = Segment(disk, directory, offset, LogConfig(), size_bytes=disk.size(path), state=SWAP)
    try:
        end, markers = offset, []
        for _, header in swap.headers(0, swap.size_bytes):
            end = header.last_offset
            if header.is_control:
                markers.append(end)
        swap.rebuild_indexes()
    finally:
        swap.close()
    logger.info("%s: a compaction that was interrupted is finished", path)
    disk.sync_directory(directory)
    for each in map(parse_file, disk.list_directory(directory)):
        if each and not each.state and offset < each.offset <= end and each.kind != SNAPSHOT:
            disk.remove(f"{directory}/{file_name(each.offset, each.kind)}")
    disk.sync_directory(directory)
    _settle_transactions(disk, directory, offset, markers)
    segment_files.rename_indexes(swap, "")
    disk.sync_directory(directory)
    segment_files.rename_log(swap, "")
    disk.sync_directory(directory)


def _settle_transactions(disk: Disk, directory: str, offset: int, markers: Iterable[int]) -> None:
    """See that what the old segment's index told does not become the new one's."""
    path = f"{directory}/{file_name(offset, TRANSACTION_INDEX)}"
    if disk.exists(path + SWAP) or not disk.exists(path):
        return
    there = dict.fromkeys(markers)
    try:
        entries = TransactionIndex(disk, path, offset).entries()
    except CorruptionError as error:
        logger.warning("transaction index passed over: %s", error)
        entries = []
    kept = [each for each in entries if each.last_offset in there]
    replace_whole(disk, path + SWAP, pack_entries(kept))

"""What stands beside a log, built anew from its batches: indexes, producers, leader epochs.

Nothing here touches a `.log`. A file is written beside the one it replaces, synced, and renamed
over it. Batches are taken by their headers: the caller has seen that they are sound.
"""

from collections.abc import Iterator

from ottla.base.errors import CorruptionError
from ottla.base.world import Disk
from ottla.records.batch import BatchHeader
from ottla.records.control import Marker
from ottla.storage.batch_walk import walk
from ottla.storage.checkpoints import read_whole, replace_whole
from ottla.storage.config import LogConfig
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.markers import marker_at
from ottla.storage.names import (
    LEADER_EPOCHS,
    LOG,
    OFFSET_INDEX,
    SNAPSHOT,
    TEMPORARY,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
    parse_file,
)
from ottla.storage.offset_index import OffsetIndex
from ottla.storage.producer_state import ProducerState
from ottla.storage.time_index import TimeIndex
from ottla.storage.transaction_index import AbortedTransaction, pack_entries


def headers(
    disk: Disk, directory: str, base_offset: int
) -> Iterator[tuple[int, BatchHeader, Marker | None]]:
    """(position, header, the marker it is) of all batches of a segment;
    CorruptionError at one that is not sound."""
    path = f"{directory}/{file_name(base_offset, LOG)}"
    file = disk.open(path, read_only=True)
    try:
        for each in walk(file, base_offset, file.size()):
            header = each.header
            if header is None or each.fault:
                raise CorruptionError(
                    each.fault, path=path, position=each.position, size_bytes=each.size_bytes
                )
            yield each.position, header, marker_at(file, each.position, header)
    finally:
        file.close()


def rebuild_indexes(disk: Disk, directory: str, base_offset: int) -> None:
    """`.index` and `.timeindex` of a segment, as a roll leaves them."""
    config = LogConfig()
    stem = f"{directory}/{file_name(base_offset, '')}"
    size = config.segment_index_bytes
    index = OffsetIndex(disk, stem + OFFSET_INDEX + TEMPORARY, base_offset, size)
    times = TimeIndex(disk, stem + TIME_INDEX + TEMPORARY, base_offset, size)
    index.reset()
    times.reset()
    since, timestamp, timestamp_offset = 0, -1, base_offset
    try:
        for position, header, _ in headers(disk, directory, base_offset):
            if header.max_timestamp > timestamp and header.record_count:
                timestamp, timestamp_offset = header.max_timestamp, header.last_offset
            if since > config.index_interval_bytes:
                index.add(header.last_offset, position)
                times.maybe_add(timestamp, timestamp_offset)
                since = 0
            since += header.size_bytes
        if timestamp >= 0:
            times.maybe_add(timestamp, timestamp_offset)
        for each in (index, times):
            each.trim().sync()
    finally:
        index.close()
        times.close()
    for kind in (OFFSET_INDEX, TIME_INDEX):
        disk.rename(stem + kind + TEMPORARY, stem + kind)
    disk.sync_directory(directory)


def rebuild_snapshot(disk: Disk, directory: str, bases: list[int], offset: int) -> int:
    """The producers as of `offset`; their count. Those that only an older snapshot knows, since
    their records were deleted, are taken from there."""
    state, start = _older_snapshot(disk, directory, bases[0], offset)
    for base in bases:
        if base >= offset:
            break
        for _, header, marker in headers(disk, directory, base):
            if header.base_offset >= offset:
                break
            if header.producer_id >= 0 and header.base_offset >= start:
                state.update(header, header.base_offset, marker)
    replace_whole(disk, f"{directory}/{file_name(offset, SNAPSHOT)}", state.snapshot())
    return len(state)


def _older_snapshot(
    disk: Disk, directory: str, first_base: int, offset: int
) -> tuple[ProducerState, int]:
    found = [
        each.offset
        for each in map(parse_file, disk.list_directory(directory))
        if each and each.kind == SNAPSHOT and not each.state and first_base <= each.offset < offset
    ]
    for at in reversed(found):
        path = f"{directory}/{file_name(at, SNAPSHOT)}"
        state = ProducerState()
        try:
            state.load(read_whole(disk, path), path)
        except CorruptionError:
            continue
        return state, at
    return ProducerState(), first_base


def rebuild_transactions(disk: Disk, directory: str, bases: list[int], wanted: int) -> int:
    """The aborted transactions of the segment `wanted`; their count. A marker without a batch
    before it, be it that none was written or that it was deleted since, aborts nothing."""
    open_from: dict[int, int] = {}
    entries = []
    for base in bases[: bases.index(wanted) + 1]:
        for _, header, marker in headers(disk, directory, base):
            if not header.is_control:
                if header.is_transactional:
                    open_from.setdefault(header.producer_id, header.base_offset)
                continue
            first, end = open_from.pop(header.producer_id, None), header.last_offset
            is_abort = marker is not None and not marker.committed
            if base == wanted and is_abort and first is not None:
                stable = min(open_from.values(), default=end + 1)
                entries.append(AbortedTransaction(header.producer_id, first, end, stable))
    path = f"{directory}/{file_name(wanted, TRANSACTION_INDEX)}"
    replace_whole(disk, path, pack_entries(entries))
    return len(entries)


def rebuild_epochs(disk: Disk, directory: str, bases: list[int], log_start: int) -> int:
    """The book of leader epochs by the batches' headers; the count of its lines."""
    epochs = LeaderEpochs()
    for base in bases:
        for _, header, _ in headers(disk, directory, base):
            epochs.assign(header.partition_leader_epoch, header.base_offset)
    epochs.truncate_start(log_start)
    replace_whole(disk, f"{directory}/{LEADER_EPOCHS}", epochs.text())
    return len(epochs.entries)

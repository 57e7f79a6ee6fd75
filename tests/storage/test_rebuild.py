"""What stands beside a log, built anew: the same as what was written with it."""

from typing import Any

import pytest

from ottla.base.errors import CorruptionError
from ottla.records import sieve
from ottla.records.batch import read_header
from ottla.records.control import Marker
from ottla.storage.config import LogConfig
from ottla.storage.findings import Finding
from ottla.storage.log import Log
from ottla.storage.names import (
    CLEAN_SHUTDOWN,
    LOG,
    OFFSET_INDEX,
    SNAPSHOT,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
)
from ottla.storage.producer_state import ProducerState
from ottla.storage.rebuild import (
    headers,
    rebuild_epochs,
    rebuild_indexes,
    rebuild_snapshot,
    rebuild_transactions,
)
from ottla.storage.repair import RepairOptions, repair
from ottla.storage.time_index import TimeIndex
from ottla.storage.transaction_index import parse_entries
from ottla.storage.verify import verify
from ottla.storage.verify_log import Tally

from .makers import DIRECTORY, append, batch_of, make_log, reopen
from .memory_disk import MemoryDisk
from .test_transactions import aborted, data, end

WIDE = LogConfig(segment_bytes=1 << 20)
"""With the index interval that a rebuild takes: the default."""


def path_of(base: int, kind: str) -> str:
    return f"{DIRECTORY}/{file_name(base, kind)}"


def damage(disk: MemoryDisk) -> list[Finding]:
    return [each for each in verify(disk, DIRECTORY, Tally()) if not each.is_note]


# -- indexes


@pytest.mark.parametrize("step_ms", [7, -7, 0])
def test_indexes_are_those_of_a_roll(step_ms: int) -> None:
    """Timestamps that rise, fall and stay; entries are of batches behind 4096 bytes."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    for number in range(60):
        append(log, batch_of(3, timestamp=100_000 + number * step_ms, value=b"v" * 100))
    log.roll(1_000)
    paths = [path_of(0, kind) for kind in (OFFSET_INDEX, TIME_INDEX)]
    written = [bytes(disk.files[path]) for path in paths]
    assert len(written[0]) > 2 * 8
    assert len(written[1]) == (12 if step_ms <= 0 else len(written[0]) // 8 * 12 + 12)
    log.close()
    for path in paths:
        disk.files[path][:] = b"x" * 31
    disk.calls.clear()
    rebuild_indexes(disk, DIRECTORY, 0)
    assert [bytes(disk.files[path]) for path in paths] == written
    told = [call for call in disk.calls if call[0] in ("sync", "rename", "sync_directory")]
    assert [name for name, _ in told] == ["sync"] * 2 + ["rename"] * 2 + ["sync_directory"]
    assert disk.open_count == 0
    assert sorted(disk.list_directory(DIRECTORY)) == sorted(
        [*(path.rpartition("/")[2] for path in paths), file_name(0, LOG)]
        + [file_name(180, kind) for kind in (LOG, SNAPSHOT)]
    )


def test_what_tells_no_time_has_no_entry_of_time() -> None:
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    append(log, batch_of(1, timestamp=-1))
    log.roll(1_000)
    log.close()
    rebuild_indexes(disk, DIRECTORY, 0)
    assert (disk.files[path_of(0, OFFSET_INDEX)], disk.files[path_of(0, TIME_INDEX)]) == (b"", b"")


def test_a_batch_that_is_not_sound_leaves_the_indexes_as_they_were() -> None:
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    append(log, batch_of(1))
    second = log.size_bytes
    append(log, batch_of(1))
    log.roll(1_000)
    log.close()
    written = bytes(disk.files[path_of(0, OFFSET_INDEX)])
    disk.files[path_of(0, LOG)][second + 70] ^= 1
    with pytest.raises(CorruptionError, match="CRC") as caught:
        rebuild_indexes(disk, DIRECTORY, 0)
    error = caught.value
    assert (error.path, error.position) == (path_of(0, LOG), second)
    assert error.size_bytes == len(disk.files[path_of(0, LOG)]) - second
    assert disk.files[path_of(0, OFFSET_INDEX)] == written
    assert disk.open_count == 0


def test_headers_come_with_the_markers_that_they_are() -> None:
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    data(log, 1, 0)
    end(log, 1, coordinator=4)
    found = [(header.base_offset, marker) for _, header, marker in headers(disk, DIRECTORY, 0)]
    assert found == [(0, None), (1, Marker(False, 4))]


# -- producers


def told(snapshot: bytes | bytearray) -> Any:
    state = ProducerState()
    state.load(bytes(snapshot), "")
    return sorted(
        (each.producer_id, each.epoch, each.last_timestamp, each.transaction_start, each.batches)
        for each in state
    )


def written_by_three() -> tuple[MemoryDisk, dict[int, bytes], int]:
    """A log of four segments, the snapshots of its rolls, and its end."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    snapshots = {}
    sequences = {7: 0, 8: 0, 9: 0}
    for turn in range(4):
        for producer_id in (7, 8, 9)[turn % 2 :]:
            producer = (producer_id, 0, sequences[producer_id])
            append(log, batch_of(2, timestamp=1_000 + turn, producer=producer))
            sequences[producer_id] += 2
        append(log, batch_of(1))
        data(log, 20 + turn, 0)
        if turn < 3:
            log.roll(1_000)
            snapshots[log.log_end_offset] = bytes(disk.files[path_of(log.log_end_offset, SNAPSHOT)])
    end_offset = log.log_end_offset
    log.settle()
    snapshots[end_offset] = bytes(disk.files[path_of(end_offset, SNAPSHOT)])
    log.close()
    return disk, snapshots, end_offset


@pytest.mark.parametrize("known", ["none", "all", "the one before is damaged", "the last"])
def test_a_snapshot_is_what_it_was(known: str) -> None:
    disk, snapshots, _ = written_by_three()
    bases = [0, *snapshots][:-1]
    for offset, written in snapshots.items():
        for other in snapshots:
            is_known = known not in ("none", "the last") or (known == "the last" and other > offset)
            disk.files[path_of(other, SNAPSHOT)] = bytearray(snapshots[other])
            if not is_known:
                del disk.files[path_of(other, SNAPSHOT)]
        before = max((other for other in snapshots if other < offset), default=None)
        if known == "the one before is damaged" and before is not None:
            disk.files[path_of(before, SNAPSHOT)][-1] ^= 1
        disk.files[path_of(offset, SNAPSHOT)] = bytearray(b"no sense")
        rebuild_snapshot(disk, DIRECTORY, bases, offset)
        assert told(disk.files[path_of(offset, SNAPSHOT)]) == told(written), offset
    assert disk.open_count == 0


def test_a_snapshot_of_the_middle_of_a_segment() -> None:
    """That of a clean stop, after which the segment was written on."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    append(log, batch_of(2, producer=(7, 0, 0)))
    log.settle()
    path = path_of(2, SNAPSHOT)
    written = told(disk.files[path])
    append(log, batch_of(2, producer=(7, 0, 2)))
    disk.files[path][-1] ^= 1
    assert rebuild_snapshot(disk, DIRECTORY, [0], 2) == 1
    assert told(disk.files[path]) == written


def test_who_wrote_only_what_was_deleted_is_taken_from_the_snapshot_before() -> None:
    disk, snapshots, end_offset = written_by_three()
    first, second = list(snapshots)[:2]
    for base in (0, first):
        del disk.files[path_of(base, LOG)]
    bases = [second, list(snapshots)[2]]
    count = rebuild_snapshot(disk, DIRECTORY, bases, end_offset)
    assert told(disk.files[path_of(end_offset, SNAPSHOT)]) == told(snapshots[end_offset])
    assert count == 7
    for path in [path for path in disk.files if path.endswith(SNAPSHOT)]:
        del disk.files[path]
    assert rebuild_snapshot(disk, DIRECTORY, bases, end_offset) == 5


def test_a_snapshot_from_before_the_log_is_not_asked() -> None:
    """What it tells of may have ended in what was deleted."""
    disk, snapshots, end_offset = written_by_three()
    first, second, third = list(snapshots)[:3]
    for base in (0, first):
        del disk.files[path_of(base, LOG)]
    disk.files[path_of(first, SNAPSHOT)] = bytearray(snapshots[first])
    for offset in (second, third):
        disk.files.pop(path_of(offset, SNAPSHOT), None)
    assert rebuild_snapshot(disk, DIRECTORY, [second, third], end_offset) == 5


# -- transactions


def lived() -> tuple[MemoryDisk, Log]:
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    data(log, 1, 0)
    data(log, 2, 0)
    append(log, batch_of(1, producer=(3, 0, 0)))
    end(log, 2)
    end(log, 3)  # of whom no transaction is known
    log.roll(1_000)
    data(log, 2, 1)
    end(log, 1)
    end(log, 2, commit=True)
    data(log, 1, 1)
    end(log, 2)  # nothing since the commit
    end(log, 1)
    log.roll(1_000)
    data(log, 1, 2)
    end(log, 1)
    return disk, log


def test_aborted_transactions_are_what_they_were() -> None:
    disk, log = lived()
    bases = [each.base_offset for each in log.segments]
    before = aborted(log)
    assert before == [(2, 1, 3, 0), (1, 0, 6, 5), (1, 8, 10, 11), (1, 11, 12, 13)]
    log.settle()
    log.close()
    counts = []
    for base in bases:
        path = path_of(base, TRANSACTION_INDEX)
        written = bytes(disk.files[path])
        disk.files[path][:] = b""
        counts.append(rebuild_transactions(disk, DIRECTORY, bases, base))
        assert disk.files[path] == written
    assert counts == [1, 2, 1]
    assert aborted(reopen(disk, WIDE, is_clean=True)) == before


def test_a_marker_without_data_is_no_damage_and_hides_nothing() -> None:
    """That of a partition which a transaction was told of and wrote nothing to. What the producer
    committed before stays to be read."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    data(log, 1, 0)
    end(log, 1, commit=True)
    end(log, 1)
    data(log, 2, 0)
    end(log, 2)
    log.settle()
    log.close()
    disk.files[f"data/{CLEAN_SHUTDOWN}"] = bytearray()
    assert damage(disk) == []
    disk.files[path_of(0, TRANSACTION_INDEX)][1] = 9
    deeds = list(repair(disk, DIRECTORY, RepairOptions(), Tally()))
    assert deeds[0].what == "rebuilt: 1 aborted transactions"
    assert damage(disk) == []
    entries = parse_entries(bytes(disk.files[path_of(0, TRANSACTION_INDEX)]), "")
    assert [tuple(each) for each in entries] == [(2, 3, 4, 5)]


def test_an_abort_of_data_that_is_in_no_index_is_damage() -> None:
    disk, log = lived()
    log.settle()
    log.close()
    disk.files[f"data/{CLEAN_SHUTDOWN}"] = bytearray()
    bases = [each.base_offset for each in log.segments]
    assert damage(disk) == []
    del disk.files[path_of(bases[1], TRANSACTION_INDEX)]
    assert [each.cause for each in damage(disk)] == [
        "the abort of producer 1 at offset 6 is missing",
        "the abort of producer 1 at offset 10 is missing",
    ]


# -- epochs


def test_epochs_are_those_of_the_batches_from_the_start_of_the_log_on() -> None:
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    for epoch in (2, 2, 3, 3, 7):
        append(log, batch_of(1), leader_epoch=epoch)
    log.close()
    path = f"{DIRECTORY}/leader-epoch-checkpoint"
    counts: list[Any] = []
    for start in (0, 1, 4):
        counts.append((rebuild_epochs(disk, DIRECTORY, [0], start), disk.files[path].decode()))
    assert counts == [
        (3, "0\n3\n2 0\n3 2\n7 4\n"),
        (3, "0\n3\n2 1\n3 2\n7 4\n"),
        (1, "0\n1\n7 4\n"),
    ]


def test_a_batch_without_records_has_no_say_in_time() -> None:
    """Compaction leaves such, with the largest timestamp of the records that it had."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    append(log, batch_of(1, timestamp=500))
    position = log.size_bytes
    append(log, batch_of(1, timestamp=900))
    log.close()
    contents = disk.files[path_of(0, LOG)]
    contents[position:] = sieve.empty_batch(read_header(bytes(contents), position))
    rebuild_indexes(disk, DIRECTORY, 0)
    times = TimeIndex(disk, path_of(0, TIME_INDEX), 0, 120)
    assert (times.count, times.last) == (1, (500, 0))

from ottla.storage.leaving import LeavingLogs
from ottla.storage.log import Log
from ottla.storage.unread import check_of, note_checked

from .makers import DIRECTORY, TINY, append, batch_of, delete_old_segments, make_log, reopen
from .memory_disk import MemoryDisk
from .test_log_dir import Clock


def test_files_of_a_log_that_never_opened_go_at_once_and_a_strays_stay(disk: MemoryDisk) -> None:
    leaving = LeavingLogs(disk, "data", Clock())
    leaving.add(None, "data/broken-delete", is_removed=True)
    leaving.add(None, "data/broken-stray", is_removed=False)
    assert leaving.take_due() == ["data/broken-delete"]
    assert leaving.take_due() == ["data/broken-delete"], "until it is told to be gone"
    leaving.removed(["data/broken-delete"])
    assert leaving.take_due() == []


def test_a_stop_closes_what_waits(disk: MemoryDisk, log: Log) -> None:
    clock = Clock()
    append(log, batch_of(1))
    leaving = LeavingLogs(disk, "data", clock)
    disk.rename(DIRECTORY, "data/gone")
    leaving.add(log, "data/gone", is_removed=True)
    leaving.add(None, "data/other", is_removed=False)
    assert disk.open_count
    leaving.close()
    assert disk.open_count == 0
    clock.now_ms += TINY.file_delete_delay_ms
    assert leaving.take_due() == []


def test_a_range_of_a_segment_that_was_dropped_needs_no_check(disk: MemoryDisk) -> None:
    log = make_log(disk)
    for _ in range(12):
        append(log, batch_of(1))
    log.settle()
    log.close()
    log = reopen(disk, is_clean=True)
    found = log.read(0, 1 << 20, 12)
    assert found is not None
    check = check_of(log, found.range)
    assert check is not None
    log.advance_start(10)
    assert delete_old_segments(log, 1_000, 12)
    assert check_of(log, found.range) is None
    before = [segment.checked for segment in log.segments]
    note_checked(log, check)
    assert [segment.checked for segment in log.segments] == before

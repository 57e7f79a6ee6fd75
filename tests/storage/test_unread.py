from ottla.base.world import FileRange
from ottla.storage.log import Log
from ottla.storage.log_file import LogFile
from ottla.storage.segment import Segment
from ottla.storage.unread import check_of, note_checked

from .makers import DIRECTORY, TINY, append, batch_of, delete_old_segments, make_log, reopen
from .memory_disk import MemoryDisk


def opened_again(disk: MemoryDisk) -> Log:
    log = make_log(disk)
    for _ in range(30):
        append(log, batch_of(1))
    log.settle()
    log.close()
    return reopen(disk, is_clean=True)


def test_a_range_of_a_segment_that_was_dropped_needs_no_check(disk: MemoryDisk) -> None:
    log = opened_again(disk)
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


def test_a_segment_is_checked_up_to_where_the_next_one_begins(disk: MemoryDisk) -> None:
    log = opened_again(disk)
    first, second, *_ = log.segments
    assert second is not log.active
    found = log.read(0, 1 << 20, 12)
    assert found is not None
    check = check_of(log, found.range)
    assert check is not None
    assert (check.base_offset, check.end_offset) == (0, second.base_offset)
    note_checked(log, check)
    assert first.checked == (0, first.size_bytes)
    assert check_of(log, found.range) is None
    found = log.read(log.active.base_offset, 1 << 20, 30)
    assert found is not None
    check = check_of(log, found.range)
    assert check is not None
    assert (check.base_offset, check.end_offset) == (log.active.base_offset, 30)


def test_a_range_of_a_segment_that_became_part_of_another_needs_no_check(disk: MemoryDisk) -> None:
    log = opened_again(disk)
    gone = Segment(disk, DIRECTORY, 1, TINY, size_bytes=100)
    assert log.segments[1].base_offset > 1
    assert check_of(log, FileRange(LogFile(gone), 0, 100)) is None

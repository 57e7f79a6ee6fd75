from dataclasses import replace

from ottla.storage.log import Log
from ottla.storage.removal import remove_files
from ottla.storage.retention import deletable_count

from .makers import (
    DIRECTORY,
    TINY,
    append,
    batch_of,
    delete_old_segments,
    make_log,
    read_all,
    reopen,
)
from .memory_disk import MemoryDisk

FOREVER = replace(TINY, retention_ms=-1)


def fill(log: Log, count: int = 30, step_ms: int = 10) -> None:
    for index in range(count):
        now = 1_000 + index * step_ms
        append(log, batch_of(1, timestamp=now), now_ms=now)


def test_by_time(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(TINY, retention_ms=100))
    fill(log)
    bases = [segment.base_offset for segment in log.segments]
    youngest = [segment.max_timestamp for segment in log.segments]
    assert delete_old_segments(log, youngest[1] + 100, 30) == 1
    assert delete_old_segments(log, youngest[1] + 101, 30) == 1
    assert log.log_start_offset == bases[2]
    assert read_all(log)


def test_all_of_it_leaves_an_empty_segment_at_the_log_end(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(TINY, retention_ms=100))
    fill(log)
    delete_old_segments(log, 1_000_000, 30)
    assert [segment.base_offset for segment in log.segments] == [30]
    assert (log.log_start_offset, log.log_end_offset) == (30, 30)
    assert delete_old_segments(log, 2_000_000, 30) == 0
    again = reopen(disk.copy())
    assert (again.log_start_offset, again.log_end_offset) == (30, 30)


def test_nothing_at_or_past_the_high_watermark_goes(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(TINY, retention_ms=100))
    fill(log)
    bases = [segment.base_offset for segment in log.segments]
    assert delete_old_segments(log, 1_000_000, bases[1] - 1) == 0
    assert delete_old_segments(log, 1_000_000, bases[1]) == 1
    assert delete_old_segments(log, 1_000_000, 29) == len(bases) - 2


def test_by_size(disk: MemoryDisk) -> None:
    log = make_log(disk, FOREVER)
    fill(log)
    first, second = (segment.size_bytes for segment in log.segments[:2])
    log.config = replace(FOREVER, retention_bytes=log.size_bytes - first - second + 1)
    assert delete_old_segments(log, 1_000, 30) == 1
    log.config = replace(FOREVER, retention_bytes=log.size_bytes - second)
    assert delete_old_segments(log, 1_000, 30) == 1
    assert delete_old_segments(log, 1_000, 30) == 0


def test_no_bytes_at_all_is_not_without_a_limit(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(FOREVER, retention_bytes=0))
    fill(log)
    count = len(log.segments)
    assert delete_old_segments(log, 1_000, 30) == count
    assert log.log_start_offset == 30


def test_a_time_to_come_is_not_believed(disk: MemoryDisk) -> None:
    """Of an index; the records tell. One of this very moment is."""
    log = make_log(disk, FOREVER)
    fill(log)
    log.settle()
    log.close()
    for ahead_ms, count in ((0, 0), (1, 1)):
        again = reopen(disk.copy(), replace(TINY, retention_ms=100), is_clean=True)
        first = again.segments[0]
        first._max_timestamp = 10_000 + ahead_ms
        assert delete_old_segments(again, 10_000, again.segments[1].base_offset) == count


def test_a_time_index_that_lies_costs_nothing(disk: MemoryDisk) -> None:
    log = make_log(disk, FOREVER)
    fill(log, step_ms=1)
    log.settle()
    for path in list(disk.files):
        if path.endswith(".timeindex"):
            disk.files[path][:] = bytes(len(disk.files[path]))
    again = reopen(disk, replace(TINY, retention_ms=100), is_clean=True)
    assert delete_old_segments(again, 1_100, 30) == 0
    youngest = [segment.max_timestamp for segment in again.segments]
    assert youngest[0] > 1_000
    assert delete_old_segments(again, youngest[0] + 101, 30) == 1
    disk.files[f"{DIRECTORY}/{again.segments[0].base_offset:020d}.log"][16] = 9
    again.close()
    again = reopen(disk, replace(TINY, retention_ms=100), is_clean=True)
    assert delete_old_segments(again, 1_000_000, 30) == 0, "what is damaged is not dropped"


def test_by_log_start(disk: MemoryDisk) -> None:
    log = make_log(disk, FOREVER)
    fill(log)
    bases = [segment.base_offset for segment in log.segments]
    log.advance_start(bases[2] - 1)
    assert delete_old_segments(log, 1_000, 30) == 1
    log.advance_start(30)
    assert delete_old_segments(log, 1_000, 30) == len(bases) - 2
    assert (log.log_start_offset, len(log.segments)) == (30, 1)
    assert log.read(30, 100, 30) is None


def test_what_lies_below_the_log_start_goes_whatever_its_times(disk: MemoryDisk) -> None:
    log = make_log(disk, FOREVER)
    fill(log)
    log.advance_start(log.segments[1].base_offset)
    count = deletable_count(
        log.segments,
        FOREVER,
        1_000,
        log_start_offset=log.log_start_offset,
        log_end_offset=30,
        high_watermark=30,
    )
    assert count == 1


def test_a_compacted_topic_loses_only_what_was_deleted(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(TINY, retention_ms=1, is_deleted_by_retention=False))
    fill(log)
    assert delete_old_segments(log, 1_000_000, 30) == 0
    log.advance_start(log.segments[1].base_offset)
    assert delete_old_segments(log, 1_000_000, 30) == 1


def test_what_was_being_dropped_may_be_there_in_part(disk: MemoryDisk) -> None:
    """Found by the simulation: a power cut undoes some renames and not others."""
    log = make_log(disk, FOREVER)
    fill(log)
    bases = [segment.base_offset for segment in log.segments]
    log.advance_start(bases[3])
    assert log.has_retired
    assert log.segments[0].base_offset == 0, "until the new start is on the disk"
    for name in [name for name in disk.list_directory(DIRECTORY) if f"{bases[1]:020d}" in name]:
        disk.remove(f"{DIRECTORY}/{name}")
    for is_clean in (False, True):
        again = reopen(disk.copy(), is_clean=is_clean, log_start_offset=bases[3])
        assert [segment.base_offset for segment in again.segments] == bases[3:]
        assert again.log_end_offset == 30
        assert read_all(again)


def test_files_are_renamed_first_and_removed_later(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(TINY, retention_ms=100, file_delete_delay_ms=50))
    fill(log)
    found = log.read(0, 100, 30)
    assert found is not None
    delete_old_segments(log, 1_000_000, 30)
    names = disk.list_directory(DIRECTORY)
    assert f"{0:020d}.log.deleted" in names
    assert f"{0:020d}.log" not in names
    file, position, length = found.range
    assert len(file.pread(length, position)) == length, "a reply that is under way"
    remove_files(log.disk, log.take_deleted(1_000_049))
    assert f"{0:020d}.log.deleted" in disk.list_directory(DIRECTORY)
    remove_files(log.disk, log.take_deleted(1_000_050))
    assert not [name for name in disk.list_directory(DIRECTORY) if name.endswith(".deleted")]
    log.close()
    assert disk.open_count == 0


def test_a_hint_into_a_segment_that_went_is_worth_nothing(disk: MemoryDisk) -> None:
    log = make_log(disk, FOREVER)
    fill(log)
    found = log.read(0, 100, 30)
    assert found is not None
    log.truncate_to(0, 1_000)
    fill(log)
    again = log.read(found.hint.offset, 100, 30, hint=found.hint)
    assert again is not None
    assert again.hint.generation == log.generation


def test_no_time_at_all_is_not_without_a_limit(disk: MemoryDisk) -> None:
    """retention.ms=0: what is older than now goes, as it does not with -1."""
    log = make_log(disk, replace(TINY, retention_ms=0))
    fill(log)
    youngest = log.max_timestamp
    delete_old_segments(log, youngest, 30)
    assert len(log.segments) == 1, "the last one is of this very millisecond"
    assert log.active.size_bytes
    assert delete_old_segments(log, youngest + 1, 30) == 1
    assert log.log_start_offset == 30

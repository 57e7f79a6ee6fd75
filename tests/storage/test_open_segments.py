"""How many segments hold descriptors, and which."""

import pytest

from ottla.storage.log import Log
from ottla.storage.open_segments import OpenSegments, capacity_for
from ottla.storage.removal import remove_files

from .makers import append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk


def flush(log: Log) -> None:
    log.finish_flush(log.begin_flush())


def logs_on(disk: MemoryDisk, shelf: OpenSegments, count: int) -> list[Log]:
    logs = [make_log(disk, directory=f"data/orders-{number}") for number in range(count)]
    for log in logs:
        log.shelf = shelf
    return logs


def test_what_is_flushed_and_unused_is_closed_and_opened_again(disk: MemoryDisk) -> None:
    shelf = OpenSegments(3)
    logs = logs_on(disk, shelf, 10)
    batches = []
    for log in logs:
        append(log, batch_of(2))
        flush(log)
        batches.append(read_all(log))
    assert len(shelf) <= 4
    assert disk.open_count <= 4 * 3
    assert [read_all(log) for log in logs] == batches
    for log in logs:
        append(log, batch_of(1))
        flush(log)
        assert log.log_end_offset == 3
    assert disk.open_count <= 4 * 3
    for log in logs:
        log.close()
    assert len(shelf) == 0
    assert disk.open_count == 0


def test_what_is_not_flushed_stays_open_and_is_flushed_soon(disk: MemoryDisk) -> None:
    wanted: dict[object, None] = {}
    shelf = OpenSegments(2, lambda log: wanted.setdefault(log))
    logs = logs_on(disk, shelf, 5)
    for log in logs:
        append(log, batch_of(2))
    assert all(log.active.is_open for log in logs)
    assert list(wanted)
    for log in wanted:
        assert isinstance(log, Log)
        flush(log)
    [last] = logs_on(disk, shelf, 1)
    for _ in range(2):  # the first look finds them used
        append(last, batch_of(1))
        last.active.close()
    assert not all(log.active.is_open for log in logs)


@pytest.mark.parametrize("use", ["append", "reply", "send"])
def test_what_was_used_is_not_closed_first(disk: MemoryDisk, use: str) -> None:
    logs = logs_on(disk, OpenSegments(3), 5)
    for number in (0, 1, 2, 3, 1, 4):  # the look at 3 closes 0
        if logs[number].log_end_offset and use == "reply":
            assert logs[number].read(0, 1_000, 1) is not None
        elif logs[number].log_end_offset and use == "send":
            assert len(read_all(logs[number])) == 1
        else:
            append(logs[number], batch_of(1))
            flush(logs[number])
    assert [log.active.is_open for log in logs] == [False, True, False, True, True]


def test_a_cut_that_is_not_flushed_keeps_its_file(disk: MemoryDisk) -> None:
    logs = logs_on(disk, OpenSegments(1), 5)
    append(logs[0], batch_of(1), batch_of(1))
    flush(logs[0])
    logs[0].truncate_to(1, 1_000)
    for log in logs[1:]:
        append(log, batch_of(1))
        flush(log)
    assert logs[0].active.is_open


def test_what_an_earlier_life_wrote_is_closed_again(disk: MemoryDisk) -> None:
    log = make_log(disk)
    while len(log.segments) < 6:
        append(log, batch_of(2))
    log.settle()
    flush(log)
    log.close()
    log = reopen(disk, is_clean=True)
    log.close()
    log.shelf = OpenSegments(2)
    read_all(log)
    assert sum(each.is_open for each in log.segments) == 2


def test_a_segment_that_left_is_counted_no_more(disk: MemoryDisk) -> None:
    shelf = OpenSegments(10)
    [log] = logs_on(disk, shelf, 1)
    while len(log.segments) < 3:
        append(log, batch_of(1))
    assert len(shelf) == 3
    log.advance_start(log.log_end_offset)
    log.drop_retired(1_000, log.log_start_offset)
    assert len(shelf) == 1


def test_a_flush_under_way_keeps_its_files(disk: MemoryDisk) -> None:
    shelf = OpenSegments(1)
    first, second = logs_on(disk, shelf, 2)
    append(first, batch_of(2))
    flush(first)
    work = first.begin_flush()
    for _ in range(3):
        append(second, batch_of(2))
        flush(second)
        second.active.close()
    assert first.active.is_open
    for file in work.files:
        file.sync()
    first.finish_flush(work)
    assert not first.active.is_written


def test_a_range_outlives_the_descriptor(disk: MemoryDisk) -> None:
    shelf = OpenSegments(1)
    [log] = logs_on(disk, shelf, 1)
    append(log, batch_of(2))
    flush(log)
    found = log.read(0, 1_000, 2)
    assert found is not None
    file, position, length = found.range
    data = file.pread(length, position)
    log.active.close()
    assert file.pread(length, position) == data
    file.read_ahead(position, length)
    log.move("data/gone")
    disk.rename("data/orders-0", "data/gone")
    log.active.close()
    assert file.pread(length, position) == data
    assert file.path.startswith("data/gone/")


def test_a_range_of_a_segment_that_left_is_not_taken_from_its_namesake(disk: MemoryDisk) -> None:
    log = make_log(disk)
    while len(log.segments) < 3:
        append(log, batch_of(2))
    flush(log)
    found = log.read(0, 1_000, log.log_end_offset)
    assert found is not None
    file, position, length = found.range
    data = file.pread(length, position)
    log.advance_start(log.segments[1].base_offset)
    log.drop_retired(1_000, log.log_start_offset)
    assert file.pread(length, position) == data, "its descriptor is still there"
    remove_files(log.disk, log.take_deleted(1 << 60))
    with pytest.raises(OSError, match="left its log"):
        file.pread(length, position)


def test_capacity() -> None:
    assert capacity_for(20_000) == 3_333
    assert capacity_for(3) == 1


def test_segments_that_rolls_made_are_counted_too(disk: MemoryDisk) -> None:
    shelf = OpenSegments(3)
    [log] = logs_on(disk, shelf, 1)
    for _ in range(40):
        append(log, batch_of(1))
        log.roll(0)
        flush(log)
    assert len(log.segments) == 41
    assert sum(segment.is_open for segment in log.segments) <= 4


def test_reading_ahead_has_a_descriptor_of_its_own(disk: MemoryDisk) -> None:
    log = make_log(disk)
    append(log, batch_of(2))
    found = log.read(0, 1_000, 2)
    assert found is not None
    file, position, length = found.range
    open_count = disk.open_count
    disk.calls.clear()
    file.read_ahead(position, length)
    assert disk.calls == [("open read-only", log.active.path), ("read_ahead", log.active.path)]
    disk.fail_at(2)
    with pytest.raises(OSError, match="planted") as caught:
        file.read_ahead(position, length)
    assert caught.value.filename == log.active.path
    assert disk.open_count == open_count

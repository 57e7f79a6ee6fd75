from dataclasses import replace

import pytest

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log

from .makers import append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk

WIDE = LogConfig(segment_bytes=10_000)


def bases(log: Log) -> list[int]:
    return [segment.base_offset for segment in log.segments]


SPARSE = LogConfig(index_interval_bytes=100, segment_index_bytes=960)


def test_rolls_by_size_before_a_batch_that_would_not_fit(disk: MemoryDisk) -> None:
    size = len(batch_of(1))
    log = make_log(disk, replace(WIDE, segment_bytes=3 * size))
    for _ in range(7):
        append(log, batch_of(1))
    assert bases(log) == [0, 3, 6]


def test_a_batch_larger_than_a_segment_is_refused(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_bytes=100))
    for _ in range(2):
        with pytest.raises(KafkaError) as caught:
            append(log, batch_of(9))
        assert caught.value.code == ErrorCode.RECORD_LIST_TOO_LARGE
        assert log.log_end_offset == 0
    assert bases(log) == [0]


def test_rolls_by_age_of_its_first_batch_in_record_time(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_ms=1_000))
    for timestamp in (5_000, 6_000, 6_001, 6_500, 7_002):
        append(log, batch_of(1, timestamp=timestamp), now_ms=99_999_999)
    assert bases(log) == [0, 2, 4]
    log.settle()
    log.close()
    again = reopen(disk, replace(WIDE, segment_ms=1_000), is_clean=True)
    append(again, batch_of(1, timestamp=8_002))
    assert bases(again) == [0, 2, 4]
    append(again, batch_of(1, timestamp=8_003))
    assert bases(again) == [0, 2, 4, 6]


def test_rolls_by_the_clock_where_records_have_no_timestamp(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_ms=1_000))
    for now_ms in (1_000, 2_000, 2_001):
        append(log, batch_of(1, timestamp=-1), now_ms=now_ms)
    assert bases(log) == [0, 2]


def test_jitter_comes_off_the_age(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_ms=1_000, segment_jitter_ms=1_000))
    jitter_ms = log.active.jitter_ms
    assert 0 < jitter_ms < 1_000
    append(log, batch_of(1, timestamp=5_000))
    append(log, batch_of(1, timestamp=6_000 - jitter_ms))
    assert bases(log) == [0]
    append(log, batch_of(1, timestamp=6_001 - jitter_ms))
    assert bases(log) == [0, 2]


def test_rolls_when_an_index_is_full(disk: MemoryDisk) -> None:
    # 96 bytes: 12 offset entries, 8 time entries, of which the last is for the roll.
    config = replace(WIDE, segment_index_bytes=96, index_interval_bytes=1)
    log = make_log(disk, config)
    for index in range(60):
        append(log, batch_of(1, timestamp=1_000 + index))
    assert {segment.time_index.count for segment in log.segments[:-1]} == {7}
    still = make_log(disk, config, directory="data/still-0")
    for _ in range(60):
        append(still, batch_of(1, timestamp=1_000))
    assert {segment.index.count for segment in still.segments[:-1]} == {12}


def test_rolls_when_an_offset_would_be_too_far_from_the_base(disk: MemoryDisk) -> None:
    log = make_log(disk, WIDE)
    append(log, batch_of(1))
    log.log_end_offset = (1 << 31) - 1
    append(log, batch_of(1))
    assert bases(log) == [0]
    append(log, batch_of(1))
    assert bases(log) == [0, 1 << 31]


def test_entries_are_of_batches_after_the_interval(disk: MemoryDisk) -> None:
    size = len(batch_of(2))
    log = make_log(disk, replace(WIDE, index_interval_bytes=2 * size))
    for index in range(8):
        append(log, batch_of(2, timestamp=1_000 - index))
    # Entries once more than two batches lie behind: batches 3 and 6, their last offsets.
    index = log.active.index
    assert [index.floor(offset) for offset in (6, 7, 12, 13)] == [0, 3 * size, 3 * size, 6 * size]
    # The first batch held the largest timestamp; it did not grow, so it is entered once.
    assert log.active.time_index.last == (1_001, 1)
    assert log.active.time_index.count == 1


def lying(log: Log) -> None:
    """The offset index of the active segment points between two batches."""
    log.active.index.reset()
    log.active.index.add(2, 5)
    log.active.index.trim()


def test_a_rebuild_that_fails_forgets_nothing_of_the_log(disk: MemoryDisk) -> None:
    for call in range(1, 200):
        died = MemoryDisk()
        log = make_log(died, SPARSE)
        for number in range(12):
            append(log, batch_of(1, timestamp=number))
        lying(log)
        size, timestamp = log.size_bytes, log.max_timestamp
        died.fail_at(call)
        try:
            log.read(9, 1 << 20, 12)
        except OSError:
            assert (log.size_bytes, log.max_timestamp) == (size, timestamp)
        else:
            break
        died.fail_at(0)
        append(log, batch_of(1, timestamp=12))
        assert len(read_all(log)) == 13
    assert call > 3


def test_a_rebuild_that_meets_damage_forgets_nothing_of_the_log(disk: MemoryDisk) -> None:
    log = make_log(disk, SPARSE)
    for number in range(12):
        append(log, batch_of(1, timestamp=number))
    size = log.size_bytes
    lying(log)
    disk.files[log.active.path][size // 2 + 16] = 77  # a magic
    with pytest.raises(CorruptionError):
        log.read(11, 1 << 20, 12)
    assert log.size_bytes == size
    assert append(log, batch_of(1)).first_offset == 12
    assert len(disk.files[log.active.path]) == size + size // 12


def test_a_mended_index_outlives_a_clean_stop(disk: MemoryDisk) -> None:
    log = make_log(disk, SPARSE)
    for number in range(40):
        append(log, batch_of(1, timestamp=1_000 + number))
    log.settle()
    flush_now(disk, [log])
    log.close()
    log = reopen(disk, SPARSE, is_clean=True, recovery_point=40)
    lying(log)
    assert log.read(30, 1 << 20, 40) is not None
    log.settle()
    log.close()
    log = reopen(disk, SPARSE, is_clean=True, recovery_point=40)
    assert log.max_timestamp == 1_039
    found = log.offset_for_timestamp(1_020, 40)
    assert found is not None
    assert found[:2] == (1_020, 20)
    assert log.active.index.count > 10


def test_a_file_that_vanished_is_not_made_anew(disk: MemoryDisk) -> None:
    log = make_log(disk, SPARSE)
    append(log, batch_of(1))
    log.close()
    path = log.active.path
    del disk.files[path]
    with pytest.raises(FileNotFoundError):
        log.active.rebuild_indexes()
    assert path not in disk.files


def test_rolling_an_empty_log_does_nothing(log: Log) -> None:
    log.roll(2_000)
    assert bases(log) == [0]

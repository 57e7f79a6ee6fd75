from dataclasses import replace

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.storage.config import LogConfig
from ottla.storage.log import Log

from .makers import append, batch_of, make_log, reopen
from .memory_disk import MemoryDisk

WIDE = LogConfig(segment_bytes=10_000)


def bases(log: Log) -> list[int]:
    return [segment.base_offset for segment in log.segments]


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


def test_rolling_an_empty_log_does_nothing(log: Log) -> None:
    log.roll(2_000)
    assert bases(log) == [0]

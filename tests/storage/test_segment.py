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
    told = [append(log, batch_of(1)).has_rolled for _ in range(7)]
    assert told == [False, False, False, True, False, False, True]
    assert bases(log) == [0, 3, 6]


def test_a_batch_larger_than_a_segment_is_refused(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_bytes=100))
    for _ in range(2):
        with pytest.raises(KafkaError) as caught:
            append(log, batch_of(9))
        assert caught.value.code == ErrorCode.RECORD_LIST_TOO_LARGE
        assert log.log_end_offset == 0
    assert bases(log) == [0]
    log = make_log(disk, replace(WIDE, segment_bytes=len(batch_of(9))), "data/fits-0")
    append(log, batch_of(9))


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


def test_a_timestamp_of_0_is_one(disk: MemoryDisk) -> None:
    config = replace(WIDE, segment_ms=1_000)
    log = make_log(disk, config)
    for timestamp in (0, 1_000):
        append(log, batch_of(1, timestamp=timestamp), now_ms=99_999_999)
    assert bases(log) == [0]
    append(log, batch_of(1, timestamp=1_001), now_ms=99_999_999)
    assert bases(log) == [0, 2]
    log = make_log(disk, WIDE, "data/still-0")
    append(log, batch_of(1, timestamp=0))
    log.active.trim()
    assert log.active.time_index.last == (0, 0)


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
    assert make_log(disk, replace(WIDE, segment_jitter_ms=1), "data/least-0").active.jitter_ms == 0


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


@pytest.mark.parametrize("are_together", [False, True])
def test_entries_are_of_batches_after_the_interval(disk: MemoryDisk, are_together: bool) -> None:
    size = len(batch_of(2))
    log = make_log(disk, replace(WIDE, index_interval_bytes=2 * size))
    batches = [batch_of(2, timestamp=1_000 - index) for index in range(8)]
    for some in [batches] if are_together else [[each] for each in batches]:
        append(log, *some)
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
    count = log.active.index.count
    assert count > 10
    lying(log)
    disk.calls.clear()
    assert log.read(30, 1 << 20, 40) is not None
    synced = [path for call, path in disk.calls if call == "sync"]
    assert synced == [log.active.index.path, log.active.time_index.path]
    log.settle()
    log.close()
    log = reopen(disk, SPARSE, is_clean=True, recovery_point=40)
    assert log.max_timestamp == 1_039
    found = log.offset_for_timestamp(1_020, 40)
    assert found is not None
    assert found[:2] == (1_020, 20)
    assert log.active.index.count == count


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


def test_an_append_whose_index_cannot_be_written_leaves_no_entries(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(WIDE, segment_bytes=1 << 20, segment_index_bytes=4_800, index_interval_bytes=1)
    for call in range(1, 20):
        disk = MemoryDisk()
        log = make_log(disk, config)
        append(log, batch_of(1))
        disk.fail_at(call)
        try:
            append(log, *[batch_of(1, timestamp=2_000 + each) for each in range(200)])
        except OSError:
            pass
        else:
            break
        assert log.max_timestamp == 1_000
        assert len(disk.files[log.active.path]) == log.size_bytes
        for each in range(200):
            append(log, batch_of(2, timestamp=3_000 + 2 * each))
        for offset in range(1, 401):
            found = log.read(offset, 1, 401)
            assert found is not None
            header = log.active.header_at(found.range.position)
            assert header.base_offset <= offset <= header.last_offset
            later = log.offset_for_timestamp(2_999 + offset, 401)
            assert later is not None
            assert later.offset == offset
    assert call > 3
    assert not caplog.records


def test_a_read_of_a_file_that_vanished_fails_at_once(disk: MemoryDisk) -> None:
    log = make_log(disk, WIDE)
    append(log, batch_of(1))
    log.close()
    del disk.files[log.active.path]
    with pytest.raises(FileNotFoundError):
        log.read(0, 1_000, 1)


def test_of_equal_timestamps_the_first_batch_is_entered(log: Log) -> None:
    append(log, batch_of(1, timestamp=1_000), batch_of(1, timestamp=1_000))
    log.active.trim()
    assert log.active.time_index.last == (1_000, 0)


def test_offsets_count_from_the_base_of_the_segment(disk: MemoryDisk) -> None:
    near = make_log(disk, WIDE)
    far = Log(disk, near.rng, near.topic_partition, near.directory, WIDE)
    far.start_at(1 << 40, 1_000)
    append(far, batch_of(1))
    append(far, batch_of(1))
    assert bases(far) == [1 << 40]


@pytest.mark.parametrize("last_offset", [(1 << 31) - 1, 1 << 31])
def test_a_start_keeps_no_batch_that_no_index_could_name(
    disk: MemoryDisk, last_offset: int
) -> None:
    log = make_log(disk, WIDE)
    append(log, batch_of(1))
    end = log.size_bytes
    append(log, batch_of(1))
    log.close()
    disk.files[log.active.path][end : end + 8] = last_offset.to_bytes(8, "big")
    log = reopen(disk, WIDE)
    assert log.log_end_offset == (1 << 31 if last_offset < 1 << 31 else 1)


def test_the_age_counts_from_the_first_batch_after_a_cut_too(disk: MemoryDisk) -> None:
    log = make_log(disk, replace(WIDE, segment_ms=1_000))
    append(log, batch_of(1, timestamp=5_000))
    append(log, batch_of(1, timestamp=5_500))
    log.truncate_to(1, 1_000)
    append(log, batch_of(1, timestamp=6_000), now_ms=99_999_999)
    assert bases(log) == [0]
    append(log, batch_of(1, timestamp=6_001), now_ms=99_999_999)
    assert bases(log) == [0, 2]


def test_a_cut_takes_the_entries_of_what_goes(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    log = make_log(disk, SPARSE)
    for number in range(30):
        append(log, batch_of(1, timestamp=1_000 + number))
    log.truncate_to(10, 1_000)
    assert log.max_timestamp == 1_009
    for number in range(10, 30):
        append(log, batch_of(1, timestamp=1_000 + number, value=b"v" * 30))
    for offset in range(30):
        found = log.read(offset, 1, 30)
        assert found is not None
        assert log.active.header_at(found.range.position).base_offset == offset
        later = log.offset_for_timestamp(1_000 + offset, 30)
        assert later is not None
        assert later.offset == offset
    assert log.active.index.floor(29) > log.size_bytes - 500
    assert not caplog.records


def test_housekeeping_lets_go_of_maps(disk: MemoryDisk) -> None:
    log = make_log(disk, SPARSE)
    for number in range(12):
        append(log, batch_of(1, timestamp=1_000 + number))
    log.read(9, 1 << 20, 12)
    log.offset_for_timestamp(1_009, 12)
    paths = (log.active.index.path, log.active.time_index.path)
    for path in paths:
        with pytest.raises(BufferError):
            disk.files[path].append(0)
    log.retire_old_segments(1_000, 0)
    for path in paths:
        disk.files[path].append(0)


def test_an_append_after_a_start_lowers_no_timestamp(disk: MemoryDisk) -> None:
    log = make_log(disk, SPARSE)
    append(log, batch_of(1, timestamp=2_000))
    log.settle()
    flush_now(disk, [log])
    log.close()
    log = reopen(disk, SPARSE, is_clean=True, recovery_point=1)
    append(log, batch_of(1, timestamp=1_000))
    assert log.max_timestamp == 2_000


def test_a_cut_keeps_the_first_of_equal_timestamps(disk: MemoryDisk) -> None:
    log = make_log(disk, WIDE)
    for timestamp in (1_000, 1_000, 900, 2_000):
        append(log, batch_of(1, timestamp=timestamp))
    log.truncate_to(3, 1_000)
    log.active.trim()
    assert log.active.time_index.last == (1_000, 0)


def test_a_segment_is_sealed_when_a_flush_covered_all_of_it(log: Log) -> None:
    def fill() -> list[bool]:
        while len(log.segments) < 3:
            append(log, batch_of(1))
        return [each.is_sealed for each in log.segments]

    assert fill() == [False, False, False]
    log.truncate_to(log.segments[1].base_offset + 1, 1_000)
    flush_now(log.disk, [log])
    assert not log.active.is_sealed
    fill()
    flush_now(log.disk, [log])
    assert fill() == [True, True, False]
    log.truncate_to(log.segments[1].base_offset + 1, 1_000)
    assert fill() == [True, False, False]


def test_entries_count_anew_from_a_cut(disk: MemoryDisk) -> None:
    size = len(batch_of(1))
    log = make_log(disk, replace(WIDE, index_interval_bytes=2 * size))
    for _ in range(2):
        append(log, batch_of(1))
    log.truncate_to(1, 1_000)
    for _ in range(5):
        append(log, batch_of(1))
    assert [log.active.index.floor(offset) for offset in (3, 4)] == [0, 4 * size]


def test_what_was_checked_in_a_row_is_known_as_one(log: Log) -> None:
    segment = log.active
    segment.unread_bytes = 1_000
    for start in (400, 500, 300):
        assert segment.is_unread(start, 100)
        segment.note_checked(start, 100)
    assert not segment.is_unread(300, 300)
    assert segment.is_unread(200, 200)
    assert segment.is_unread(500, 200)
    segment.note_checked(800, 400)
    assert not segment.is_unread(900, 400), "the end was written in this life"
    assert segment.is_unread(300, 300)

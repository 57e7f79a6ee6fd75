from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records.record import iterate_records
from ottla.storage import times
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.names import OFFSET_INDEX, TIME_INDEX

from .makers import TINY, append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk

BATCHES = st.lists(
    st.tuples(st.integers(1_000, 1_040), st.integers(1, 4), st.integers(0, 4)),
    min_size=1,
    max_size=25,
)


@given(BATCHES, st.data())
def test_look_ups_answer_like_a_list(
    batches: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    log = make_log(MemoryDisk())
    for epoch, (timestamp, count, codec) in enumerate(batches):
        append(log, batch_of(count, timestamp=timestamp, codec=codec), leader_epoch=epoch)
    records = [
        (record.timestamp, record.offset)
        for batch in read_all(log)
        for record in iterate_records(batch, 1 << 20)
    ]
    end = data.draw(st.integers(0, len(records)))
    start = data.draw(st.integers(0, end))
    log.advance_start(start)
    for timestamp in range(999, 1_046):
        later = [each for each in records if each[0] >= timestamp and each[1] >= start]
        expected = later[0] if later and later[0][1] < end else None
        found = log.offset_for_timestamp(timestamp, end)
        assert (found and found[:2]) == expected
        if found:
            assert found.leader_epoch == log.epochs.epoch_of(found.offset)
    largest = max(records, key=lambda each: each[0])
    latest = log.max_timestamp_offset(end)
    assert (latest and latest.timestamp) in (None, largest[0])
    assert log.max_timestamp == largest[0]
    if latest:
        assert (latest.timestamp, latest.offset) in records
    elif end == len(records):
        pytest.fail("the largest timestamp lies below the end and was not found")


def test_an_empty_log(log: Log) -> None:
    assert log.offset_for_timestamp(0, 0) is None
    assert log.max_timestamp_offset(0) is None


def test_records_that_cannot_be_read_answer_as_a_whole(log: Log) -> None:
    batch = batch_of(3, timestamp=1_000)
    batch[61:] = b"\xff" * (len(batch) - 61)
    append(log, batch)
    found = log.offset_for_timestamp(1_001, 3)
    assert found is not None
    assert (found.timestamp, found.offset) == (1_002, 0)


def damages_of(data: bytes) -> Iterator[tuple[str, bytes]]:
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            yield f"bit {bit} of byte {position}", bytes(flipped)
    for size in range(len(data)):
        yield f"cut to {size} bytes", data[:size]
        yield f"zeros from byte {size} on", data[:size] + bytes(len(data) - size)


@pytest.mark.parametrize("kind", [TIME_INDEX, OFFSET_INDEX])
def test_no_damaged_index_is_believed_after_a_clean_stop(kind: str) -> None:
    disk = MemoryDisk()
    log = make_log(disk)
    for turn in range(30):
        append(log, batch_of(1, timestamp=1_000 + 10 * (turn // 2)), now_ms=1_000)
    log.settle()
    flush_now(disk, [log])
    log.close()
    wanted = range(990, 1_160, 5)

    def told(log: Log) -> list[object]:
        found: list[object] = [log.offset_for_timestamp(timestamp, 30) for timestamp in wanted]
        return [*found, log.max_timestamp_offset(30), [times.largest(s) for s in log.segments]]

    truth = told(reopen(disk.copy(), is_clean=True))
    paths = [path for path in disk.files if path.endswith(kind) and disk.files[path]]
    assert len(paths) > 2
    for path in paths:
        for what, data in damages_of(bytes(disk.files[path])):
            damaged = disk.copy()
            damaged.files[path][:] = data
            assert told(reopen(damaged, is_clean=True)) == truth, (path, what)


def test_a_time_index_that_lies_keeps_no_record_for_ever(disk: MemoryDisk) -> None:
    log = make_log(disk)
    for turn in range(30):
        append(log, batch_of(1, timestamp=1_000 + turn), now_ms=1_000)
    log.settle()
    flush_now(disk, [log])
    log.close()
    path = log.segments[0].time_index.path
    disk.files[path][-12] ^= 0x40  # the last entry, far into the future
    log = reopen(disk, replace(TINY, retention_ms=100), is_clean=True)
    assert log.segments[0].max_timestamp > 1 << 60
    log.retire_old_segments(1_000_000, 30)
    assert log.log_start_offset == 30


SPARSE = replace(TINY, segment_bytes=10_000, index_interval_bytes=250)


def stopped(disk: MemoryDisk, timestamps: range) -> Log:
    """A log with a record of each timestamp, after a clean stop."""
    log = make_log(disk, SPARSE)
    for timestamp in timestamps:
        append(log, batch_of(1, timestamp=timestamp))
    log.settle()
    flush_now(disk, [log])
    log.close()
    return log


def test_a_lie_in_the_middle_of_the_index_hides_no_record(disk: MemoryDisk) -> None:
    path = stopped(disk, range(1_000, 1_020)).active.time_index.path
    count = len(disk.files[path]) // 12
    assert 3 < count < 10
    for entry in range(count - 1):
        disk.files[path][entry * 12 + 11] += 3  # it names a batch behind its own
    for timestamp in range(1_000, 1_020):
        log = reopen(disk.copy(), SPARSE, is_clean=True)
        found = log.offset_for_timestamp(timestamp, 20)
        assert found is not None
        assert found[:2] == (timestamp, timestamp - 1_000)


def test_a_sound_index_is_not_built_anew(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(disk, range(1_000, 1_020))
    log = reopen(disk, SPARSE, is_clean=True)
    for timestamp in range(990, 1_030):
        log.offset_for_timestamp(timestamp, 20)
    log.max_timestamp_offset(20)
    assert not caplog.records


def test_an_index_is_held_against_the_log_once(disk: MemoryDisk) -> None:
    stopped(disk, range(1_000, 1_020))
    log = reopen(disk, SPARSE, is_clean=True)
    assert times.largest(log.active) == 1_019
    disk.fail_at(1)
    assert times.largest(log.active) == 1_019


def test_the_largest_timestamp_may_lie_at_the_end_that_is_asked_for(log: Log) -> None:
    append(log, batch_of(2, timestamp=1_000), batch_of(1, timestamp=2_000))
    assert log.max_timestamp_offset(2) is None
    assert log.max_timestamp_offset(3) == (2_000, 2, 0)


def test_records_without_timestamps_have_no_largest_one(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    log = stopped(disk, range(-1, 0))
    log = reopen(disk, SPARSE, is_clean=True)
    assert log.max_timestamp_offset(1) is None
    assert log.offset_for_timestamp(0, 1) is None
    log.roll(1_000)
    append(log, batch_of(1, timestamp=5))
    assert log.max_timestamp_offset(2) == (5, 1, 0)
    assert not caplog.records


def test_of_equal_largest_timestamps_the_first_counts(log: Log) -> None:
    while len(log.segments) < 4:
        append(log, batch_of(1, timestamp=1_000))
    assert log.max_timestamp_offset(log.log_end_offset) == (1_000, 0, 0)

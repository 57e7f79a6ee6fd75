import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.records.record import iterate_records
from ottla.storage.log import Log

from .makers import append, batch_of, make_log, read_all
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

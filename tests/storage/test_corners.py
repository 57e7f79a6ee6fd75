"""What is rare: an index that points between batches, a clean stop whose checkpoint says less than
the log holds, a snapshot that cannot be read. Each is met once, so that every branch is taken."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from ottla.base.errors import CorruptionError, KafkaError
from ottla.records.control import Marker, build_marker
from ottla.storage import reader, times
from ottla.storage.config import LogConfig
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.log import Log
from ottla.storage.names import file_name
from ottla.storage.segment import Segment

from .makers import DIRECTORY, TINY, append, batch_of, headers_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk

ONE_SEGMENT = LogConfig(index_interval_bytes=100, segment_index_bytes=960)
COUNT = 12


def settled(disk: MemoryDisk) -> Log:
    """A log of one segment as a clean stop leaves it."""
    log = make_log(disk, ONE_SEGMENT)
    for sequence in range(COUNT):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    log.settle()
    log.close()
    return log


def with_lying_index(disk: MemoryDisk, shift: int = 1) -> Segment:
    """All positions of the index are wrong by some bytes, and the log is opened as if clean."""
    settled(disk)
    log = reopen(disk, ONE_SEGMENT, is_clean=True, recovery_point=COUNT)
    index = disk.files[f"{DIRECTORY}/{file_name(0, '.index')}"]
    assert len(index) > 8
    for at in range(0, len(index), 8):
        position = int.from_bytes(index[at + 4 : at + 8], "big") + shift
        index[at + 4 : at + 8] = position.to_bytes(4, "big")
    log.close()
    return log.active


def batch_size() -> int:
    return headers_of(batch_of(1, producer=(7, 0, 0)))[0].size_bytes


def boundary(segment: Segment) -> object:
    size = batch_size()
    return reader.boundary(segment, 0, 7 * size + 3)


def before(segment: Segment) -> object:
    return reader.before(segment, 9 * batch_size()) % batch_size()


def last(segment: Segment) -> object:
    header = reader.last_header(segment)
    return header and header.base_offset


def back(segment: Segment) -> object:
    return reader.offset_back(segment, 2) > 0


def found(segment: Segment) -> object:
    place = reader.find(segment, 7)
    return place and (place[0], place[1].base_offset)


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (boundary, lambda: (7 * batch_size(), 7)),
        (before, lambda: 0),
        (last, lambda: COUNT - 1),
        (back, lambda: True),
        (found, lambda: (7 * batch_size(), 7)),
    ],
    ids=["boundary", "before", "last", "back", "found"],
)
@pytest.mark.parametrize("shift", [1, -1, 1 << 20])
def test_an_index_that_points_between_batches_is_built_anew(
    disk: MemoryDisk,
    look: Callable[[Segment], object],
    expected: Callable[[], object],
    shift: int,
) -> None:
    segment = with_lying_index(disk, shift)
    assert look(segment) == expected()
    assert look(segment) == expected()


def test_there_is_no_boundary_past_the_end(disk: MemoryDisk) -> None:
    settled(disk)
    segment = reopen(disk, ONE_SEGMENT).active
    with pytest.raises(CorruptionError, match="no batch header"):
        reader.boundary(segment, 0, segment.size_bytes + 1)


def test_a_clean_stop_that_knew_less_than_the_log_holds(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    settled(disk)
    with caplog.at_level(logging.WARNING):
        log = reopen(disk, ONE_SEGMENT, is_clean=True, recovery_point=COUNT - 3)
    assert len(read_all(log)) == COUNT
    assert not log.is_settled
    assert f"ends at offset {COUNT}, a clean stop left it at {COUNT - 3}" in caplog.text


def test_a_clean_stop_whose_log_start_is_past_the_end(disk: MemoryDisk) -> None:
    settled(disk)
    with pytest.raises(CorruptionError, match=f"is said to start at {COUNT + 9}"):
        reopen(disk, ONE_SEGMENT, is_clean=True, log_start_offset=COUNT + 9)
    assert f"{DIRECTORY}/{file_name(0, '.log')}" in disk.files


def test_a_log_start_that_was_advanced_twice_stays(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    for sequence in range(COUNT):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    log.advance_start(5)
    log.advance_start(5)
    log.advance_start(3)
    assert log.log_start_offset == 5


def with_gap(disk: MemoryDisk) -> str:
    """Two offsets are missing before the last batch, as Kafka's compaction leaves it."""
    settled(disk)
    path = f"{DIRECTORY}/{file_name(0, '.log')}"
    at = (COUNT - 1) * batch_size()
    disk.files[path][at : at + 8] = (COUNT + 1).to_bytes(8, "big")
    return path


def test_offsets_that_are_missing_past_the_recovery_point_are_told(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    with_gap(disk)
    with caplog.at_level(logging.WARNING):
        log = reopen(disk, ONE_SEGMENT)
    assert log.log_end_offset == COUNT + 2
    assert f"offset {COUNT + 1} where {COUNT - 1} was due" in caplog.text


def test_what_was_written_past_the_recovery_point_begins_there(disk: MemoryDisk) -> None:
    with_gap(disk)
    with pytest.raises(CorruptionError, match="was due"):
        reopen(disk, ONE_SEGMENT, recovery_point=COUNT)


def test_a_gap_that_ends_at_the_recovery_point_may_be_compactions(disk: MemoryDisk) -> None:
    log = make_log(disk)
    for sequence in range(COUNT):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    log.settle()
    log.close()
    first, second = log.segments[0], log.segments[1]
    del disk.files[first.path][-batch_size() :]
    again = reopen(disk, recovery_point=second.base_offset)
    assert again.log_end_offset == COUNT
    assert len(read_all(again)) == COUNT - 1


def test_reading_in_front_of_an_empty_active_segment(disk: MemoryDisk) -> None:
    settled(disk)
    disk.open(f"{DIRECTORY}/{file_name(COUNT + 5, '.log')}", create=True).close()
    log = reopen(disk, ONE_SEGMENT, is_clean=True)
    assert log.log_end_offset == COUNT + 5
    assert log.read(COUNT + 2, 100, COUNT + 5) is None
    assert len(read_all(log)) == COUNT


def test_a_log_start_past_an_epoch_is_for_the_next_flush(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(2), leader_epoch=1)
    append(log, batch_of(2), leader_epoch=2)
    log.settle()
    log.finish_flush(log.begin_flush())
    log.advance_start(1)
    log.finish_flush(log.begin_flush())
    log.is_settled = True
    log.advance_start(3)
    assert not log.is_settled
    assert log.epochs.entries[0].epoch == 2


def test_a_segment_is_trimmed_to_its_batches(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(1))
    segment = log.active
    segment.file.pwrite(b"left by a write that failed", segment.size_bytes)
    segment.trim()
    assert len(disk.files[segment.path]) == segment.size_bytes


def test_what_a_segment_of_an_earlier_life_knows_is_looked_up(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    for timestamp in (5_000, 3_000, 9_000, 1_000):
        append(log, batch_of(1, timestamp=timestamp))
    log.settle()
    log.close()
    segment = reopen(disk, ONE_SEGMENT, is_clean=True).active
    assert segment.first_timestamp == 5_000
    assert segment.max_timestamp_offset == 2
    segment.close()
    index = disk.files[f"{DIRECTORY}/{file_name(0, '.timeindex')}"]
    index[:] = bytes(len(index))
    lied_to = reopen(disk, ONE_SEGMENT, is_clean=True).active
    assert times.largest(lied_to) == 9_000
    assert lied_to.max_timestamp_offset == 2


def test_which_bytes_of_an_earlier_life_were_looked_at(disk: MemoryDisk) -> None:
    settled(disk)
    segment = reopen(disk, ONE_SEGMENT, is_clean=True).active
    size = batch_size()
    segment.checked = (0, 0)
    assert segment.unread_bytes == COUNT * size
    assert segment.is_unread(0, size)
    segment.note_checked(0, size)
    segment.note_checked(size, size)
    assert not segment.is_unread(0, 2 * size)
    assert segment.is_unread(size, 2 * size)
    assert not segment.is_unread(COUNT * size, size)
    segment.note_checked(5 * size, size)
    assert segment.is_unread(0, size)
    assert not segment.is_unread(5 * size, size)


def test_a_segment_of_no_log_leaves_nobody(disk: MemoryDisk) -> None:
    segment = Segment(disk, DIRECTORY, 0, ONE_SEGMENT, size_bytes=0)
    segment.leave()
    assert segment.is_gone


def test_a_commit_that_cannot_be_written_leaves_no_entry(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(1, producer=(7, 0, 0)))
    marker = Marker(True, 0)
    batch = build_marker(marker, producer_id=7, producer_epoch=0, timestamp=1_000)
    disk.fail_at(1)
    with pytest.raises(OSError, match="planted"):
        log.append_marker(batch, marker, is_bumped=False, leader_epoch=0, now_ms=1_000)
    assert log.log_end_offset == 1
    assert list(log.aborted_transactions(0, 1)) == []


def test_a_read_up_to_the_flushed_end_takes_its_place_from_the_flush(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(2))
    work = log.begin_flush()
    append(log, batch_of(3))
    log.finish_flush(work)
    place = log.read(0, 1 << 20, 2)
    assert place is not None
    assert place.range.length == work.position
    assert place.hint.offset == 2


def test_a_log_start_past_the_end_is_out_of_range(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(2))
    with pytest.raises(KafkaError, match="3 is past the log end"):
        log.advance_start(3)
    assert log.log_start_offset == 0


def test_a_log_start_that_changes_no_epoch_leaves_a_settled_log(disk: MemoryDisk) -> None:
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(2))
    log.epochs = LeaderEpochs()
    log.is_settled = True
    log.advance_start(1)
    assert log.is_settled


def test_a_compacted_log_has_gaps_before_the_recovery_point(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(TINY, is_compacted=True)
    log = make_log(disk, config)
    for sequence in range(COUNT):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    log.settle()
    log.close()
    first, second = log.segments[0], log.segments[1]
    del disk.files[first.path][-batch_size() :]
    with caplog.at_level(logging.WARNING):
        again = reopen(disk, config, recovery_point=second.base_offset)
    assert len(read_all(again)) == COUNT - 1
    assert "are missing at its end" not in caplog.text


def test_a_cut_finds_the_largest_timestamp_that_no_entry_tells(disk: MemoryDisk) -> None:
    log = make_log(disk, LogConfig())
    for timestamp in (3_000, 5_000, 4_000, 9_000):
        append(log, batch_of(1, timestamp=timestamp))
    log.truncate_to(3, 1_000)
    assert (log.active.max_timestamp, log.active.max_timestamp_offset) == (5_000, 1)

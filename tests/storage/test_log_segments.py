"""Where a read begins and ends, and what stays of a place when segments change."""

import errno

import pytest

from ottla.base.errors import BugError
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.log_segments import ReadHint
from ottla.storage.names import CLEANED
from ottla.storage.removal import remove_files
from ottla.storage.segment import Segment

from .makers import DIRECTORY, TINY, append, batch_of, headers_of, make_log, read_all
from .memory_disk import MemoryDisk

SIZE = len(batch_of(1))


def bytes_of(log: Log, offset: int, max_bytes: int, end_offset: int, **how: object) -> int:
    found = log.read(offset, max_bytes, end_offset, **how)  # type: ignore[arg-type]
    return found.range.length if found else 0


def test_a_read_takes_all_whole_batches_that_fit(log: Log) -> None:
    append(log, *[batch_of(1) for _ in range(5)])
    for max_bytes in range(SIZE, 6 * SIZE):
        for end in (3, 5):
            wanted = min(max_bytes // SIZE, end) * SIZE
            assert bytes_of(log, 0, max_bytes, end, at_least_one=False) == wanted


def test_a_read_goes_on_behind_a_batch_that_is_larger_than_asked_for(log: Log) -> None:
    append(log, batch_of(3), batch_of(2))
    found = log.read(0, 10, 5)
    assert found is not None
    assert found.hint.offset == 3


def test_a_hint_spares_the_search_and_is_of_one_offset(log: Log) -> None:
    append(log, *[batch_of(1) for _ in range(3)])
    segment, generation = log.active, log.generation
    lying = ReadHint(generation, 1, segment, 2 * SIZE)
    assert bytes_of(log, 1, 1_000, 3, hint=lying) == SIZE, "it is believed"
    for worthless in (
        lying._replace(offset=0),
        lying._replace(offset=2),
        lying._replace(generation=generation + 1),
        lying._replace(generation=generation - 1),
        lying._replace(position=3 * SIZE),
    ):
        assert bytes_of(log, 1, 1_000, 3, hint=worthless) == 2 * SIZE


def test_a_place_is_forgotten_when_its_batch_is_cut_off(log: Log) -> None:
    append(log, batch_of(1), batch_of(1), batch_of(1))
    found = log.read(0, 1_000, 2)
    assert found is not None
    assert found.range.length == 2 * SIZE
    log.truncate_to(1, 1_000)
    larger = batch_of(1, value=b"v" * 60)
    append(log, larger, batch_of(1))
    assert bytes_of(log, 0, 1_000, 2) == SIZE + len(larger)
    assert bytes_of(log, 2, 1_000, 3, hint=found.hint) == SIZE
    assert found.hint.generation != log.generation


def test_where_a_flush_ended_is_known_without_a_search(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    append(log := make_log(disk, LogConfig()), *[batch_of(1) for _ in range(5)])
    flush_now(disk, [log])
    append(log, batch_of(1))
    log.active.index.add(1, 7)  # no batch is there
    assert bytes_of(log, 0, 1_000, 5) == 5 * SIZE
    assert not caplog.records


def of_rolled(log: Log) -> list[Segment]:
    while len(log.segments) < 5:
        append(log, batch_of(1))
    log.finish_flush(log.begin_flush())
    return log.segments


def heir(disk: MemoryDisk, base_offset: int) -> Segment:
    """A segment with one small batch."""
    segment = Segment(disk, DIRECTORY, base_offset, TINY, size_bytes=0, state=CLEANED)
    segment.make()
    batch = batch_of(1, value=b"")
    segment.append(memoryview(batch), headers_of(batch), base_offset)
    return segment


def test_neighbours_that_are_replaced_are_read_no_more(disk: MemoryDisk, log: Log) -> None:
    segments = of_rolled(log)
    before = log.read(0, 1_000, log.log_end_offset)
    assert before is not None
    log.replace(segments[:2], heir(disk, 0), 1_000)
    assert len(segments) == 4
    assert len(read_all(log)[0]) == SIZE - 20
    assert before.hint.generation != log.generation
    assert not log.take_deleted(1_000 + TINY.file_delete_delay_ms - 1)
    log.advance_start(segments[2].base_offset)
    log.drop_retired(1_000, log.log_start_offset)
    assert len(segments) == 2
    file, position, length = before.range
    assert len(file.pread(length, position)) == length, "what is being sent is sent"
    remove_files(disk, log.take_deleted(1 << 60))
    with pytest.raises(OSError, match="left its log") as caught:
        file.pread(length, position)
    assert caught.value.errno == errno.ESTALE


def test_only_neighbours_are_replaced(disk: MemoryDisk, log: Log) -> None:
    segments = of_rolled(log)
    with pytest.raises(BugError):
        log.replace([segments[0], segments[2]], heir(disk, 0), 1_000)
    assert len(log.segments) == 5

"""Transaction indexes that a start finds, entry by entry: which are believed, and why the others
are not."""

import logging

import pytest

from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.storage.aborted_check import first_that_lies
from ottla.storage.config import LogConfig
from ottla.storage.log import Log
from ottla.storage.transaction_index import AbortedTransaction, pack_entries

from .makers import append, batch_of, make_log
from .memory_disk import MemoryDisk
from .test_transactions import data, end

TRUTH = {
    0: [(1, 0, 6, 2)],
    8: [(2, 2, 10, 9), (4, 9, 11, 12), (3, 13, 14, 15)],
}
"""Of `told`: the aborted transactions by the base offset of their segment."""


def told(*, is_compacted: bool = False) -> Log:
    """Three segments of a log, of which the indexes tell the truth."""
    log = make_log(MemoryDisk(), LogConfig(segment_bytes=10_000, is_compacted=is_compacted))
    assert data(log, 1, 0) == 0
    append(log, batch_of(1))  # 1: of no producer
    two = [Record(at, 1_000, b"k", b"v") for at in range(2)]
    transactional = {"producer_id": 2, "producer_epoch": 0, "transactional": True}
    append(log, build_batch(two, base_sequence=0, **transactional))  # 2 and 3
    assert data(log, 1, 1) == 4
    assert data(log, 5, 0, transactional=False) == 5
    end(log, 1)  # 6
    end(log, 5, commit=True)  # 7
    log.roll(1_000)
    assert data(log, 2, 2) == 8
    assert data(log, 4, 0) == 9
    end(log, 2)  # 10
    end(log, 4)  # 11
    append(log, batch_of(1))  # 12
    assert data(log, 3, 0) == 13
    end(log, 3)  # 14
    log.roll(1_000)
    append(log, batch_of(1))
    return log


def look(log: Log, entries: dict[int, list[tuple[int, int, int, int]]]) -> int | None:
    for segment in log.segments:
        if segment.base_offset in entries:
            packed = pack_entries(
                AbortedTransaction(*each) for each in entries[segment.base_offset]
            )
            log.disk.files[segment.transaction_index.path][:] = packed  # type: ignore[attr-defined]
    return first_that_lies(log, dict.fromkeys(entries))


def test_the_truth_is_believed() -> None:
    log = told()
    for base, entries in TRUTH.items():
        segment = next(each for each in log.segments if each.base_offset == base)
        assert [tuple(each) for each in segment.transaction_index.entries()] == entries
    assert look(log, TRUTH) is None
    assert look(told(is_compacted=True), TRUTH) is None


def test_what_was_open_when_the_log_began_is_believed() -> None:
    """What begins before the first segment cannot be looked up."""
    log = told()
    log.advance_start(8)
    log.retire_old_segments(1_000, 16)
    log.drop_retired(1_000, 8)
    assert log.segments[0].base_offset == 8
    assert look(log, {8: [(2, 7, 10, 7), (4, 9, 11, 12)]}) is None
    assert look(log, {8: [(2, 8, 10, 9), (4, 9, 11, 12)]}) is None
    assert look(log, {8: [(2, 8, 10, 8), (4, 9, 11, 12)]}) == 8


def test_the_first_offset_may_be_the_last_stable_one() -> None:
    log = make_log(MemoryDisk(), LogConfig())
    for producer_id in (1, 2):
        data(log, producer_id, 0)
    end(log, 2)
    end(log, 1)
    assert look(log, {0: [(2, 1, 2, 0), (1, 0, 3, 4)]}) is None


MARKERS = [
    ((1, 0, 5, 2), "no marker of producer 1 at offset 5"),
    ((1, 0, 4, 2), "no abort at offset 4"),
    ((2, 0, 6, 2), "no marker of producer 2 at offset 6"),
    ((5, 5, 7, 2), "no abort at offset 7"),
    ((1, 0, 8, 2), "no marker of producer 1 at offset 8"),
]
BEGINNINGS = [
    ((1, 1, 6, 2), "no transaction of producer 1 begins at offset 1"),
    ((1, 2, 6, 2), "no transaction of producer 1 begins at offset 2"),
    ((1, 3, 6, 2), "no transaction of producer 1 begins at offset 3"),
    ((1, 5, 6, 2), "no transaction of producer 1 begins at offset 5"),
    ((1, 6, 6, 2), "no transaction of producer 1 begins at offset 6"),
    ((1, 0, 6, -1), "last stable offset -1"),
    ((1, 0, 6, 0), "last stable offset 0 after the marker at 6"),
    ((1, 0, 6, 1), "no transaction begins at the last stable offset 1"),
    ((1, 0, 6, 3), "no transaction begins at the last stable offset 3"),
    ((1, 0, 6, 4), "last stable offset 4 after the marker at 6"),
    ((1, 0, 6, 5), "no transaction begins at the last stable offset 5"),
    ((1, 0, 6, 6), "last stable offset 6 after the marker at 6"),
    ((1, 0, 6, 9), "last stable offset 9 after the marker at 6"),
    ((1, 0, 6, 99), "last stable offset 99 after the marker at 6"),
]


@pytest.mark.parametrize("entry, cause", MARKERS + BEGINNINGS)
def test_an_entry_that_the_log_belies(
    entry: tuple[int, int, int, int], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert look(told(), {**TRUTH, 0: [entry]}) == 0
    assert cause in caplog.text


@pytest.mark.parametrize("entry, cause", MARKERS)
def test_in_a_compacted_log_the_marker_is_asked(
    entry: tuple[int, int, int, int], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert look(told(is_compacted=True), {**TRUTH, 0: [entry]}) == 0
    assert cause in caplog.text


@pytest.mark.parametrize("entry", [entry for entry, _ in BEGINNINGS])
def test_in_a_compacted_log_what_a_marker_ended_may_be_gone(
    entry: tuple[int, int, int, int],
) -> None:
    is_stable = entry[3] <= 2
    assert look(told(is_compacted=True), {**TRUTH, 0: [entry]}) == (None if is_stable else 0)


def test_nothing_that_a_later_entry_aborts_began_before_what_was_stable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Within a segment, and over its end."""
    assert look(told(), {**TRUTH, 0: [(1, 0, 6, 7)]}) == 0
    assert "offset 2 is not stable after 6" in caplog.text
    caplog.clear()
    assert look(told(), {**TRUTH, 8: [(2, 2, 10, 11), *TRUTH[8][1:]]}) == 8
    assert "offset 9 is not stable after 10" in caplog.text


def test_the_first_batch_of_the_log_is_looked_up_too(caplog: pytest.LogCaptureFixture) -> None:
    assert look(told(), {**TRUTH, 8: [(2, 0, 10, 9), *TRUTH[8][1:]]}) == 8
    assert "no transaction of producer 2 begins at offset 0" in caplog.text


def test_the_first_of_two_that_lie_is_told() -> None:
    lies = {0: [(1, 0, 6, 6)], 8: [(2, 2, 10, 10), *TRUTH[8][1:]]}
    assert look(told(), lies) == 0
    assert look(told(), {8: lies[8]}) == 8


def test_an_index_that_is_no_index_lies(caplog: pytest.LogCaptureFixture) -> None:
    log = told()
    path = log.segments[0].transaction_index.path
    log.disk.files[path].extend(b"half")  # type: ignore[attr-defined]
    assert first_that_lies(log, {0: None, 8: None}) == 0
    assert "half an entry" in caplog.text


def test_a_batch_that_its_segment_lost_begins_no_transaction(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The segment ends before the batches that are asked for."""
    log = told()
    log.segments[0].size_bytes = log.segments[0].header_at(0).size_bytes
    with caplog.at_level(logging.WARNING):
        assert look(log, {8: [(2, 2, 10, 9), *TRUTH[8][1:]]}) == 8
        assert "no transaction of producer 2 begins at offset 2" in caplog.text
        assert look(log, {8: [(2, 0, 10, 2), *TRUTH[8][1:]]}) == 8

"""What an unclean stop left, read whole: which segments are read, what is told of them, and what of
a message a user needs to find the damage."""

import logging
import random

import pytest

from ottla.base.errors import CorruptionError
from ottla.records import sieve
from ottla.records.batch import read_header
from ottla.storage.log import Log
from ottla.storage.opening import Opening
from ottla.storage.tail_scan import scan_tail

from .makers import append, batch_of, make_log
from .memory_disk import MemoryDisk, MemoryFile
from .test_rebuild import WIDE
from .test_transactions import data, end


def opening_of(log: Log, recovery_point: int = 0, **known: int | bool) -> Opening:
    """As after a start that found nothing but the logs; the epochs are to be found."""
    values = {
        "now_ms": 1_000,
        "is_clean": False,
        "recovery_point": recovery_point,
        "log_start_offset": 0,
        "high_watermark": 0,
        "sync_failed": False,
        **known,
    }
    return Opening(log.disk, random.Random(1), **values)  # type: ignore[arg-type]


def three_segments() -> Log:
    """From 0, 2 and 5, without transactions."""
    log = make_log(MemoryDisk(), WIDE)
    for count in (2, 3):
        append(log, batch_of(1))
        append(log, batch_of(count - 1))
        log.roll(1_000)
    append(log, batch_of(1))
    return log


def contents(log: Log, number: int) -> bytearray:
    return log.disk.files[log.segments[number].path]  # type: ignore[attr-defined, no-any-return]


def scan(log: Log, recovery_point: int = 0, **known: int | bool) -> int | None:
    log.unflushed.rolled.clear()
    return scan_tail(log, opening_of(log, recovery_point, **known))


# -- what is told of transactions


def test_without_markers_nothing_is_told() -> None:
    assert scan(three_segments()) is None
    assert scan(make_log(MemoryDisk(), WIDE)) is None


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("with_index", [True, False])
def test_the_first_segment_with_a_marker_is_told(commit: bool, with_index: bool) -> None:
    log = make_log(MemoryDisk(), WIDE)
    append(log, batch_of(1))
    log.roll(1_000)
    for sequence in range(2):
        data(log, 1, sequence)
        end(log, 1, commit=commit)
        data(log, 2, sequence)
        log.roll(1_000)
    if not with_index:
        for segment in log.segments:
            log.disk.files.pop(segment.transaction_index.path, None)  # type: ignore[attr-defined]
    assert scan(log) == 1


def test_a_segment_with_a_transaction_index_is_told_too() -> None:
    """Its marker may be among what is lost."""
    log = three_segments()
    log.disk.files[log.segments[1].transaction_index.path] = bytearray()  # type: ignore[attr-defined]
    assert scan(log) == 2


# -- which are read


def test_what_was_flushed_as_a_whole_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recovery point lies past where the next segment begins."""
    log = three_segments()
    read = []
    pread = MemoryFile.pread

    def noted(self: MemoryFile, length: int, position: int) -> bytes:
        read.append(self.path)
        return pread(self, length, position)

    monkeypatch.setattr(MemoryFile, "pread", noted)
    for point, due in ((0, [0, 1, 2]), (2, [0, 1, 2]), (3, [1, 2]), (5, [1, 2]), (6, [2])):
        read.clear()
        scan(log, point)
        assert list(dict.fromkeys(read)) == [log.segments[each].path for each in due], point


def test_what_was_read_is_flushed_with_the_next_round() -> None:
    log = three_segments()
    for segment in log.segments[:-1]:
        segment.is_sealed = True
    scan(log, 3)
    assert [each.is_sealed for each in log.segments] == [True, False, False]
    assert log.unflushed.rolled == [log.segments[1]]


def test_after_a_failed_sync_every_byte_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = three_segments()
    written: dict[str, bytearray] = {}
    pwrite = MemoryFile.pwrite

    def noted(self: MemoryFile, data: bytes, position: int) -> None:
        if self.path.endswith(".log"):
            pages = written.setdefault(self.path, bytearray(len(self.data)))
            pages[position : position + len(data)] = b"\1" * len(data)
        pwrite(self, data, position)

    monkeypatch.setattr(MemoryFile, "pwrite", noted)
    before = [bytes(contents(log, number)) for number in range(3)]
    scan(log, 3, sync_failed=True)
    assert [bytes(contents(log, number)) for number in range(3)] == before
    assert list(written) == [log.segments[1].path, log.segments[2].path]
    assert all(all(pages) for pages in written.values())


# -- what is said


def test_a_sound_log_gives_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scan(three_segments(), 1)
    assert caplog.text == ""


def test_damage_is_told_with_all_that_stands_behind_it() -> None:
    log = three_segments()
    second = len(contents(log, 0)) // 2
    contents(log, 0)[second + 70] ^= 1
    with pytest.raises(CorruptionError, match="below offset 2 that was flushed") as caught:
        scan(log, 2)
    error = caught.value
    sizes = [len(contents(log, number)) for number in range(3)]
    assert (error.path, error.position) == (log.segments[0].path, second)
    assert error.size_bytes == sum(sizes) - second


def test_a_gap_at_the_recovery_point_is_cut_and_told(caplog: pytest.LogCaptureFixture) -> None:
    log = make_log(MemoryDisk(), WIDE)
    append(log, batch_of(1))
    first = log.size_bytes
    append(log, batch_of(1))
    append(log, batch_of(1))
    contents(log, 0)[first:] = contents(log, 0)[2 * first :]
    log.segments[0].size_bytes = 2 * first
    with caplog.at_level(logging.WARNING):
        scan(log, 1)
    assert f"cut at position {first}, offset 1: {first} bytes that no flush covered" in caplog.text
    assert "offset 2 where 1 was due" in caplog.text
    assert len(contents(log, 0)) == first


def test_the_holes_of_one_record_tell_of_compaction() -> None:
    """Kafka's may leave a segment short past the recovery point: nothing is missing at its end."""
    for gone in (False, True):
        log = make_log(MemoryDisk(), WIDE)
        append(log, batch_of(3))
        size = log.size_bytes
        append(log, batch_of(1))
        log.roll(1_000)
        append(log, batch_of(1))
        whole = bytes(contents(log, 0))[:size]
        if gone:
            header = read_header(whole)
            records = list(sieve.raw_records(header, whole[61:]))
            whole = bytes(sieve.rebuild(header, whole[61:], records[1:], sieve.Packing()))
        contents(log, 0)[:] = whole
        log.segments[0].size_bytes = len(whole)
        scan(log)
        assert [each.base_offset for each in log.segments] == ([0, 4] if gone else [0])


# -- epochs


@pytest.mark.parametrize(("point", "epochs"), [(1, [(3, 0), (5, 1)]), (2, [(3, 0)])])
def test_an_epoch_that_no_flush_told_is_taken_from_what_no_flush_covered(
    point: int, epochs: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """From the recovery point on; what stands below it was flushed with its epoch in the book."""
    log = make_log(MemoryDisk(), WIDE)
    append(log, batch_of(1), leader_epoch=3)
    append(log, batch_of(1), leader_epoch=5)
    log.epochs.truncate_end(1)
    scan(log, point)
    assert [tuple(each) for each in log.epochs.entries] == epochs
    assert ("leader epoch 5 where 3 is known" in caplog.text) == (point == 2)

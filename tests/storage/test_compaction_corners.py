"""What is rare in a pass of compaction, and in a start behind one: each is met once, so that every
branch of those modules is taken."""

from dataclasses import replace

import pytest

from ottla.base.errors import CorruptionError
from ottla.base.limits import WALKED_RECORDS_COUNT
from ottla.records import sieve
from ottla.records.batch import HEADER_BYTES, read_header, seal_batch
from ottla.records.builder import build_batch
from ottla.records.control import KEY
from ottla.records.record import Record
from ottla.storage import compaction as compaction_module
from ottla.storage import times
from ottla.storage.cleaned_transactions import CleanedTransactions
from ottla.storage.compaction import Compaction, Plan, Source
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.log import Log
from ottla.storage.names import LOG, file_name
from ottla.storage.replacement import Replacement
from ottla.storage.time_index import ENTRY as TIME_ENTRY
from ottla.storage.transaction_index import ENTRY_BYTES, AbortedTransaction, TransactionIndex
from ottla.storage.verify_known import Known

from .compacting import COMPACTED, batches, compact, start_pass
from .makers import DIRECTORY, append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk
from .test_transactions import aborted, data, end

HOUR_MS = 3_600_000


def filled(
    disk: MemoryDisk, count: int = 30, value: bytes = b"v" * 40, config: LogConfig = COMPACTED
) -> Log:
    """Sealed segments of one record a batch, the keys over and over, all of it flushed."""
    log = make_log(disk, config)
    for number in range(count):
        append(log, build_batch([Record(0, 1_000, b"k%d" % (number % 9), value)]))
    log.roll(1_000)
    flush_now(disk, [log])
    return log


def offsets(log: Log) -> list[int]:
    return [record.offset for each in batches(log) for record in each.records]


def transactional(producer_id: int, offset: int) -> sieve.BatchHeader:
    record = Record(offset, 1, b"k", b"v")
    return read_header(
        build_batch([record], base_offset=offset, producer_id=producer_id, transactional=True)
    )


# -- transactions


def test_a_control_batch_that_ends_no_transaction_stays() -> None:
    """Kafka's leader change and snapshot markers."""
    header = transactional(7, 3)
    for kind in (2, 3, 4):
        assert not CleanedTransactions(()).is_spent(header, KEY.pack(0, kind), "path")


def test_of_two_entries_that_overlap_the_first_is_believed() -> None:
    first, second = AbortedTransaction(7, 0, 10, 11), AbortedTransaction(7, 5, 20, 21)
    transactions = CleanedTransactions([second, first])
    assert transactions.is_aborted(transactional(7, 6))
    assert not transactions.is_spent(transactional(7, 10), KEY.pack(0, 0), "path")
    assert transactions.take_kept() == [first]
    assert not transactions.is_aborted(transactional(7, 12))


def test_the_marker_of_a_producer_without_data_stays_empty(disk: MemoryDisk) -> None:
    """It is what is known of that producer's epoch; as a batch without records."""
    log = make_log(disk, COMPACTED)
    end(log, 7, commit=True)
    for number in range(3):
        append(log, build_batch([Record(0, 1_000, b"k", b"%d" % number)]))
    log.roll(1_000)
    flush_now(disk, [log])
    for hours in range(1, 5):
        append(log, build_batch([Record(0, 1_000, b"k", b"later")]))
        log.roll(1_000)
        flush_now(disk, [log])
        assert compact(log, hours * HOUR_MS) is not None
    first = next(iter(batches(log)))
    assert (first.header.base_offset, first.header.record_count) == (0, 0)
    assert first.header.is_control
    assert [producer.producer_id for producer in log.producers()] == [7]


def test_a_transaction_that_began_below_the_log_start_is_believed(disk: MemoryDisk) -> None:
    log = make_log(disk)
    data(log, 7, 0)
    for _ in range(12):
        append(log, batch_of(1))
    end(log, 7)
    expected = aborted(log)
    log.settle()
    flush_now(disk, [log])
    log.close()
    again = reopen(disk, is_clean=True, recovery_point=14, log_start_offset=9)
    assert again.segments[0].base_offset > 0
    assert again.is_settled
    assert aborted(again) == expected == [(7, 0, 13, 14)]


def test_half_an_entry_is_no_transaction_index(disk: MemoryDisk) -> None:
    disk.files["0.txnindex"] = bytearray(ENTRY_BYTES - 1)
    with pytest.raises(CorruptionError, match="half an entry") as caught:
        TransactionIndex(disk, "0.txnindex", 0).check_sanity()
    assert caught.value.size_bytes == ENTRY_BYTES - 1


# -- a pass


def test_what_is_written_is_synced_and_paced(
    disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step ends behind so many bytes, read or written, and the disk gets no large sync."""
    log = filled(disk, 12, b"v" * 2_000, replace(COMPACTED, segment_bytes=10_000))
    steps = {}
    for work in (400, 2):
        monkeypatch.setattr(compaction_module, "STEP_WORK", work)
        monkeypatch.setattr(compaction_module, "SYNC_BYTES", 1_000)
        started = start_pass(log, 1_000)
        assert started is not None
        before = len(disk.calls)
        steps[work] = (len(list(started[0].survey())), len(list(started[0].clean())))
        assert [name for name, _ in disk.calls[before:]].count("sync") >= 4
        started[0].remove_leftovers()
    assert steps[2][0] >= 12
    assert steps[2][0] > steps[400][0]
    assert steps[2][1] > steps[400][1]


def test_empty_files_alone_stay_as_they_are(disk: MemoryDisk) -> None:
    """Kafka leaves them where compaction took all of a segment."""
    disk.make_directory(DIRECTORY)
    disk.files[f"{DIRECTORY}/{file_name(5, LOG)}"] = bytearray()
    plan = Plan(
        directory=DIRECTORY,
        config=COMPACTED,
        sources=[Source(5, 0, 9)],
        later=[],
        aborted=[],
        first_dirty_offset=5,
        end_offset=9,
        now_ms=1_000,
        producers={},
        map_bytes=1 << 20,
        load_factor=0.9,
        read_bytes=1 << 18,
    )
    compaction = Compaction(disk, plan)
    list(compaction.survey())
    assert compaction.has_more
    list(compaction.clean())
    assert compaction.cleaned is None
    assert not compaction.has_more
    assert disk.list_directory(DIRECTORY) == [file_name(5, LOG)]
    assert disk.open_count == 0


def test_batches_below_the_first_dirty_offset_are_not_asked(disk: MemoryDisk) -> None:
    """The offset of the cleaner's checkpoint may lie within a segment."""
    log = filled(disk)
    log.cleaner_offset = log.segments[1].base_offset + 1
    dirty = log.cleaner_offset
    assert compact(log, 1_000) is not None
    assert offsets(log)[:3] == list(range(21, 24))
    assert dirty < 21
    assert log.cleaner_offset == 30


def test_a_file_that_is_shorter_than_its_segment(disk: MemoryDisk) -> None:
    log = filled(disk)
    del disk.files[log.segments[0].path][-3:]
    with pytest.raises(CorruptionError, match="torn batch"):
        compact(log, 1_000)
    assert log.cleaner_offset is None


def test_steps_of_a_replacement_may_be_taken_again(disk: MemoryDisk) -> None:
    """Each goes on where it failed."""
    log = filled(disk)
    started = start_pass(log, 1_000)
    assert started is not None
    compaction, segments, _ = started
    list(compaction.survey())
    list(compaction.clean())
    cleaned = compaction.cleaned
    assert cleaned is not None
    replacement = Replacement(log, segments[: len(compaction.group)], cleaned)
    replacement.begin()
    for _ in range(2):
        replacement.swap(1_000)
        assert log.segments.count(cleaned) == 1
    for _ in range(2):
        replacement.finish()
    replacement.end()
    assert cleaned.state == ""
    assert read_all(reopen(disk.copy(), COMPACTED, recovery_point=30)) == read_all(log)


def test_a_point_past_what_was_flushed_lowers_nothing(log: Log) -> None:
    append(log, batch_of(3))
    flush_now(log.disk, [log])
    assert not log.lower_recovery_point(3)
    assert log.flushed_end_offset == 3
    assert log.lower_recovery_point(2)
    assert log.flushed_end_offset == 0


# -- a start behind it


def swapped(disk: MemoryDisk) -> tuple[Log, str]:
    """A copy of the second segment, as `.swap`."""
    log = filled(disk)
    log.settle()
    log.close()
    second = log.segments[1]
    stem = f"{DIRECTORY}/{second.base_offset:020d}"
    for kind in (".log", ".index", ".timeindex"):
        disk.files[f"{stem}{kind}.swap"] = bytearray(disk.files[stem + kind])
    return log, stem


def test_a_swap_of_a_split_that_did_not_come_to_its_end_goes(disk: MemoryDisk) -> None:
    """Kafka's: something `.cleaned` stands below, so what it would replace is still whole."""
    log, stem = swapped(disk)
    disk.files[f"{stem}.log.swap"][HEADER_BYTES:] = b"of a split"
    lower = f"{DIRECTORY}/{file_name(0, LOG)}.cleaned"
    disk.files[lower] = bytearray(b"half")
    last = f"{DIRECTORY}/{log.segments[-2].base_offset:020d}.log"
    disk.files[f"{last}.swap"] = disk.files.pop(last)  # this one is all that there is
    again = reopen(disk, COMPACTED, is_clean=True, recovery_point=30)
    assert offsets(again) == list(range(30))
    assert not [name for name in disk.files if name.endswith((".swap", ".cleaned"))]


def test_a_transaction_index_that_a_swap_finds_damaged_is_passed_over(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    _, stem = swapped(disk)
    disk.files[f"{stem}.txnindex"] = bytearray(b"\xff" * ENTRY_BYTES)
    again = reopen(disk, COMPACTED, is_clean=True, recovery_point=30)
    assert offsets(again) == list(range(30))
    assert "transaction index passed over" in caplog.text
    assert list(again.aborted_transactions(0, 30)) == []


# -- times in what compaction left


def emptied(timestamp: int) -> bytearray:
    return sieve.empty_batch(read_header(build_batch([Record(0, timestamp, b"k", b"v")])))


def emptied_log(disk: MemoryDisk) -> Log:
    """A segment of an empty batch; one of two records and an empty batch behind them. The empty
    ones have the largest timestamps: Kafka keeps those when it takes the records."""
    log = make_log(disk, replace(COMPACTED, segment_bytes=10_000))
    append(log, emptied(9_000))
    log.roll(1_000)
    append(log, batch_of(1, timestamp=2_000))
    append(log, batch_of(1, timestamp=3_000))
    append(log, emptied(8_000))
    return log


def test_an_empty_batch_has_no_timestamp(disk: MemoryDisk) -> None:
    log = emptied_log(disk)
    assert [segment.max_timestamp for segment in log.segments] == [-1, 3_000]
    latest = log.max_timestamp_offset(4)
    assert latest is not None
    assert (latest.timestamp, latest.offset) == (3_000, 2)
    assert times.latest(log.segments[:1], 1) is None


def test_a_time_index_may_name_a_batch_that_is_empty(disk: MemoryDisk) -> None:
    """One that Kafka wrote: it is true, and no record is there."""
    log = emptied_log(disk)
    log.settle()
    flush_now(disk, [log])
    log.close()
    for segment, timestamp, delta in zip(log.segments, (9_000, 8_000), (0, 2), strict=True):
        disk.files[segment.time_index.path][:] = TIME_ENTRY.pack(timestamp, delta)
    again = reopen(disk, COMPACTED, is_clean=True, recovery_point=4)
    assert [times.largest(segment) for segment in again.segments] == [9_000, 8_000]
    latest = again.max_timestamp_offset(4)
    assert latest is not None
    assert (latest.timestamp, latest.offset) == (3_000, 2)
    assert times.latest(again.segments[:1], 1) is None


def test_a_batch_of_too_many_records_is_told_as_one(disk: MemoryDisk) -> None:
    """Walking them would hold up the reactor."""
    log = make_log(disk, LogConfig())
    count = WALKED_RECORDS_COUNT
    append(log, batch_of(count, timestamp=2_000, value=b""))
    append(log, batch_of(count + 1, timestamp=500_000, value=b""))
    found = log.offset_for_timestamp(2_005, log.log_end_offset)
    assert found is not None
    assert (found.timestamp, found.offset) == (2_005, 5)
    whole = (500_000 + count, count, 0)
    assert log.offset_for_timestamp(500_005, log.log_end_offset) == whole
    assert log.max_timestamp_offset(log.log_end_offset) == whole


def test_records_that_do_not_unpack_are_told_as_one(disk: MemoryDisk) -> None:
    log = make_log(disk, COMPACTED)
    batch = batch_of(3, timestamp=2_000, codec=4)
    batch[HEADER_BYTES:] = bytes(len(batch) - HEADER_BYTES)
    seal_batch(batch)
    append(log, batch)
    latest = log.max_timestamp_offset(3)
    assert latest is not None
    assert (latest.timestamp, latest.offset) == (2_002, 0)


# -- what a log directory says of it


def test_a_log_start_past_the_end_is_damage() -> None:
    for start in (-1, 6):
        (found,) = Known(log_start_offset=start).findings("data/t-0", 5, is_torn=False)
        assert not found.is_note
        assert f"log start {start}" in found.cause
    for start in (0, 5):
        assert not list(Known(log_start_offset=start).findings("data/t-0", 5, is_torn=False))


def test_a_book_without_epochs_says_nothing(disk: MemoryDisk) -> None:
    assert not list(Known().epoch_findings(disk, "data/t-0", LeaderEpochs(), 0, 5))

"""A pass of compaction, rule by rule, and on a disk that fails at the n-th call."""

import errno
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ottla.base.errors import BugError, CorruptionError, KafkaError
from ottla.records import sieve
from ottla.records.batch import HEADER_BYTES, iterate_headers, read_header, seal_batch
from ottla.records.builder import build_batch
from ottla.records.compression import decompress
from ottla.records.control import Marker, build_marker
from ottla.records.record import Record, iterate_records
from ottla.storage import compaction as compaction_module
from ottla.storage.cleanable import cleanable, plan_of
from ottla.storage.cleaned_transactions import CleanedTransactions
from ottla.storage.config import LONG_MAX, LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.offset_map import SLOT_BYTES
from ottla.storage.removal import remove_files
from ottla.storage.replacement import Replacement
from ottla.storage.transaction_index import AbortedTransaction, TransactionIndex

from .compacting import COMPACTED, History, Seen, batches, compact, start_pass
from .makers import DIRECTORY, append, delete_old_segments, make_log, read_all, reopen
from .memory_disk import MemoryDisk
from .test_log_dir import Clock

HOUR_MS = 3_600_000


@pytest.fixture
def compacted(disk: MemoryDisk) -> Log:
    return make_log(disk, COMPACTED)


def put(
    log: Log, *pairs: tuple[str, str | None], timestamp: int = 1_000, now_ms: int = 1_000, **o: Any
) -> int:
    """One batch of these; its first offset."""
    records = [
        Record(at, timestamp + at, key.encode(), None if value is None else value.encode())
        for at, (key, value) in enumerate(pairs)
    ]
    return append(log, build_batch(records, **o), now_ms=now_ms).first_offset


def roll(log: Log, now_ms: int = 1_000) -> None:
    log.roll(now_ms)
    flush_now(log.disk, [log])


def passed(log: Log, now_ms: int = 1_000, **o: Any) -> compaction_module.Compaction:
    roll(log, now_ms)
    done = compact(log, now_ms, **o)
    assert done is not None
    return done


def there(log: Log) -> list[tuple[int, str, str | None]]:
    return [
        (record.offset, (record.key or b"").decode(), record.value and record.value.decode())
        for each in batches(log)
        for record in each.records
        if not each.header.is_control
    ]


def seen(log: Log) -> list[Seen]:
    return list(batches(log))


# -- which records stay


def test_the_last_record_of_each_key_stays_at_its_offset(compacted: Log) -> None:
    put(compacted, ("a", "1"), ("b", "1"), ("a", "2"))
    put(compacted, ("c", "1"), ("b", "2"))
    done = passed(compacted)
    assert there(compacted) == [(2, "a", "2"), (3, "c", "1"), (4, "b", "2")]
    assert (done.record_count, done.kept_count) == (5, 3)
    assert (compacted.log_start_offset, compacted.log_end_offset) == (0, 5)
    assert compacted.cleaner_offset == 5
    first, second = (each.header for each in seen(compacted))
    assert (first.base_offset, first.last_offset, first.record_count) == (0, 2, 1)
    assert second.record_count == 2, "as it was"


def test_the_active_segment_is_left_alone(compacted: Log) -> None:
    put(compacted, ("a", "1"))
    passed(compacted)
    put(compacted, ("a", "2"), ("a", "3"))
    flush_now(compacted.disk, [compacted])
    assert compact(compacted, 1_000) is None
    assert there(compacted) == [(0, "a", "1"), (1, "a", "2"), (2, "a", "3")]


def test_a_record_without_a_key_goes(compacted: Log) -> None:
    """Of the time before the topic was compacted; later ones are refused."""
    append(compacted, build_batch([Record(0, 1_000, None, b"v"), Record(1, 1_000, b"a", b"1")]))
    passed(compacted)
    assert there(compacted) == [(1, "a", "1")]


def test_clean_records_give_way_to_dirty_ones(compacted: Log) -> None:
    put(compacted, ("a", "1"), ("b", "1"))
    passed(compacted)
    put(compacted, ("b", "2"))
    passed(compacted)
    assert there(compacted) == [(0, "a", "1"), (2, "b", "2")]


@pytest.mark.parametrize("codec", range(5))
def test_batches_keep_their_codec(compacted: Log, codec: int) -> None:
    put(compacted, ("a", "1" * 50), ("b", "1" * 50), ("a", "2" * 50), codec=codec)
    passed(compacted)
    (only,) = seen(compacted)
    assert only.header.codec == codec
    assert there(compacted) == [(1, "b", "1" * 50), (2, "a", "2" * 50)]


@pytest.mark.parametrize("codec", range(1, 5))
def test_batches_that_change_take_the_topics_codec(compacted: Log, codec: int) -> None:
    put(compacted, ("a", "1" * 90), ("b", "1" * 90), ("a", "2" * 90))
    put(compacted, ("c", "3" * 90))
    compacted.config = replace(compacted.config, codec=codec)
    passed(compacted)
    first, second = seen(compacted)
    assert (first.header.codec, second.header.codec) == (codec, 0), "a batch that stays is copied"
    assert there(compacted)[:2] == [(1, "b", "1" * 90), (2, "a", "2" * 90)]


def test_a_codec_that_makes_a_batch_larger_is_not_used(compacted: Log) -> None:
    put(compacted, ("a", "1" * 90), ("b", "1" * 90), ("a", "2" * 90), codec=4)
    compacted.config = replace(compacted.config, codec=0)
    passed(compacted)
    assert seen(compacted)[0].header.codec == 4


def test_headers_and_timestamps_stay(compacted: Log) -> None:
    records = [
        Record(at, 1_000 - at, b"k%d" % (at % 2), b"v", (("h", b"%d" % at), ("null", None)))
        for at in range(4)
    ]
    append(compacted, build_batch(records))
    passed(compacted)
    ((header, kept),) = seen(compacted)
    assert kept == records[2:]
    assert header.max_timestamp == 998


def test_log_append_time_stays(compacted: Log) -> None:
    records = [Record(at, 5, b"k%d" % (at % 2), None) for at in range(4)]
    append(compacted, build_batch(records, log_append_time=777))
    passed(compacted)
    ((header, kept),) = seen(compacted)
    assert header.has_delete_horizon
    assert header.is_log_append_time
    assert [record.timestamp for record in kept] == [777, 777]


# -- tombstones


def test_a_tombstone_gets_a_horizon_and_goes_behind_it(compacted: Log) -> None:
    put(compacted, ("a", "1"), ("b", "1"))
    put(compacted, ("a", None), ("c", "1"), timestamp=900)
    passed(compacted, 5_000)
    horizon = 5_000 + COMPACTED.delete_retention_ms
    first, second = seen(compacted)
    assert not first.header.has_delete_horizon
    assert second.header.has_delete_horizon
    assert second.header.base_timestamp == horizon
    assert [record.timestamp for record in second.records] == [900, 901]
    assert there(compacted) == [(1, "b", "1"), (2, "a", None), (3, "c", "1")]
    for now_ms, is_there in ((horizon - 1, True), (horizon, False)):
        put(compacted, ("x", "1"))
        passed(compacted, now_ms)
        assert ((2, "a", None) in there(compacted)) is is_there
        assert seen(compacted)[1].header.base_timestamp == horizon, "it is not put off"


def test_a_horizon_past_the_end_of_time(compacted: Log) -> None:
    compacted.config = replace(compacted.config, delete_retention_ms=LONG_MAX)
    put(compacted, ("a", None))
    passed(compacted, 5_000)
    ((header, (record,)),) = seen(compacted)
    assert header.base_timestamp == LONG_MAX
    assert record.timestamp == 1_000


def test_a_newer_value_takes_a_tombstone_at_once(compacted: Log) -> None:
    put(compacted, ("a", None))
    put(compacted, ("a", "2"))
    passed(compacted)
    assert there(compacted) == [(1, "a", "2")]


# -- producers


def test_the_last_batch_of_a_producer_stays_empty(compacted: Log, disk: MemoryDisk) -> None:
    put(compacted, ("a", "1"), producer_id=7, producer_epoch=2, base_sequence=0)
    put(compacted, ("a", "2"), ("a", "3"), producer_id=7, producer_epoch=2, base_sequence=1)
    put(compacted, ("a", "4"))
    passed(compacted)
    first, second = seen(compacted)
    assert first.records == []
    header = first.header
    assert (header.base_offset, header.last_offset) == (1, 2)
    assert (header.producer_id, header.producer_epoch) == (7, 2)
    assert (header.base_sequence, header.last_sequence) == (1, 2)
    assert [record.offset for record in second.records] == [3]
    for name in [name for name in disk.files if name.endswith(".snapshot")]:
        del disk.files[name]
    (producer,) = reopen(disk.copy(), COMPACTED, recovery_point=4).producers()
    assert (producer.producer_id, producer.epoch, producer.last_sequence) == (7, 2, 2)


def test_it_goes_when_its_producer_is_forgotten(compacted: Log) -> None:
    put(compacted, ("a", "1"), producer_id=7, producer_epoch=0, base_sequence=0)
    put(compacted, ("a", "2"))
    compacted.producer_state.expire(1_000 + 24 * HOUR_MS, 1)
    passed(compacted)
    assert [each.header.producer_id for each in seen(compacted)] == [-1]


def test_the_last_batch_of_a_pass_stays(compacted: Log) -> None:
    put(compacted, ("a", "1"))
    append(compacted, build_batch([Record(0, 1_000, None, b"no key")]))
    passed(compacted)
    assert [len(each.records) for each in seen(compacted)] == [1, 0]
    assert seen(compacted)[-1].header.last_offset == 1


# -- transactions


def transaction(history: History, keys: list[int], *, commit: bool, producer_id: int = 11) -> None:
    history.put(keys, producer_id, transactional=True)
    history.end(producer_id, commit=commit)


@pytest.fixture
def history(disk: MemoryDisk) -> History:
    return History(disk, Clock())


def controls(log: Log) -> list[tuple[int, bool]]:
    return [
        (each.header.base_offset, each.header.has_delete_horizon)
        for each in batches(log)
        if each.header.is_control and each.records
    ]


def step(history: History, ms: int = 0) -> None:
    """Another segment that is dirty, and a pass."""
    history.clock.now_ms += ms
    history.put([8], -1)
    history.roll()
    history.compact()
    history.check()


def test_an_abort_marker_goes_a_retention_after_its_data(history: History) -> None:
    transaction(history, [1, 2], commit=False)
    transaction(history, [1], commit=True)
    for _ in range(2):
        step(history)
        first = history.log.segments[0].transaction_index.entries()
        data = [each for each in batches(history.log) if each.header.producer_id == 11]
        assert all(each.header.base_offset != 0 for each in data), "the data goes at once"
        if first:
            assert [each.last_offset for each in first] == [2]
            assert controls(history.log)[0] == (2, False)
    assert controls(history.log)[0] == (2, True)
    assert history.log.aborted_transactions(0, 1_000) == []
    step(history, COMPACTED.delete_retention_ms - 1)
    assert controls(history.log)[0] == (2, True)
    step(history, 1)
    assert (2, True) not in controls(history.log)


def test_a_commit_marker_stays_as_long_as_its_data(history: History) -> None:
    transaction(history, [1], commit=True)
    for _ in range(3):
        step(history, 2_000)
        assert controls(history.log) == [(1, False)]
    history.put([1], 11, transactional=True)  # its data gives way, its producer moves on
    history.end(11, commit=True)
    for _ in range(2):
        step(history)
    assert controls(history.log)[0] == (1, True)
    step(history, 1_000)
    assert (1, True) not in controls(history.log)


def test_what_is_open_is_not_compacted(history: History) -> None:
    history.put([1], -1)
    history.put([1], 11, transactional=True)
    history.put([1], -1)
    for _ in range(3):
        history.roll()
        history.compact()
        history.put([1], -1)
    assert history.log.first_unstable_offset == 1
    values = [record.offset for each in batches(history.log) for record in each.records]
    assert values[:3] == [0, 1, 2]


def test_an_aborted_transaction_over_many_segments(history: History) -> None:
    for _ in range(6):
        history.put([1, 2, 3], 11, transactional=True)
        history.put([4], 12, transactional=True)
        history.roll()
    history.end(11, commit=False)
    history.end(12, commit=True)
    step(history)
    step(history)


def test_an_abort_that_no_index_knows_of_is_corruption(history: History) -> None:
    history.put([1], -1)
    transaction(history, [1], commit=False)
    history.roll()
    history.flush()
    for segment in history.log.segments:
        segment.transaction_index.reset()
    with pytest.raises(CorruptionError, match="the marker at 2 aborts is in no index"):
        compact(history.log, 1_000)
    assert there(history.log)[0][0] == 0, "nothing was dropped"


def test_stale_entries_say_nothing_of_what_came_later() -> None:
    """An entry whose marker is gone must not make a committed transaction aborted."""
    transactions = CleanedTransactions([AbortedTransaction(7, 0, 5, 6)])
    data = read_header(
        build_batch([Record(10, 1, b"k", b"v")], base_offset=10, producer_id=7, transactional=True)
    )
    assert not transactions.is_aborted(data)


# -- a map that fills up


def test_a_pass_ends_where_its_map_is_full(compacted: Log) -> None:
    for number in range(12):
        put(compacted, (f"k{number}", "1"), (f"k{number}", "2"), ("x", str(number)))
    roll(compacted)
    ends = []
    while compacted.cleaner_offset != 36:
        done = compact(compacted, 1_000, map_bytes=SLOT_BYTES * 5)
        assert done is not None
        ends.append(done.next_dirty_offset)
    assert ends == sorted(set(ends)), "each pass goes further"
    assert len(ends) > 3
    expected = {f"k{number}": "2" for number in range(12)} | {"x": "11"}
    assert {key: value for _, key, value in there(compacted)} == expected


def test_a_map_that_fills_within_a_batch(compacted: Log) -> None:
    put(compacted, *[(f"k{number % 7}", str(number)) for number in range(20)])
    roll(compacted)
    while compacted.cleaner_offset != 20:
        assert compact(compacted, 1_000, map_bytes=SLOT_BYTES * 3) is not None
    # Kafka's rule: a key that an earlier pass knew and a later one does not is met again.
    last = {key: value for _, key, value in there(compacted)}
    assert last == {f"k{number % 7}": str(number) for number in range(13, 20)}


# -- segments


def test_small_segments_become_one(compacted: Log, disk: MemoryDisk) -> None:
    for number in range(40):
        put(compacted, (f"k{number % 4}", "v" * 40))
    before = len(compacted.segments)
    passed(compacted)
    assert before >= 8
    assert len(compacted.segments) == 2
    assert compacted.segments[0].base_offset == 0
    assert [offset for offset, _, _ in there(compacted)] == [36, 37, 38, 39]
    remove_files(compacted.disk, compacted.take_deleted(1 << 40))
    assert not [name for name in disk.files if name.endswith((".deleted", ".swap", ".cleaned"))]
    assert read_all(reopen(disk.copy(), COMPACTED, recovery_point=40)) == read_all(compacted)


def test_a_segment_is_no_larger_than_the_topic_allows(compacted: Log) -> None:
    for number in range(40):
        put(compacted, (f"k{number}", "v" * 40))
    passed(compacted)
    assert len(there(compacted)) == 40
    sizes = [segment.size_bytes for segment in compacted.segments]
    assert len(sizes) > 5
    assert max(sizes) <= COMPACTED.segment_bytes


def test_indexes_are_those_of_the_new_segments(compacted: Log) -> None:
    for number in range(60):
        put(compacted, (f"k{number % 30}", "v" * 20), timestamp=1_000 + number)
    passed(compacted)
    for segment in compacted.segments[:-1]:
        assert segment.index.count <= segment.index.capacity
        segment.close()
    for offset in range(60):
        assert compacted.read(offset, 1, 60) is not None
        found = compacted.offset_for_timestamp(1_000 + offset, 60)
        assert found is not None
        assert found.offset == max(offset, 30)


def test_offsets_too_far_apart_are_not_put_together(
    compacted: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_module, "OFFSET_DELTA_MAX", 9)
    for number in range(40):
        put(compacted, (f"k{number % 4}", "v" * 40))
    passed(compacted)
    assert len(compacted.segments) > 4
    assert {offset for offset, _, _ in there(compacted)} == {36, 37, 38, 39}


def test_a_segment_of_which_nothing_stays_tells_its_place(
    compacted: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filler reaches into the last segment that was replaced."""
    monkeypatch.setattr(compaction_module, "OFFSET_DELTA_MAX", 2)
    compacted.config = replace(compacted.config, segment_bytes=100)
    put(compacted, ("a", "v" * 30))
    for _ in range(3):
        append(compacted, build_batch([Record(0, 1_000, None, b"v" * 20)]))
    put(compacted, ("b", "v" * 30))
    passed(compacted)
    assert [each.header.last_offset for each in seen(compacted)] == [0, 3, 4]
    filler = seen(compacted)[1]
    assert (filler.records, filler.header.producer_id) == ([], -1)


def test_timestamps_of_segments_stay_for_retention(compacted: Log, disk: MemoryDisk) -> None:
    compacted.config = replace(
        compacted.config, is_deleted_by_retention=True, retention_ms=10 * HOUR_MS
    )
    for number in range(20):
        put(compacted, (f"k{number}", "v" * 40), timestamp=number * HOUR_MS)
    passed(compacted)
    youngest = [each.max_timestamp for each in compacted.segments[:-1]]
    assert youngest == sorted(youngest)
    assert youngest[-1] == 19 * HOUR_MS
    now_ms = youngest[1] + 10 * HOUR_MS + 1
    assert delete_old_segments(compacted, now_ms, 20) == 2
    assert compacted.log_start_offset == compacted.segments[0].base_offset


def test_deleted_records_below_the_start_do_no_harm(compacted: Log) -> None:
    for number in range(20):
        put(compacted, (f"k{number}", "v" * 40))
    compacted.advance_start(10)
    passed(compacted)
    assert [offset for offset, _, _ in there(compacted) if offset >= 10] == list(range(10, 20))
    assert compacted.read(10, 1, 20) is not None


# -- whether and how far


def due(log: Log, now_ms: int = 1_000) -> Any:
    return cleanable(log, now_ms, log.flushed_end_offset)


def test_a_log_is_due_by_its_dirty_ratio(compacted: Log) -> None:
    compacted.config = replace(compacted.config, min_cleanable_dirty_ratio=0.5)
    put(compacted, ("a", "v" * 100))
    assert due(compacted) is None, "one segment"
    passed(compacted)
    assert due(compacted) is None
    put(compacted, ("b", "v" * 10))
    roll(compacted)
    assert due(compacted) is None
    put(compacted, ("c", "v" * 200))
    roll(compacted)
    found = due(compacted)
    assert found.dirty_ratio > 0.5
    assert (found.first_dirty_offset, found.end_offset) == (1, 3)


def test_a_log_that_is_not_to_be_compacted(compacted: Log) -> None:
    put(compacted, ("a", "1"))
    roll(compacted)
    compacted.config = replace(compacted.config, is_compacted=False)
    assert due(compacted) is None


def test_the_high_watermark_bounds_it(compacted: Log) -> None:
    for _ in range(3):
        put(compacted, ("a", "1"))
        roll(compacted)
    assert cleanable(compacted, 1_000, 0) is None
    found = cleanable(compacted, 1_000, 2)
    assert found is not None
    assert found.end_offset == 2


def test_what_was_not_flushed_is_left_alone(compacted: Log) -> None:
    put(compacted, ("a", "1"))
    compacted.roll(1_000)
    assert cleanable(compacted, 1_000, 1) is None


def test_the_shortest_lag(compacted: Log) -> None:
    compacted.config = replace(compacted.config, min_compaction_lag_ms=HOUR_MS)
    for number in range(3):
        put(compacted, ("a", "1"), timestamp=1_000 + number * 1_000)
        roll(compacted)
    assert due(compacted, 1_000 + HOUR_MS - 1) is None
    assert due(compacted, 1_000 + HOUR_MS).end_offset == 1
    assert due(compacted, 3_000 + HOUR_MS).end_offset == 3


@pytest.mark.parametrize(("lag_ms", "end_offset"), [(0, 1), (1, None)])
def test_without_a_shortest_lag_a_time_to_come_is_none_to_wait_for(
    compacted: Log, lag_ms: int, end_offset: int | None
) -> None:
    compacted.config = replace(compacted.config, min_compaction_lag_ms=lag_ms)
    put(compacted, ("a", "1"), timestamp=5_000)
    roll(compacted)
    found = due(compacted)
    assert (found and found.end_offset) == end_offset


def test_a_plan_ends_where_what_is_due_ends(compacted: Log) -> None:
    for _ in range(4):
        put(compacted, ("a", "1"))
        roll(compacted)
    found = cleanable(compacted, 1_000, 2)
    assert found is not None
    plan, segments = plan_of(
        compacted, found, 1_000, map_bytes=1 << 20, load_factor=0.9, read_bytes=1 << 18
    )
    assert segments == compacted.segments[:2]
    assert [(each.base_offset, each.end_offset) for each in plan.sources] == [(0, 1), (1, 2)]
    assert plan.later == [2, 3]


def test_the_longest_lag(compacted: Log) -> None:
    compacted.config = replace(
        compacted.config, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=HOUR_MS
    )
    put(compacted, ("a", "1"), timestamp=1_000)
    roll(compacted)
    assert due(compacted, 1_000 + HOUR_MS) is None
    found = due(compacted, 1_001 + HOUR_MS)
    assert found.is_overdue
    compacted.segments[0].close()
    assert compact(compacted, 1_001 + HOUR_MS) is not None
    assert due(compacted, 1_001 + HOUR_MS) is None


def test_the_shortest_lag_holds_back_what_is_dirty_alone(compacted: Log) -> None:
    put(compacted, ("a", "1"), timestamp=HOUR_MS)
    passed(compacted)
    put(compacted, ("b", "1"), timestamp=1_000)
    roll(compacted)
    compacted.config = replace(compacted.config, min_compaction_lag_ms=HOUR_MS)
    assert due(compacted, 1_000 + HOUR_MS).end_offset == 2


def test_the_shortest_lag_of_a_segment_without_a_time_counts_from_its_making(
    compacted: Log,
) -> None:
    compacted.config = replace(compacted.config, min_compaction_lag_ms=HOUR_MS)
    put(compacted, ("a", "1"), timestamp=-1)
    roll(compacted)
    assert due(compacted, 999 + HOUR_MS) is None
    assert due(compacted, 1_000 + HOUR_MS).end_offset == 1


def test_the_shortest_lag_of_the_first_moment(compacted: Log) -> None:
    """The time 0 is one."""
    compacted.config = replace(compacted.config, min_compaction_lag_ms=HOUR_MS)
    put(compacted, ("a", "1"), timestamp=0)
    roll(compacted)
    assert due(compacted, HOUR_MS - 1) is None
    assert due(compacted, HOUR_MS).end_offset == 1


@pytest.mark.parametrize(("timestamp", "is_overdue"), [(-1, False), (0, False), (1, True)])
def test_the_longest_lag_knows_no_time_before_1(
    compacted: Log, timestamp: int, is_overdue: bool
) -> None:
    compacted.config = replace(
        compacted.config, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=HOUR_MS
    )
    put(compacted, ("a", "1"), timestamp=timestamp)
    roll(compacted)
    assert (due(compacted, 2 + HOUR_MS) is not None) == is_overdue


def test_the_longest_lag_is_of_what_is_dirty(compacted: Log) -> None:
    """What was compacted may be as old as it likes."""
    compacted.config = replace(
        compacted.config, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=HOUR_MS
    )
    put(compacted, ("a", "1"), timestamp=1_000)
    roll(compacted)
    assert compact(compacted, 1_001 + HOUR_MS) is not None
    put(compacted, ("b", "1"), timestamp=2_000)
    roll(compacted)
    assert due(compacted, 2_000 + HOUR_MS) is None
    assert due(compacted, 2_001 + HOUR_MS).first_dirty_offset == 1


@pytest.mark.parametrize("offset", [-5, 1_000])
def test_an_offset_of_a_log_that_is_gone_is_passed_over(compacted: Log, offset: int) -> None:
    put(compacted, ("a", "1"))
    roll(compacted)
    compacted.cleaner_offset = offset
    assert due(compacted).first_dirty_offset == 0


def test_a_truncation_takes_the_cleaner_offset_along(compacted: Log) -> None:
    put(compacted, ("a", "1"))
    put(compacted, ("b", "1"))
    passed(compacted)
    compacted.truncate_to(1, 1_000)
    assert compacted.cleaner_offset == 1


# -- damage


@pytest.mark.parametrize("at", [0, 16, 17, 30, 69])
def test_damage_ends_a_pass_and_nothing_is_dropped(
    compacted: Log, disk: MemoryDisk, at: int
) -> None:
    put(compacted, ("a", "1"))
    second = put(compacted, ("a", "2"))
    roll(compacted)
    path = f"{DIRECTORY}/{0:020d}.log"
    position = next(
        at_batch
        for at_batch, header in iterate_headers(bytes(disk.files[path]))
        if header.base_offset == second
    )
    disk.files[path][position + at] ^= 0x81
    before = bytes(disk.files[path])
    with pytest.raises(CorruptionError) as caught:
        compact(compacted, 1_000)
    assert caught.value.path == path
    assert caught.value.position == position
    assert disk.files[path] == before


def sealed(body: bytes, count: int, **changes: Any) -> bytearray:
    """A batch with a true CRC around any bytes."""
    batch = build_batch([Record(0, 1_000, b"k", b"v")])
    header = read_header(batch)._replace(record_count=count, **changes)
    made = sieve._sealed(header, body)
    seal_batch(made)
    return made


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 1),
        (b"\x02", 1),
        (b"\x10\0\0\0\x02k\x02v", 1),
        (b"\x0c\0\0\0\x03", 1),
        (b"\x0e\0\0\0\x02k\x7f", 1),
        (b"\x0e\0\0\0\x02k\x02v", 1),
        (b"\x80\x80\x80\x80\x80\x80", 1),
        (b"\0", 1),
    ],
)
def test_records_that_are_not_what_they_say(compacted: Log, body: bytes, count: int) -> None:
    append(compacted, sealed(body, count))
    roll(compacted)
    with pytest.raises(CorruptionError) as caught:
        compact(compacted, 1_000)
    assert caught.value.position == 0


def test_a_codec_that_does_not_unpack(compacted: Log) -> None:
    append(compacted, sealed(b"none of these", 1, attributes=4))
    roll(compacted)
    with pytest.raises(CorruptionError):
        compact(compacted, 1_000)


# -- a log that changes meanwhile


def half_done(log: Log) -> tuple[Any, list[Any]]:
    started = start_pass(log, 1_000)
    assert started is not None
    compaction, segments, _ = started
    list(compaction.survey())
    list(compaction.clean())
    return compaction, segments


def test_a_segment_that_left_meanwhile_is_not_replaced(compacted: Log) -> None:
    for number in range(30):
        put(compacted, (f"k{number % 9}", "v" * 40))
    roll(compacted)
    compaction, segments = half_done(compacted)
    by_base = {each.base_offset: each for each in segments}
    gone = [by_base[each.base_offset] for each in compaction.group]
    replacement = Replacement(compacted, gone, compaction.cleaned)
    assert replacement.is_possible
    compacted.truncate_to(gone[-1].base_offset + 1, 1_000)
    assert not replacement.is_possible
    with pytest.raises(BugError):
        replacement.begin()
    compaction.remove_leftovers()
    assert len(read_all(compacted)) > 0
    compacted.advance_start(compacted.segments[1].base_offset)
    compacted.drop_retired(1_000, compacted.log_start_offset)
    assert not replacement.is_possible


def test_a_swap_holds_back_retention_and_truncation(compacted: Log, disk: MemoryDisk) -> None:
    for number in range(30):
        put(compacted, (f"k{number % 9}", "v" * 40))
    roll(compacted)
    compaction, segments = half_done(compacted)
    gone = segments[: len(compaction.group)]
    replacement = Replacement(compacted, gone, compaction.cleaned)
    replacement.begin()
    assert due(compacted) is None, "one thing at a time"
    compacted.advance_start(compacted.active.base_offset)
    assert compacted.drop_retired(1_000, compacted.log_start_offset) == 0
    with pytest.raises(BugError):
        compacted.truncate_to(3, 1_000)
    replacement.swap(1_000)
    remove_files(compacted.disk, compacted.take_deleted(1 << 40))
    assert [name for name in disk.files if name.endswith(".deleted")]
    replacement.finish()
    replacement.end()
    assert compacted.drop_retired(1_000, compacted.log_start_offset) > 0
    remove_files(compacted.disk, compacted.take_deleted(1 << 40))
    assert not [name for name in disk.files if name.endswith((".deleted", ".swap"))]


def test_a_log_that_moves_in_the_middle_of_a_swap(compacted: Log, disk: MemoryDisk) -> None:
    """Its topic was deleted: readers that are there go on, the files go with the directory."""
    for number in range(30):
        put(compacted, (f"k{number % 9}", "v" * 40))
    roll(compacted)
    compaction, segments = half_done(compacted)
    replacement = Replacement(compacted, segments[: len(compaction.group)], compaction.cleaned)
    replacement.begin()
    replacement.swap(1_000)
    before = read_all(compacted)
    disk.rename(DIRECTORY, "data/gone")
    compacted.move("data/gone")
    compacted.segments[0].close()
    assert read_all(compacted) == before


# -- failures


def fresh(disk: MemoryDisk) -> History:
    history = History(disk, Clock())
    rng = random.Random(4)
    for number in range(8):
        history.put([rng.randrange(6) for _ in range(3)], number % 3 - 1)
        if number in (2, 5):
            transaction(history, [1, 2], commit=number == 5)
    history.roll()
    history.flush()
    return history


def test_a_pass_that_fails_at_any_call_loses_nothing() -> None:
    """Fail the n-th call, n = 1 …: the log serves what it served, opens again, and the next
    pass ends well."""
    count, has_failed = 0, True
    while has_failed:
        count += 1
        disk = MemoryDisk()
        history = fresh(disk)
        disk.fail_at(count)
        history.clock.now_ms += 5
        try:
            history.compact()
            has_failed = False
        except OSError as error:
            assert error.errno in (errno.EIO, errno.ENOSPC)
        disk.fail_at(0)
        history.check()
        history.open_log(disk.copy())
        history.check()
        step(history)
    assert count > 60


def test_a_pass_on_a_disk_that_died_at_any_call(disk: MemoryDisk) -> None:
    count, has_failed = 0, True
    while has_failed:
        count += 1
        disk = MemoryDisk()
        history = fresh(disk)
        disk.fail_at(count, for_good=True)
        try:
            history.compact()
            has_failed = False
        except OSError:
            pass
        history.open_log(disk.copy())
        history.check()
        step(history)
    assert count > 60


def test_leftovers_of_a_pass_are_removed_by_the_next(disk: MemoryDisk) -> None:
    history = fresh(disk)
    for name in (".log.cleaned", ".index.swap", ".txnindex.cleaned"):
        disk.files[f"{history.log.directory}/{7:020d}{name}"] = bytearray(b"x")
    history.compact()
    assert not [name for name in disk.files if name.endswith((".cleaned", ".swap"))]


def test_nothing_stays_open(disk: MemoryDisk) -> None:
    history = fresh(disk)
    history.compact()
    history.check()
    history.log.close()
    assert disk.open_count == 0


def test_steps_are_short(compacted: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large a batch is."""
    compacted.config = replace(compacted.config, segment_bytes=1 << 20)
    put(compacted, *[(f"k{number}", "v") for number in range(5_000)])
    roll(compacted)
    started = start_pass(compacted, 1_000)
    assert started is not None
    compaction = started[0]
    looked = 0
    find = compaction_module.OffsetMap._find

    def counted(*words: Any) -> Any:
        nonlocal looked
        looked += 1
        return find(*words)

    monkeypatch.setattr(compaction_module.OffsetMap, "_find", counted)
    steps: list[Callable[[], Any]] = [compaction.survey, compaction.clean]
    for make in steps:
        most, before = 0, looked
        for taken in make():
            assert taken >= 0
            most, before = max(most, looked - before), looked
        assert 0 < most <= compaction_module.STEP_WORK
    assert looked == 10_000


def test_a_segment_that_would_grow_past_what_its_index_can_tell(
    compacted: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_module, "POSITION_MAX", 100)
    put(compacted, ("a", "v" * 90))
    roll(compacted)
    with pytest.raises(CorruptionError, match="2 GiB"):
        compact(compacted, 1_000)


def test_chunks_smaller_than_a_batch(compacted: Log) -> None:
    compacted.config = replace(compacted.config, segment_bytes=1 << 20)
    for number in range(6):
        put(compacted, (f"k{number % 3}", "v" * 3_000 * (number + 1)))
    roll(compacted)
    compact(compacted, 1_000, read_bytes=0)
    assert [offset for offset, _, _ in there(compacted)] == [3, 4, 5]


def test_kafkas_empty_segments(disk: MemoryDisk) -> None:
    """Kafka leaves them; here they become part of a neighbour, or stay as they are."""
    log = make_log(disk, COMPACTED)
    for number in range(20):
        put(log, (f"k{number % 3}", "v" * 40))
    roll(log)
    empty = log.segments[1].base_offset
    log.close()
    disk.files[f"{DIRECTORY}/{empty:020d}.log"].clear()
    log = reopen(disk, replace(COMPACTED), is_clean=True, recovery_point=20)
    log.flushed_end_offset = 20
    assert compact(log, 1_000) is not None
    assert [offset for offset, _, _ in there(log)] == [17, 18, 19]


def test_a_first_segment_that_kafka_left_empty(disk: MemoryDisk) -> None:
    log = make_log(disk, COMPACTED)
    for number in range(20):
        put(log, (f"k{number % 3}", "v" * 40))
    roll(log)
    log.close()
    disk.files[f"{DIRECTORY}/{0:020d}.log"].clear()
    for is_clean in (True, False):
        again = reopen(disk.copy(), COMPACTED, is_clean=is_clean, recovery_point=20)
        assert again.log_start_offset == 0
        found = again.read(0, 1, 20)
        assert found is not None
        assert found.range.position == 0


def test_kafkas_gaps_past_the_recovery_point_are_no_loss(disk: MemoryDisk) -> None:
    """Killed within the minute in which Kafka wrote no checkpoint: other holes tell whose they
    are. Where there are none, the end of a segment was lost."""
    log = make_log(disk, COMPACTED)
    for number in range(20):
        put(log, (f"k{number % 3}", "v" * 40))
    roll(log)
    bases = [segment.base_offset for segment in log.segments]
    whole = bytes(disk.files[f"{DIRECTORY}/{0:020d}.log"])
    marks = list(iterate_headers(whole))
    log.close()
    (second, _), (last, _) = marks[1], marks[-1]
    for piece, end in ((whole[second:last], 20), (whole[:last], marks[-1][1].base_offset)):
        twin = disk.copy()
        twin.files[f"{DIRECTORY}/{0:020d}.log"][:] = piece
        assert reopen(twin, COMPACTED).log_end_offset == end
        assert len(bases) > 2


# -- the bytes


def test_an_empty_batch_is_kafkas() -> None:
    """DefaultRecordBatch.writeEmptyHeader: no base timestamp, no codec, no horizon."""
    batch = build_batch(
        [Record(5, 1_234, b"k", b"v"), Record(6, 1_236, b"k", b"v")],
        base_offset=5,
        codec=3,
        producer_id=9,
        producer_epoch=2,
        base_sequence=17,
        transactional=True,
        leader_epoch=4,
    )
    empty = sieve.empty_batch(read_header(batch))
    assert len(empty) == HEADER_BYTES
    assert struct.unpack(">qiibIhiqqqhii", empty)[5:] == (1 << 4, 1, -1, 1_236, 9, 2, 17, 0)
    (header,) = [header for _, header in iterate_headers(empty)]
    assert (header.base_offset, header.partition_leader_epoch) == (5, 4)
    assert list(iterate_records(empty, 100)) == []


def test_an_empty_control_batch_says_nothing() -> None:
    marker = build_marker(Marker(False, 0), producer_id=7, producer_epoch=0, timestamp=1)
    empty = sieve.empty_batch(read_header(marker))
    header = read_header(empty)
    assert header.is_control
    assert CleanedTransactions(()).is_spent(header, None, "")


def test_a_rebuilt_batch_unpacks_to_what_stayed() -> None:
    batch = build_batch([Record(at, 1_000 + at, b"k", b"v" * at) for at in range(9)], codec=4)
    header = read_header(batch)
    body = decompress(4, batch[HEADER_BYTES:], 1 << 20)
    kept = [each for each in sieve.raw_records(header, body) if each.offset % 2]
    for horizon in (None, 5, -5, LONG_MAX):
        made = sieve.rebuild(header, body, kept, sieve.Packing(1, 9), horizon)
        records = list(iterate_records(made, 1 << 20))
        assert [record.offset for record in records] == [1, 3, 5, 7]
        assert [record.timestamp for record in records] == [1_001, 1_003, 1_005, 1_007]
        assert read_header(made).max_timestamp == 1_007


def test_bytes_behind_the_last_record_are_damage() -> None:
    header = read_header(build_batch([Record(0, 1_000, b"k", b"v")]))
    body = bytes(build_batch([Record(0, 1_000, b"k", b"v")])[HEADER_BYTES:])
    (only,) = sieve.raw_records(header, body)
    assert only.end == len(body)
    with pytest.raises(KafkaError, match="left behind the last record"):
        list(sieve.raw_records(header, body + b"\0"))


def test_the_transaction_index_of_a_segment_that_needs_none_is_emptied(history: History) -> None:
    transaction(history, [1], commit=False)
    transaction(history, [1], commit=True)
    step(history)
    step(history)
    path = history.log.segments[0].transaction_index.path
    assert TransactionIndex(history.disk, path, 0).entries() == []


def test_defaults_are_kafkas() -> None:
    config = LogConfig()
    assert (config.min_cleanable_dirty_ratio, config.min_compaction_lag_ms) == (0.5, 0)
    assert (config.max_compaction_lag_ms, config.delete_retention_ms) == (LONG_MAX, 86_400_000)

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import BugError, ErrorCode, KafkaError
from ottla.records.batch import read_header
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.names import SNAPSHOT, file_name

from .makers import append, batch_of, headers_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk


def test_append_places_batches_and_read_gives_them_back(log: Log) -> None:
    first, second = batch_of(3), batch_of(2)
    info = append(log, first, second, leader_epoch=7)
    assert (info.first_offset, info.last_offset, info.is_duplicate) == (0, 4, False)
    batches = read_all(log)
    headers = [read_header(each) for each in batches]
    assert [(each.base_offset, each.partition_leader_epoch) for each in headers] == [(0, 7), (3, 7)]
    # All but offset, length and epoch is what was handed in.
    assert [each[16:] for each in batches] == [first[16:], second[16:]]
    assert log.epoch_end(7) == (7, 5)


def test_read_starts_with_the_batch_that_holds_the_offset(log: Log) -> None:
    for _ in range(20):
        append(log, batch_of(3))
    for offset in range(60):
        found = log.read(offset, 1, 60)
        assert found is not None
        file, position, length = found.range
        header = read_header(file.pread(length, position))
        assert header.base_offset == offset - offset % 3
        assert header.size_bytes == length


def test_out_of_range_and_nothing_yet(log: Log) -> None:
    append(log, batch_of(4))
    assert log.read(4, 100, 4) is None
    assert log.read(2, 100, 2) is None
    for offset in (-1, 5):
        with pytest.raises(KafkaError) as caught:
            log.read(offset, 100, 4)
        assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_a_batch_that_is_too_large_only_with_at_least_one(log: Log) -> None:
    append(log, batch_of(4))
    assert log.read(0, 10, 4, at_least_one=False) is None
    assert log.read(0, 10, 4) is not None


def test_read_stops_at_the_end_that_is_handed_in(log: Log) -> None:
    for _ in range(12):
        append(log, batch_of(2))
    for end in range(0, 25, 2):
        got = read_all(log, end)
        assert len(got) == end // 2


def of_three(disk: MemoryDisk) -> Log:
    """A log of three segments that no flush has seen."""
    log = make_log(disk)
    while len(log.segments) < 3:
        append(log, batch_of(1))
    return log


def test_offsets_that_are_missing_are_told(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    append(log, batch_of(1))
    log.log_end_offset = 5
    append(log, batch_of(1))
    for offset in (0, 5):
        log.read(offset, 100, 6)
    assert not caplog.records
    log.read(2, 100, 6)
    assert "offsets 2 to 4 are missing" in caplog.text
    caplog.clear()
    log.config = replace(log.config, is_compacted=True)
    for offset in (0, 2, 5):
        log.read(offset, 100, 6)
    assert not caplog.records


@pytest.mark.parametrize("producer_id", [0, 7])
def test_a_producer_is_known_by_its_id(log: Log, producer_id: int) -> None:
    append(log, batch_of(1, producer=(producer_id, -1, 0)))
    with pytest.raises(KafkaError) as caught:
        append(log, batch_of(1, producer=(producer_id, -1, 5)))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_batch_that_is_there_rolls_nothing(log: Log) -> None:
    for sequence in range(9):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    info = append(log, batch_of(1, producer=(7, 0, 8)))
    assert info == (8, 8, 0, 1_000, True, False)


def test_an_append_is_of_its_batches_and_nothing_else(log: Log) -> None:
    batch = batch_of(1)
    with pytest.raises(BugError):
        log.append(memoryview(batch + b"?"), headers_of(batch), leader_epoch=0, now_ms=1_000)
    assert log.size_bytes == log.log_end_offset == 0


def test_epochs_are_noted_and_go_with_their_batches(log: Log) -> None:
    for epoch in (1, 2, 3):
        append(log, batch_of(5), leader_epoch=epoch)
    assert log.epochs.entries == [(1, 0), (2, 5), (3, 10)]
    log.truncate_to(7, 1_000)
    assert log.epochs.entries == [(1, 0)]
    assert log.log_end_offset == 5


def test_what_a_flush_may_hold_is_not_removed(disk: MemoryDisk) -> None:
    log = of_three(disk)
    log.advance_start(log.log_end_offset)
    log.drop_retired(1_000, log.log_start_offset)
    work = log.begin_flush()
    assert not log.take_deleted(1 << 60)
    log.finish_flush(work)
    assert len(log.take_deleted(1 << 60)) == 8


def test_a_cut_of_whole_segments_is_made_durable(disk: MemoryDisk) -> None:
    disk.has_sync_file_system = False
    log = of_three(disk)
    log.settle()
    flush_now(disk, [log])
    log.truncate_to(log.segments[1].base_offset, 1_000)
    assert len(log.segments) == 1
    assert not log.is_settled
    disk.calls.clear()
    flush_now(disk, [log])
    assert ("sync_directory", log.directory) in disk.calls


def test_housekeeping_forgets_producers_that_are_gone(log: Log) -> None:
    append(log, batch_of(1, producer=(7, 0, 0)))
    last_ms = 1_000 + log.config.producer_id_expiration_ms
    log.retire_old_segments(last_ms - 1, 0)
    assert [each.producer_id for each in log.producers()] == [7]
    log.retire_old_segments(last_ms + 1, 0)
    assert not log.producers()


def test_a_cut_forgets_producers_that_are_gone(log: Log) -> None:
    append(log, batch_of(1, producer=(7, 0, 0)))
    append(log, batch_of(1))
    log.truncate_to(1, 1_000 + log.config.producer_id_expiration_ms + 1)
    assert not log.producers()


def test_what_was_sent_before_a_cut_may_be_sent_again(log: Log) -> None:
    for sequence in range(3):
        append(log, batch_of(1, producer=(7, 0, sequence)))
    log.roll(1_000)
    append(log, batch_of(1, producer=(7, 0, 3)))
    log.truncate_to(3, 1_000)
    for sequence in range(3):
        info = append(log, batch_of(1, producer=(7, 0, sequence)))
        assert (info.first_offset, info.is_duplicate) == (sequence, True)


def test_a_new_log_is_there_after_a_power_cut(disk: MemoryDisk) -> None:
    disk.has_sync_file_system = False
    log = make_log(disk)
    append(log, batch_of(1), leader_epoch=-1)  # an epoch brings a file, and that a sync of its own
    flush_now(disk, [log])
    assert ("sync_directory", log.directory) in disk.calls


def test_a_segment_below_the_log_start_is_retired(disk: MemoryDisk) -> None:
    log = make_log(disk)
    append(log, batch_of(1))
    log.advance_start(1)
    assert not log.has_retired, "the last one stays"
    log.roll(1_000)
    assert log.has_retired


def test_a_roll_that_fails_leaves_no_file(disk: MemoryDisk) -> None:
    log = make_log(disk)
    append(log, batch_of(1))
    before = sorted(path for path in disk.files if path.endswith(".log"))
    disk.fail_at(3)  # the new file was opened and cut; the old index cannot be
    with pytest.raises(OSError, match="planted"):
        log.roll(1_000)
    assert sorted(path for path in disk.files if path.endswith(".log")) == before
    log.roll(1_000)
    assert len(log.segments) == 2
    log.close()
    assert disk.open_count == 0


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_roll_that_fails_keeps_no_descriptor(disk: MemoryDisk, call: int) -> None:
    log = make_log(disk)
    append(log, batch_of(1))
    disk.fail_at(call)
    with pytest.raises(OSError, match="planted"):
        log.roll(1_000)
    log.close()
    assert disk.open_count == 0


def test_what_was_dropped_is_not_flushed(disk: MemoryDisk) -> None:
    log = of_three(disk)
    log.advance_start(log.log_end_offset - 1)
    gone = log.segments[0]
    assert log.drop_retired(1_000, log.log_start_offset) == 2
    log.take_deleted(1 << 60)  # its descriptors are closed
    flush_now(disk, [log])
    assert [path for path in disk.files if path.startswith(gone.stem)] == [
        gone.path + ".deleted",
        *[each.path + ".deleted" for each in (gone.index, gone.time_index)],
    ]


@pytest.mark.parametrize("why", ["is_held", "is_replacing"])
def test_nothing_is_dropped_meanwhile(disk: MemoryDisk, why: str) -> None:
    log = of_three(disk)
    log.advance_start(log.log_end_offset)
    with pytest.raises(BugError):
        log.drop_retired(1_000, log.log_start_offset + 1)
    setattr(log, why, True)
    assert log.drop_retired(1_000, log.log_start_offset) == 0
    setattr(log, why, False)
    assert log.drop_retired(1_000, log.log_start_offset) == 2


@pytest.mark.parametrize("why", ["is_flushing", "is_replacing"])
def test_nothing_is_cut_meanwhile(disk: MemoryDisk, why: str) -> None:
    log = of_three(disk)
    if why == "is_flushing":
        log.begin_flush()
    else:
        log.is_replacing = True
    log.truncate_to(log.log_end_offset, 1_000)
    with pytest.raises(BugError):
        log.truncate_to(log.log_end_offset - 1, 1_000)
    assert len(read_all(log)) == log.log_end_offset


def test_a_flush_closes_the_indexes_of_what_was_rolled(disk: MemoryDisk) -> None:
    log = of_three(disk)
    assert log.segments[0].index.file is not None
    flush_now(disk, [log])
    assert [each.index.file for each in log.segments[:2]] == [None, None]


def test_a_clean_stop_saves_the_producers_once(disk: MemoryDisk) -> None:
    log = make_log(disk)
    path = f"{log.directory}/{file_name(1, SNAPSHOT)}"
    append(log, batch_of(1, producer=(7, 0, 0)))
    log.settle()
    assert log.is_settled
    assert path in disk.files
    index = log.active.index
    assert disk.size(index.path) == index.count * index.entry_bytes
    disk.calls.clear()
    log.settle()
    assert not disk.calls
    append(log, batch_of(1))
    assert not log.is_settled
    log.settle()
    log.name_topic(b"version: 0")
    assert not log.is_settled


def test_a_clean_stop_of_an_empty_log(disk: MemoryDisk) -> None:
    log = make_log(disk)
    log.settle()
    assert not disk.files
    log.close()
    log = Log(disk, log.rng, log.topic_partition, log.directory, log.config)
    log.start_at(100, 1_000)
    log.settle()
    assert list(disk.files) == [f"{log.directory}/{file_name(100, SNAPSHOT)}"]


def test_a_flush_after_a_move_is_of_the_new_directory(disk: MemoryDisk) -> None:
    log = of_three(disk)
    log.name_topic(b"version: 0")
    disk.rename(log.directory, "data/gone")
    log.move("data/gone")
    disk.has_sync_file_system = False
    disk.calls.clear()
    flush_now(disk, [log])
    # What was open is synced, by whatever name; all else has the new one.
    assert all(path.startswith("data/gone") for call, path in disk.calls if call != "sync")


def test_a_log_that_starts_past_all_that_is_left_can_be_flushed(disk: MemoryDisk) -> None:
    log = of_three(disk)
    log.close()
    log = reopen(disk, log_start_offset=100)
    assert disk.open_count <= 3
    append(log, batch_of(1))
    flush_now(disk, [log])
    assert log.flushed_end_offset == 101
    names = {
        path for path in disk.files if path.startswith(log.directory) and file_name(0, "") in path
    }
    assert not names
    log.close()
    assert disk.open_count == 0


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        st.tuples(st.just("roll"), st.none()),
        st.tuples(st.just("truncate"), st.integers(0, 60)),
        st.tuples(st.just("reopen"), st.booleans()),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.integers(1, 500))
def test_a_log_is_a_list(operations: list[tuple[str, object]], max_bytes: int) -> None:
    disk = MemoryDisk()
    log = make_log(disk)
    model: list[tuple[int, bytes]] = []
    clock = 1_000
    for name, argument in operations:
        clock += 7
        if name == "append":
            batches = [batch_of(count, timestamp=clock) for count in argument]  # type: ignore[attr-defined]
            offset = log.log_end_offset
            assert append(log, *batches, now_ms=clock).first_offset == offset
            for each in batches:
                model.append((offset, bytes(each[16:])))
                offset += read_header(each).record_count
        elif name == "roll":
            log.roll(clock)
        elif name == "truncate":
            log.truncate_to(int(argument), clock)  # type: ignore[call-overload]
            while model and _end(model[-1]) > int(argument):  # type: ignore[call-overload]
                model.pop()
        elif name == "flush":
            work = log.begin_flush()
            log.finish_flush(work)
            assert log.flushed_end_offset == log.log_end_offset
        else:
            if argument:
                log.settle()
            log.close()
            log = reopen(disk, is_clean=bool(argument))
        got = read_all(log, max_bytes=max_bytes)
        assert [(read_header(each).base_offset, each[16:]) for each in got] == model
        assert log.log_end_offset == (_end(model[-1]) if model else 0)
    log.close()
    assert disk.open_count == 0


def _end(entry: tuple[int, bytes]) -> int:
    header = read_header(bytes(16) + entry[1])
    return entry[0] + header.record_count

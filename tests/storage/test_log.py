import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.records.batch import read_header
from ottla.storage.log import Log

from .makers import append, batch_of, make_log, read_all, reopen
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

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.records.batch import BatchHeader
from ottla.storage import producer_state
from ottla.storage.log import Log
from ottla.storage.producer_state import ProducerState

from .makers import append, batch_of, headers_of
from .memory_disk import MemoryDisk

LAST = (1 << 31) - 1


def header(producer_id: int, epoch: int, sequence: int, count: int = 1) -> BatchHeader:
    return headers_of(batch_of(count, producer=(producer_id, epoch, sequence)))[0]


def state_of(*headers: BatchHeader) -> ProducerState:
    state, offset = ProducerState(), 0
    for each in headers:
        state.update(each, offset)
        offset += each.record_count
    return state


def code(state: ProducerState, batch: BatchHeader) -> ErrorCode:
    try:
        state.check(batch)
    except KafkaError as error:
        return error.code
    return ErrorCode.NONE


def test_what_may_come_next() -> None:
    state = state_of(header(7, 2, 0, 3), header(7, 2, 3, 2))
    assert code(state, header(7, 2, 5)) == ErrorCode.NONE
    assert code(state, header(7, 2, 6)) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code(state, header(7, 2, 4)) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code(state, header(7, 1, 5)) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert code(state, header(7, 3, 0)) == ErrorCode.NONE
    assert code(state, header(7, 3, 5)) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code(state, header(8, 0, 99)) == ErrorCode.NONE, "a producer that is not known"


def test_sequences_wrap() -> None:
    state = state_of(header(7, 0, LAST - 1, 2))
    assert code(state, header(7, 0, 0)) == ErrorCode.NONE
    state = state_of(header(7, 0, LAST, 3))
    assert code(state, header(7, 0, 2)) == ErrorCode.NONE
    assert state.duplicate_of(header(7, 0, LAST, 3)) is not None


def test_five_batches_are_remembered() -> None:
    batches = [header(7, 0, sequence) for sequence in range(8)]
    state = state_of(*batches)
    found = [state.duplicate_of(batch) for batch in batches]
    assert [each and each.first_offset for each in found] == [None] * 3 + [3, 4, 5, 6, 7]
    assert state.duplicate_of(header(7, 0, 7, 2)) is None, "other sequences are another batch"
    assert state.duplicate_of(header(7, 1, 7)) is None, "and so is another epoch"


def test_duplicates_are_answered_with_the_offset_they_have(log: Log) -> None:
    for sequence in range(0, 12, 2):
        append(log, batch_of(2, producer=(7, 0, sequence)))
    size = log.size_bytes
    info = append(log, batch_of(2, producer=(7, 0, 4)))
    assert (info.is_duplicate, info.first_offset, info.last_offset) == (True, 4, 5)
    assert (log.log_end_offset, log.size_bytes) == (12, size)
    with pytest.raises(KafkaError) as caught:
        append(log, batch_of(2, producer=(7, 0, 0)))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert (log.log_end_offset, log.size_bytes) == (12, size)


def test_the_second_batch_does_not_overtake_a_first_that_found_no_room(
    log: Log, disk: MemoryDisk
) -> None:
    """Found by the simulation (seed 331): a smaller batch behind it did find room."""
    disk.fail_at(1)
    with pytest.raises(OSError, match="planted"):
        append(log, batch_of(5, producer=(7, 0, 0)))
    with pytest.raises(KafkaError) as caught:
        append(log, batch_of(1, producer=(7, 0, 5)))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert append(log, batch_of(5, producer=(7, 0, 0))).first_offset == 0
    assert append(log, batch_of(1, producer=(7, 0, 5))).first_offset == 5
    # one that is not known, perhaps since its records were deleted, goes on where it was
    assert append(log, batch_of(1, producer=(8, 0, 9))).first_offset == 6


def test_batches_of_one_append_follow_each_other(log: Log) -> None:
    append(log, batch_of(2, producer=(7, 0, 0)), batch_of(1, producer=(7, 0, 2)))
    with pytest.raises(KafkaError):
        append(log, batch_of(2, producer=(7, 0, 3)), batch_of(1, producer=(7, 0, 4)))
    assert log.log_end_offset == 3


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, LAST), st.integers(1, 3)),
        max_size=12,
    )
)
def test_a_snapshot_holds_the_last_batch_of_each(batches: list[tuple[int, int, int, int]]) -> None:
    state = state_of(*[header(*each) for each in batches])
    again = ProducerState()
    again.load(state.snapshot(), "x")
    assert len(again) == len(state)
    for producer in state:
        found = again.get(producer.producer_id)
        assert found is not None
        assert list(found.batches) == list(producer.batches)[-1:]
        for name in ("epoch", "last_timestamp", "coordinator_epoch", "transaction_start"):
            assert getattr(found, name) == getattr(producer, name)


def test_the_snapshots_bytes() -> None:
    data = state_of(header(7, 2, 10, 3)).snapshot()
    assert len(data) == 10 + 46
    assert data[:2] == b"\0\1"
    assert data[6:10] == b"\0\0\0\1"
    entry = data[10:]
    expected = (7).to_bytes(8) + (2).to_bytes(2) + (12).to_bytes(4) + (2).to_bytes(8)
    expected += (2).to_bytes(4) + (1_002).to_bytes(8) + b"\xff" * 4 + b"\xff" * 8
    assert entry == expected


def test_a_snapshot_that_is_not_whole() -> None:
    data = state_of(header(7, 0, 0), header(8, 0, 0)).snapshot()
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            ProducerState().load(data[:length], "x")
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(CorruptionError):
            ProducerState().load(bytes(damaged), "x")


def test_idle_producers_expire() -> None:
    state = state_of(header(7, 0, 0), header(8, 0, 0))
    assert state.expire(1_000 + 99, 100) == 0
    assert state.expire(1_000 + 100, 100) == 2
    assert len(state) == 0


def test_the_longest_idle_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "PRODUCERS_PER_PARTITION", 3)
    batches = [header(producer_id, 0, 0) for producer_id in (1, 2, 3)]
    state = state_of(*batches, header(1, 0, 1), header(4, 0, 0))
    assert [producer.producer_id for producer in state] == [3, 1, 4]

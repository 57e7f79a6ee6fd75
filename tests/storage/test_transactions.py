"""Transactions in one log: markers, what they abort, and all of it again after a start."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import PRODUCERS_PER_PARTITION
from ottla.records.builder import build_batch
from ottla.records.control import Marker, build_marker
from ottla.records.record import Record
from ottla.storage import producer_state
from ottla.storage.flusher import flush_now
from ottla.storage.log import AppendInfo, Log
from ottla.storage.names import TRANSACTION_INDEX
from ottla.storage.open_transactions import NONE_OPEN, OpenTransactions
from ottla.storage.transaction_index import ENTRY, ENTRY_BYTES, AbortedTransaction

from .makers import DIRECTORY, append, make_log, reopen
from .memory_disk import MemoryDisk


def data(log: Log, producer_id: int, sequence: int, *, epoch: int = 0, **options: Any) -> int:
    batch = build_batch(
        [Record(0, 1_000, b"k", b"v" * 20)],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=options.get("transactional", True),
    )
    return append(log, batch).first_offset


def end(
    log: Log,
    producer_id: int,
    *,
    commit: bool = False,
    epoch: int = 0,
    coordinator: int = 0,
    is_bumped: bool = False,
) -> AppendInfo:
    marker = Marker(commit, coordinator)
    batch = build_marker(marker, producer_id=producer_id, producer_epoch=epoch, timestamp=1_000)
    return log.append_marker(batch, marker, is_bumped=is_bumped, leader_epoch=0, now_ms=1_000)


def refusal(call: Any, *arguments: Any, **options: Any) -> int:
    with pytest.raises(KafkaError) as caught:
        call(*arguments, **options)
    return caught.value.code


def aborted(log: Log) -> list[tuple[int, int, int, int]]:
    return [tuple(each) for each in log.aborted_transactions(0, log.log_end_offset)]


def books(log: Log) -> Any:
    state = log.producer_state
    return (
        state.transactions.first_open,
        aborted(log),
        [
            (each.producer_id, each.epoch, each.transaction_start, each.coordinator_epoch)
            for each in sorted(state, key=lambda each: each.producer_id)
        ],
    )


def test_the_oldest_open_transaction_is_the_first_unstable_offset() -> None:
    log = make_log(MemoryDisk())
    assert log.first_unstable_offset == 0
    data(log, 1, 0)
    data(log, 2, 0)
    data(log, 1, 1)
    assert log.first_unstable_offset == 0
    end(log, 1, commit=True)
    assert log.first_unstable_offset == 1
    assert end(log, 2).first_offset == 4
    assert log.first_unstable_offset == log.log_end_offset == 5
    assert aborted(log) == [(2, 1, 4, 5)]


def test_an_abort_knows_what_is_still_open() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0)
    data(log, 2, 0)
    data(log, 3, 0)
    end(log, 3)
    end(log, 1)
    assert aborted(log) == [(3, 2, 3, 0), (1, 0, 4, 1)]


def test_a_marker_without_a_transaction_aborts_nothing() -> None:
    log = make_log(MemoryDisk())
    end(log, 1)
    assert aborted(log) == []
    assert log.log_end_offset == 1


def test_a_plain_batch_in_a_transaction_is_refused() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0)
    code = refusal(data, log, 1, 1, transactional=False)
    assert code == ErrorCode.INVALID_TXN_STATE
    end(log, 1)
    data(log, 1, 1, transactional=False)


def test_sequences_go_on_over_transactions_and_start_anew_with_an_epoch() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0)
    end(log, 1, commit=True)
    data(log, 1, 1)
    end(log, 1, commit=True, epoch=1)
    assert refusal(data, log, 1, 2) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert refusal(data, log, 1, 2, epoch=1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    data(log, 1, 0, epoch=1)


def test_markers_of_the_past_are_refused() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0, epoch=5)
    assert refusal(end, log, 1, epoch=4) == ErrorCode.INVALID_PRODUCER_EPOCH
    end(log, 1, epoch=5, coordinator=3)
    data(log, 1, 1, epoch=5)
    code = refusal(end, log, 1, epoch=5, coordinator=2)
    assert code == ErrorCode.TRANSACTION_COORDINATOR_FENCED
    assert log.first_unstable_offset == 2


def test_a_closed_log_holds_no_transaction_index_open(disk: MemoryDisk) -> None:
    log = make_log(disk)
    data(log, 1, 0)
    end(log, 1)
    log.close()
    assert disk.open_count == 0


def test_a_late_marker_of_the_second_protocol_does_not_end_what_began_since() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0, epoch=0)
    end(log, 1, epoch=1, commit=True, is_bumped=True)
    size = log.log_end_offset
    again = end(log, 1, epoch=1, commit=True, is_bumped=True)
    assert again == (size - 1, size - 1, 0, 1_000, True, False)
    assert log.log_end_offset == size
    data(log, 1, 0, epoch=1)
    code = refusal(end, log, 1, epoch=1, commit=True, is_bumped=True)
    assert code == ErrorCode.INVALID_PRODUCER_EPOCH
    assert log.first_unstable_offset == size


def test_a_coordinators_batches_have_no_sequence_and_are_no_duplicates() -> None:
    log = make_log(MemoryDisk())
    assert data(log, 1, -1) == 0
    assert data(log, 1, -1) == 1


def test_a_producer_with_an_open_transaction_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert PRODUCERS_PER_PARTITION > 3
    monkeypatch.setattr(producer_state, "PRODUCERS_PER_PARTITION", 3)
    log = make_log(MemoryDisk())
    data(log, 1, 0)
    for producer_id in range(2, 8):
        data(log, producer_id, 0, transactional=False)
    log.producer_state.expire(1 << 60, 1)
    assert [each.producer_id for each in log.producer_state] == [1]


def test_a_disk_that_refuses_a_marker_changes_nothing() -> None:
    for call in range(1, 4):
        disk = MemoryDisk()
        log = make_log(disk)
        data(log, 1, 0)
        before = books(log)
        disk.fail_at(call)
        try:
            end(log, 1)
        except OSError:
            assert books(log) == before
            end(log, 1)
        assert aborted(log) == [(1, 0, 1, 2)]


def scenario(log: Log, rng: random.Random, count: int = 60) -> None:
    sequences: dict[int, int] = {}
    epochs: dict[int, int] = {}
    for _ in range(count):
        producer_id = rng.randrange(4)
        epoch = epochs.setdefault(producer_id, 0)
        if rng.random() < 0.6:
            sequence = sequences.get(producer_id, 0)
            data(log, producer_id, sequence, epoch=epoch)
            sequences[producer_id] = sequence + 1
        elif rng.random() < 0.5:
            end(log, producer_id, epoch=epoch, commit=rng.random() < 0.4)
        else:
            end(log, producer_id, epoch=epoch + 1, commit=rng.random() < 0.4, is_bumped=True)
            epochs[producer_id], sequences[producer_id] = epoch + 1, 0


@pytest.mark.parametrize("lost", ["nothing", "snapshots", "indexes", "both"])
@pytest.mark.parametrize("is_clean", [True, False])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 16))
def test_a_start_finds_what_was(lost: str, is_clean: bool, seed: int) -> None:
    """From the log alone, where snapshots and transaction indexes are lost. After a clean stop an
    index that is missing while a snapshot is there is not missed: `ottla log verify` finds it."""
    if is_clean and lost == "indexes":
        return
    disk = MemoryDisk()
    log = make_log(disk)
    scenario(log, random.Random(seed))
    before = books(log)
    if is_clean:
        log.settle()
    log.close()
    for name in disk.list_directory(DIRECTORY):
        is_lost = (name.endswith(".snapshot") and lost in ("snapshots", "both")) or (
            name.endswith(".txnindex") and lost in ("indexes", "both")
        )
        if is_lost:
            disk.remove(f"{DIRECTORY}/{name}")
    point = log.log_end_offset if is_clean else 0
    again = reopen(disk, is_clean=is_clean, recovery_point=point)
    assert books(again) == before


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 16), cut=st.integers(0, 60))
def test_a_cut_goes_back_to_what_was_then(seed: int, cut: int) -> None:
    whole, part = make_log(MemoryDisk()), make_log(MemoryDisk())
    scenario(whole, random.Random(seed))
    scenario(part, random.Random(seed), count=cut)
    whole.truncate_to(part.log_end_offset, 1_000)
    assert books(whole)[:2] == books(part)[:2]


def test_a_flush_covers_the_transaction_index() -> None:
    log = make_log(MemoryDisk())
    data(log, 1, 0)
    log.finish_flush(log.begin_flush())
    end(log, 1)
    work = log.begin_flush()
    assert any(file.path.endswith(".txnindex") for file in work.files)
    assert work.directories
    log.finish_flush(work)
    assert not any(file.path.endswith(".txnindex") for file in log.begin_flush().files)


def test_what_ended_holds_readers_until_its_marker_is_safe() -> None:
    transactions = OpenTransactions()
    transactions.begin(1, 10)
    transactions.begin(2, 20)
    transactions.end(1, 30)
    assert (transactions.first_open, transactions.first_unstable) == (20, 10)
    transactions.settle(30)
    assert transactions.first_unstable == 10
    transactions.settle(31)
    assert transactions.first_unstable == 20
    transactions.end(2, 40)
    transactions.settle(41)
    assert transactions.first_unstable == transactions.first_open == NONE_OPEN


def test_no_damaged_transaction_index_is_believed_after_a_clean_stop() -> None:
    disk = MemoryDisk()
    log = make_log(disk)
    rng = random.Random(5)
    begun = []
    for turn in range(7):  # transactions that lie within each other, over several segments
        for producer_id in rng.sample((1, 2, 3), 3):
            begun.append((producer_id, data(log, producer_id, turn)))
        for producer_id in rng.sample((1, 2, 3), 2):
            end(log, producer_id, commit=rng.random() < 0.4)
    log.settle()
    flush_now(disk, [log])
    log.close()

    def told(log: Log) -> list[object]:
        windows = [(start, start + size) for start in range(0, 60, 3) for size in (1, 5, 60)]
        found = [log.aborted_transactions(*window) for window in windows]
        return [[each[:3] for each in transactions] for transactions in found]

    truth = told(log)
    assert len(aborted(log)) > 4
    paths = [path for path in disk.files if path.endswith(TRANSACTION_INDEX)]
    assert len(paths) > 2
    for path in paths:
        written = bytes(disk.files[path])
        for position in range(len(written)):
            for bit in range(8):
                damaged = disk.copy()
                damaged.files[path][position] ^= 1 << bit
                at, field = divmod(position, ENTRY_BYTES)
                fields = ENTRY.unpack_from(damaged.files[path], at * ENTRY_BYTES)
                entry = AbortedTransaction(*fields[1:])
                if 10 <= field < 18 and entry[:2] in begun:
                    continue  # another batch of that producer: `ottla log verify` finds it
                assert told(reopen(damaged, is_clean=True)) == truth, (path, position, bit)
        for size in range(len(written)):
            damaged = disk.copy()
            damaged.files[path][size:] = bytes(len(written) - size)
            again = reopen(damaged, is_clean=True)
            assert told(again) == truth, (path, size)
            assert size or not again.is_settled, "the next stop makes it durable"

"""One shard: the order of answers, what waits for the log, loading, and loading again."""

import asyncio
import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.machine import Outcome
from ottla.coordinator.shard import RETRY_MS, State
from ottla.records.builder import build_batch
from ottla.records.control import Marker, build_marker
from ottla.records.record import Record
from ottla.replica.partition import Partition
from ottla.sim.loop import SimLoop
from tests.coordinator.places import FLUSH_S, Asked, Place, on_loop


class Sums:
    """A machine that keeps numbers by name. A record is (name, number or None)."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.numbers: dict[str, int] = {}
        self.kept: list[Any] = []
        self.pending: dict[int, list[Any]] = {}
        self.is_loaded = False

    def encode(self, record: tuple[str, int | None]) -> tuple[bytes, bytes | None]:
        name, number = record
        return name.encode(), None if number is None else b"%d" % number

    def decode(self, key: bytes, value: bytes | None) -> tuple[str, int | None] | None:
        if key.startswith(b"?"):
            return None
        return key.decode(), None if value is None else int(value)

    def replay(self, record: tuple[str, int | None]) -> None:
        name, number = record
        if number is None:
            self.numbers.pop(name, None)
        else:
            self.numbers[name] = number

    def replay_pending(self, record: tuple[str, int | None], producer_id: int) -> None:
        self.pending.setdefault(producer_id, []).append(record)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        for record in self.pending.pop(producer_id, []):
            if committed:
                self.replay(record)

    def loaded(self, now_ms: int) -> None:
        self.is_loaded = True

    def closed(self, code: ErrorCode) -> None:
        for pending in self.kept:
            pending.fail(code)


def put(name: str, number: int | None) -> Any:
    return lambda machine, now_ms: Outcome([(name, number)], f"{name}={number}")


def read(machine: Sums, now_ms: int) -> Outcome:
    return Outcome(response=dict(machine.numbers))


def refuse(machine: Sums, now_ms: int) -> Outcome:
    raise KafkaError(ErrorCode.INVALID_REQUEST)


def ask(shard: Any, operation: Any) -> Asked:
    pending = Asked(shard._loop)
    shard.perform(operation, pending)
    return pending


async def until_active(shard: Any) -> None:
    while shard.state is State.LOADING:
        await asyncio.sleep(0)


def test_an_answer_waits_until_what_it_wrote_is_flushed() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        began = loop.time()
        pending = ask(shard, put("a", 1))
        assert shard.machine.numbers == {"a": 1}
        assert pending.response is None
        assert await pending.future == "a=1"
        assert loop.time() - began > FLUSH_S / 2
        assert place.partition.high_watermark == 1

    on_loop(test)


def test_a_read_waits_for_what_it_saw_and_refusals_keep_their_turn() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        assert ask(shard, read).response == {}
        told: list[Any] = []
        for operation in (put("a", 1), read, refuse, put("b", 2), read):
            pending = ask(shard, operation)
            pending.on_complete = told.append
        await asyncio.sleep(FLUSH_S / 2)
        late = ask(shard, read)
        late.on_complete = told.append
        assert told == []
        await late.future
        both = {"a": 1, "b": 2}
        code = ErrorCode.INVALID_REQUEST
        assert told == ["a=1", {"a": 1}, code, "b=2", both, both]

    on_loop(test)


def test_a_refusal_that_waits_keeps_nothing_of_its_request() -> None:
    """An error has the frames it came through: they view what the connection received."""

    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        received = bytearray(b"request")

        def handle(view: memoryview) -> Asked:
            ask(shard, put("a", 1))
            return ask(shard, refuse)

        pending = handle(memoryview(received))
        received.append(0)
        assert await pending.future == ErrorCode.INVALID_REQUEST

    on_loop(test)


def test_one_turn_is_one_batch() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        last = [ask(shard, put(f"n{number}", number)) for number in range(50)][-1]
        await last.future
        writes = [call for call in place.disk.calls if call[0] == "pwrite"]
        assert len(writes) == 1
        assert place.log.log_end_offset == 50

    on_loop(test)


MANY = [(f"name-{number}" * 5, number) for number in range(20)]
"""More than a batch of 400 bytes takes."""


def test_what_is_divisible_goes_in_several_batches() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop, max_message_bytes="400")
        shard = place.shard(Sums)
        pending = ask(shard, lambda machine, now: Outcome(MANY, "done", is_divisible=True))
        assert await pending.future == "done"
        again = place.shard(Sums)
        await until_active(again)
        assert again.machine.numbers == dict(MANY)

    on_loop(test)


def test_what_does_not_fit_one_batch_changes_nothing(caplog: Any) -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop, max_message_bytes="400")
        shard = place.shard(Sums)
        did: list[int] = []

        def much(machine: Sums, now_ms: int) -> Outcome:
            return Outcome(MANY, "done", effects=[lambda: did.append(1)])

        large = [("x" * 400, 1)]
        assert ask(shard, much).response == ErrorCode.RECORD_LIST_TOO_LARGE
        too_large = ask(shard, lambda machine, now: Outcome(large, "done", is_divisible=True))
        assert too_large.response == ErrorCode.MESSAGE_TOO_LARGE
        shard.schedule("k", 0, much)
        await asyncio.sleep(0.01)
        assert shard.state is State.ACTIVE
        assert (shard.machine.numbers, did, place.log.log_end_offset) == ({}, [], 0)

    on_loop(test)
    assert "much was refused: 20 records" in caplog.text


@pytest.mark.parametrize("failing", range(1, 7))
def test_the_log_has_all_of_an_operation_or_nothing(failing: int) -> None:
    """Five operations of four records; a batch takes two of them, and one cannot be written."""

    async def test(loop: SimLoop) -> None:
        place = Place(loop, max_message_bytes="400")
        shard = place.shard(Sums)
        place.disk.fail_at(failing)
        asked = []
        for number in range(5):
            rows = [(f"{number}-{letter}", number) for letter in "abcd"]
            asked.append(ask(shard, lambda machine, now, rows=rows: Outcome(rows, "done")))
        answers = [await pending.future for pending in asked]
        await until_active(shard)
        kept = [name[0] for name in shard.machine.numbers]
        count = len(kept) // 4
        assert count == 5 if answers == ["done"] * 5 else count in (0, 2, 4)
        assert kept == [str(number) for number in range(count) for _ in "abcd"]

    on_loop(test)


def test_a_shard_is_what_its_log_says() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        for number in range(2_000):
            pending = ask(shard, put(f"n{number % 700}", number if number % 3 else None))
        await pending.future
        again = place.shard(Sums)
        assert again.state is State.LOADING
        refused = ask(again, read)
        assert refused.response == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await until_active(again)
        assert again.machine.is_loaded
        assert again.machine.numbers == shard.machine.numbers

    on_loop(test)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)),
            st.sampled_from(["turn", "flush", "fail", "load"]),
        ),
        max_size=40,
    )
)
def test_whatever_happens_memory_is_what_the_log_says(steps: list[Any]) -> None:
    """And every request has one answer, and what was answered well stays."""

    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        asked: list[Asked] = []
        kept: dict[str, Any] = {}
        for step in steps:
            if step == "turn":
                await asyncio.sleep(0)
            elif step == "flush":
                await asyncio.sleep(2 * FLUSH_S)
            elif step == "fail":
                place.disk.fail_at(1)
                asked.append(ask(shard, put("lost", 1)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                place.disk.fail_at(0)
                await until_active(shard)
            elif step == "load":
                await asyncio.sleep(2 * FLUSH_S)
                shard.close()
                shard = place.shard(Sums)
                await until_active(shard)
            else:
                name, number = step
                pending = ask(shard, put(name, number))
                pending.on_complete = lambda answer, n=name, v=number: (
                    kept.update({n: v}) if isinstance(answer, str) else None
                )
                asked.append(pending)
        await asyncio.sleep(3 * FLUSH_S)
        assert all(pending.future.done() for pending in asked)
        again = place.shard(Sums)
        await until_active(again)
        assert again.machine.numbers == shard.machine.numbers
        lost = {name: value for name, value in kept.items() if value is not None}
        assert lost.items() <= {**again.machine.numbers}.items() or any(
            isinstance(pending.response, ErrorCode) for pending in asked
        )

    on_loop(test)


def test_an_append_that_fails_is_told_and_forgotten() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        assert await ask(shard, put("a", 1)).future == "a=1"
        waiting = Asked(loop)
        shard.machine.kept.append(waiting)
        place.disk.fail_at(1)
        lost = [ask(shard, put("a", 2)), ask(shard, read)]
        assert shard.machine.numbers == {"a": 2}
        for pending in lost:
            assert await pending.future == ErrorCode.KAFKA_STORAGE_ERROR
        assert waiting.response == ErrorCode.KAFKA_STORAGE_ERROR
        await until_active(shard)
        assert shard.machine.numbers == {"a": 1}
        assert await ask(shard, put("a", 3)).future == "a=3"

    on_loop(test)


def test_what_was_appended_before_a_failure_is_answered_all_the_same() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        place.flushing.is_held = True
        early = ask(shard, put("a", 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        place.disk.fail_at(1)
        late = ask(shard, put("a", 2))
        assert await late.future == ErrorCode.KAFKA_STORAGE_ERROR
        assert early.response is None
        await until_active(shard)
        place.flushing.flush()
        assert early.response == "a=1"
        assert shard.machine.numbers == {"a": 1}

    on_loop(test)


def test_after_loading_nothing_is_told_that_is_not_flushed() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        place.flushing.is_held = True
        first = place.shard(Sums)
        ask(first, put("a", 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        again = place.shard(Sums)
        await until_active(again)
        pending = ask(again, read)
        assert pending.response is None
        place.flushing.flush()
        assert pending.response == {"a": 1}

    on_loop(test)


def test_a_commit_that_takes_too_long_is_told_so() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        place.flushing.is_held = True
        pending = ask(shard, put("a", 1))
        assert await pending.future == ErrorCode.REQUEST_TIMED_OUT
        place.flushing.flush()
        assert shard.machine.numbers == {"a": 1}
        assert ask(shard, read).response == {"a": 1}

    on_loop(test)


def test_a_partition_that_goes_takes_its_shard_with_it() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        waiting = Asked(loop)
        shard.machine.kept.append(waiting)
        place.flushing.is_held = True
        pending = ask(shard, put("a", 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        place.partition.close(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        assert pending.response == waiting.response == ErrorCode.NOT_COORDINATOR
        assert ask(shard, read).response == ErrorCode.NOT_COORDINATOR
        assert shard.state is State.CLOSED

    on_loop(test)


def test_a_partition_that_went_unnoticed_is_found_out() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        pending = ask(shard, put("a", 1))
        place.partition.close(ErrorCode.KAFKA_STORAGE_ERROR)
        place.disk.fail_at(1, for_good=True)
        assert await pending.future == ErrorCode.KAFKA_STORAGE_ERROR
        assert ask(shard, read).response == ErrorCode.NOT_COORDINATOR

    on_loop(test)


def test_a_machine_that_has_work_at_once_does_not_go_round_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = 0

    class Busy(Sums):
        def loaded(self, now_ms: int) -> None:
            nonlocal loads
            loads += 1
            super().loaded(now_ms)
            self.host.schedule("work", 0, put("a", 2))

    def full(partition: Partition, *known: object, **others: object) -> None:
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "ENOSPC")

    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Busy)
        assert await ask(shard, put("a", 1)).future == "a=1"
        before = loads
        monkeypatch.setattr(Partition, "append_own", full)
        assert await ask(shard, put("a", 3)).future == ErrorCode.KAFKA_STORAGE_ERROR
        await asyncio.sleep(5)
        assert before < loads <= before + 5_000 / RETRY_MS + 1
        monkeypatch.undo()
        await asyncio.sleep(1)
        assert shard.machine.numbers == {"a": 2}
        assert await ask(shard, put("b", 1)).future == "b=1"

    on_loop(test)


def test_timers_perform_operations_and_end_with_their_machine() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        shard.schedule("k", 1_000, put("a", 1))
        shard.schedule("k", 2_000, put("a", 2))
        await asyncio.sleep(1.5)
        assert shard.machine.numbers == {}
        await asyncio.sleep(1)
        assert shard.machine.numbers == {"a": 2}
        shard.schedule("k", 2_000, put("a", 3))
        shard.schedule("k", 500, put("a", 4))
        await asyncio.sleep(0.6)
        assert shard.machine.numbers == {"a": 4}
        shard.schedule("k", 500, put("a", 5))
        shard.cancel("k")
        shard.schedule("other", 500, put("a", 6))
        shard.close()
        await asyncio.sleep(1)
        assert shard.machine.numbers == {"a": 4}

    on_loop(test)


def test_an_operation_that_breaks_costs_the_memory_and_nothing_else() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        await ask(shard, put("a", 1)).future

        def broken(machine: Sums, now_ms: int) -> Outcome:
            machine.numbers["a"] = 99
            raise ZeroDivisionError

        try:
            shard.perform(broken)
        except ZeroDivisionError:
            await until_active(shard)
        assert shard.machine.numbers == {"a": 1}

    on_loop(test)


def test_records_of_unknown_kinds_are_passed_over(caplog: Any) -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        first = place.shard(Sums)
        ask(first, put("?1", 1))
        ask(first, put("?2", 1))
        await ask(first, put("a", 1)).future
        again = place.shard(Sums)
        await until_active(again)
        assert again.machine.numbers == {"a": 1}

    on_loop(test)
    assert [row.getMessage().split(": ")[1] for row in caplog.records] == [
        "2 records of unknown kinds passed over"
    ]


def test_records_of_a_transaction_count_when_it_is_committed() -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)

        def write(name: str, producer: int) -> None:
            record = Record(0, 1_000, name.encode(), b"1")
            batch = build_batch(
                [record],
                producer_id=producer,
                producer_epoch=0,
                base_sequence=0,
                transactional=True,
            )
            place.partition.append_own(batch, 1_000)

        def end(producer: int, committed: bool) -> None:
            marker = build_marker(
                Marker(committed, 0), producer_id=producer, producer_epoch=0, timestamp=1_000
            )
            place.partition.append_own(marker, 1_000)

        write("kept", 1)
        write("aborted", 2)
        write("open", 3)
        end(2, False)
        end(1, True)
        shard = place.shard(Sums)
        await until_active(shard)
        assert shard.machine.numbers == {"kept": 1}

    on_loop(test)


def test_a_damaged_log_is_not_served(caplog: Any) -> None:
    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        first = place.shard(Sums)
        await ask(first, put("a", 1)).future
        ((path, data),) = [row for row in place.disk.files.items() if row[0].endswith(".log")]
        data[-3] ^= 0xFF
        again = place.shard(Sums)
        await until_active(again)
        assert again.state is State.CLOSED
        assert ask(again, read).response == ErrorCode.NOT_COORDINATOR
        assert path in caplog.text

    on_loop(test)


def test_a_full_disk_refuses_and_goes_on() -> None:
    assert errno.ENOSPC  # the disk in memory fails a torn write with it

    async def test(loop: SimLoop) -> None:
        place = Place(loop)
        shard = place.shard(Sums)
        await ask(shard, put("a", 1)).future
        for number in range(3):
            place.disk.fail_at(1)
            assert await ask(shard, put("a", number)).future == ErrorCode.KAFKA_STORAGE_ERROR
            await until_active(shard)
            assert ask(shard, read).response == {"a": 1}

    on_loop(test)

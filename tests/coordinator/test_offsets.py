"""How far groups have read: who may commit, what is found again, what expires."""

import asyncio
from typing import Any

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.coordinator.group import machine as machine_module
from ottla.coordinator.group.classic import COMPLETING_REBALANCE
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.records import OffsetKey, OffsetRecord, OffsetValue
from ottla.coordinator.machine import Outcome
from ottla.records.control import Marker
from ottla.sim.loop import SimLoop
from tests.coordinator.places import Asked, GroupPlace, on_loop

NOW: Any = {"group_initial_rebalance_delay_ms": "0"}
DAY_S = 86_400.0
T = Uuid(bytes(15) + b"t")
"""The id of every topic, where a test does not say."""


async def restarted(place: GroupPlace, **options: str) -> GroupPlace:
    place.shard.close()
    again = GroupPlace(place.loop, place.place, **options)
    while again.shard.refusal:
        await asyncio.sleep(0)
    return again


async def code(place: GroupPlace, pending: Any) -> int:
    """The error code of a partition, or of the whole."""
    answer = await place.answer(pending)
    return answer if isinstance(answer, ErrorCode) else answer.error_code


def subscription(*topics: str) -> bytes:
    body = b"".join(len(each).to_bytes(2, "big") + each.encode() for each in topics)
    return b"\0\1" + len(topics).to_bytes(4, "big") + body + b"\xff\xff\xff\xff"


def test_what_was_committed_is_found_again() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        assert place.committed() is None
        assert await code(place, place.commit(5)) == 0
        assert await code(place, place.commit(9, partition=1, metadata="far")) == 0
        assert await code(place, place.commit(7)) == 0
        assert (place.committed(), place.committed(partition=1)) == (7, 9)
        again = await restarted(place)
        assert (again.committed(), again.committed(partition=1)) == (7, 9)
        assert again.machine.offsets.topics("g") == {"t": [0, 1]}
        assert again.group().protocol_type is None

    on_loop(test)


def test_only_members_commit_for_a_group_that_has_some() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (member,) = await place.stable()
        stranger = place.commit(1)
        assert await code(place, stranger) == ErrorCode.UNKNOWN_MEMBER_ID
        named = place.commit(1, member_id=member)
        assert await code(place, named) == ErrorCode.ILLEGAL_GENERATION
        old = place.commit(1, member_id=member, generation=0)
        assert await code(place, old) == ErrorCode.ILLEGAL_GENERATION
        fenced = place.commit(1, member_id=member, generation=1, instance="i")
        assert await code(place, fenced) == ErrorCode.UNKNOWN_MEMBER_ID
        assert place.committed() is None
        assert await code(place, place.commit(1, member_id=member, generation=1)) == 0
        await place.answer(place.join(member))
        assert place.group().state is COMPLETING_REBALANCE
        early = place.commit(2, member_id=member, generation=2)
        assert await code(place, early) == ErrorCode.REBALANCE_IN_PROGRESS
        place.join(await place.member())
        late = place.commit(3, member_id=member, generation=2)
        assert await code(place, late) == 0
        assert place.committed() == 3

    on_loop(test)


@pytest.mark.parametrize(("length", "expected"), [(10, 0), (11, 12)])
def test_metadata_has_a_bound(length: int, expected: int) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, offset_metadata_max_bytes="10")
        assert await code(place, place.commit(1, metadata="m" * length)) == expected
        assert place.committed() == (None if expected else 1)

    on_loop(test)


def test_an_offset_of_a_former_topic_is_not_told_of_the_new_one() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        await code(place, place.commit(5))
        same: Any = bytes(15) + b"t"
        other: Any = bytes(15) + b"u"
        fetch = place.machine.offsets.fetch
        assert fetch("g", "t", same, [0])[0][1] is not None
        assert fetch("g", "t", other, [0])[0][1] is None

    on_loop(test)


def test_offsets_are_deleted_unless_they_are_read() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        for topic in ("read", "left"):
            await code(place, place.commit(5, topic=topic))
        await place.stable(protocols=(("range", subscription("read")),))

        def delete(topic: str) -> Any:
            def operation(machine: Any, now_ms: int) -> Outcome:
                group = machine.offsets.deletable("g")
                return Outcome(machine.offsets.delete(group, topic, 0), "done")

            return place.perform(operation)

        answer = await place.answer(delete("read"))
        assert answer == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        assert await place.answer(delete("left")) == "done"
        assert await place.answer(delete("left")) == "done"
        assert (place.committed(topic="read"), place.committed(topic="left")) == (5, None)
        again = await restarted(place)
        assert again.committed(topic="left") is None

    on_loop(test)


def test_a_group_with_members_that_are_no_consumers_keeps_its_offsets() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        await place.stable(protocol_type="connect")
        with pytest.raises(KafkaError) as caught:
            place.machine.offsets.deletable("g")
        assert caught.value.code == ErrorCode.NON_EMPTY_GROUP
        with pytest.raises(KafkaError) as caught:
            place.machine.offsets.deletable("nobody")
        assert caught.value.code == ErrorCode.GROUP_ID_NOT_FOUND

    on_loop(test)


def test_a_deleted_group_is_gone_after_a_restart_too() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)

        def delete(group: str = "g") -> Any:
            return place.perform(lambda m, now: Outcome(m.admin.delete(group), "done"))

        assert await place.answer(delete()) == ErrorCode.GROUP_ID_NOT_FOUND
        (member,) = await place.stable(session_ms=6_000)
        await code(place, place.commit(1, member_id=member, generation=1))
        assert await place.answer(delete()) == ErrorCode.NON_EMPTY_GROUP
        await asyncio.sleep(7)
        await code(place, place.commit(1, group="simple"))
        assert await place.answer(delete()) == "done"
        assert await place.answer(delete("simple")) == "done"
        await place.member(group="soft")
        assert await place.answer(delete("soft")) == "done"
        assert place.machine.groups.ids() == []
        assert (place.budget.members, place.budget.bytes) == (0, 0)
        again = await restarted(place)
        assert again.machine.groups.ids() == []

    on_loop(test)


def test_groups_are_described_and_listed() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids = await place.stable(2)
        await code(place, place.commit(1, group="simple"))
        await place.member(group="joining")
        admin = place.machine.admin
        row = admin.describe("g", 6)
        assert (row.group_state, row.protocol_type, row.protocol_data) == (
            "Stable",
            "consumer",
            "range",
        )
        assert sorted(each.member_id for each in row.members) == sorted(ids)
        assert row.members[0].client_host == "/127.0.0.1"
        assert row.members[0].member_metadata == b"topics"
        assert row.members[0].member_assignment == b"share of " + row.members[0].member_id.encode()
        place.join(ids[0])
        row = admin.describe("g", 6)
        assert (row.group_state, row.protocol_data) == ("PreparingRebalance", "")
        assert {each.member_metadata for each in row.members} == {b""}
        assert admin.describe("simple", 6).group_state == "Empty"
        old, new = admin.describe("nobody", 5), admin.describe("nobody", 6)
        assert (old.group_state, old.error_code, old.error_message) == ("Dead", 0, None)
        assert (new.group_state, new.error_code) == ("Dead", ErrorCode.GROUP_ID_NOT_FOUND)
        assert new.error_message

        def names(states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
            return sorted(row.group_id for row in admin.listed(states, types))

        assert names() == ["g", "joining", "simple"]
        assert names(states=("empty",)) == ["joining", "simple"]
        assert names(states=("preparingrebalance", "dead")) == ["g"]
        assert names(types=("classic", "share")) == ["g", "joining", "simple"]
        assert names(types=("consumer",)) == names(states=("nonsense",)) == []

    on_loop(test)


# --- expiry


def expiring(minutes: int = 60, **options: str) -> dict[str, str]:
    return {
        "offsets_retention_minutes": str(minutes),
        "offsets_retention_check_interval_ms": "60000",
        **NOW,
        **options,
    }


def test_a_simple_groups_offsets_expire_from_their_commit() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        await code(place, place.commit(1))
        await asyncio.sleep(1_800)
        await code(place, place.commit(1, partition=1))
        await asyncio.sleep(1_900)
        assert (place.committed(), place.committed(partition=1)) == (None, 1)
        await asyncio.sleep(1_800)
        assert place.machine.groups.ids() == []
        again = await restarted(place)
        assert again.machine.groups.ids() == []

    on_loop(test)


def test_a_groups_offsets_expire_from_when_it_became_empty() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        (member,) = await place.stable(protocols=(("range", subscription("t")),))
        await code(place, place.commit(1, member_id=member, generation=1))
        for _ in range(600):
            await asyncio.sleep(9)
            await place.answer(place.heartbeat(member, 1))
        assert place.committed() == 1
        await asyncio.sleep(3_500)
        assert place.committed() == 1
        await asyncio.sleep(200)
        assert place.committed() is None
        assert place.group() is None

    on_loop(test)


def test_what_no_member_reads_expires_while_they_live() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        for topic in ("read", "left"):
            await code(place, place.commit(1, topic=topic))
        (member,) = await place.stable(protocols=(("range", subscription("read")),))
        for _ in range(420):
            await asyncio.sleep(9)
            await place.answer(place.heartbeat(member, 1))
        assert (place.committed(topic="read"), place.committed(topic="left")) == (1, None)

    on_loop(test)


def test_nothing_expires_of_members_that_cannot_be_understood() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        await code(place, place.commit(1))
        (member,) = await place.stable(protocols=(("range", b"\0\1\x7f\xff\xff\xff"),))
        for _ in range(420):
            await asyncio.sleep(9)
            await place.answer(place.heartbeat(member, 1))
        assert place.committed() == 1

    on_loop(test)


def test_a_commit_with_a_time_of_its_own_keeps_that() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        await code(place, place.commit(1, retention_ms=600_000))
        await code(place, place.commit(1, partition=1, retention_ms=36_000_000))
        again = await restarted(place, **expiring())
        await asyncio.sleep(1_000)
        assert (again.committed(), again.committed(partition=1)) == (None, 1)
        await asyncio.sleep(3_600)
        assert again.committed(partition=1) == 1

    on_loop(test)


@pytest.mark.parametrize("retention_ms", [2**63 - 1, -(2**63), -2, 0])
def test_any_retention_time_can_be_kept(retention_ms: int) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        assert await code(place, place.commit(1, retention_ms=retention_ms)) == 0
        again = await restarted(place, **expiring())
        await asyncio.sleep(7_200)
        assert again.committed() == (1 if retention_ms > 0 else None)

    on_loop(test)


def test_many_groups_are_looked_through_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "PIECE_GROUPS", 7)

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **expiring())
        for number in range(100):
            last = place.commit(number, group=f"g{number}")
        await place.answer(last)
        sizes: list[int] = []
        take = place.shard._take
        place.shard._take = lambda outcome: (  # type: ignore[method-assign]
            sizes.append(len(outcome.records)),
            take(outcome),
        )[1]
        await asyncio.sleep(3_700)
        assert place.machine.groups.ids() == []
        assert max(sizes) == 7

    on_loop(test)


def test_a_deleted_topic_takes_its_offsets_with_it() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        for number in range(300):
            place.commit(number, group=f"g{number}", topic="gone" if number % 2 else "kept")
        last = place.commit(1, group="both", topic="gone")
        place.commit(1, group="both", topic="kept")
        await place.answer(last)
        place.shard.perform(lambda machine, now: machine.forget_topics({"gone": T}, now))
        await asyncio.sleep(1)
        assert len(place.machine.groups.ids()) == 151
        assert place.machine.offsets.topics("both") == {"kept": [0]}

    on_loop(test)


def test_a_topic_made_anew_keeps_what_is_committed_while_the_former_one_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forgetting goes over many groups in many turns."""
    monkeypatch.setattr(machine_module, "PIECE_GROUPS", 1)

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        old, new = Uuid(bytes(15) + b"o"), Uuid(bytes(15) + b"n")
        for number in range(5):
            last = place.commit(number, group=f"g{number}", topic_id=old)
        await place.answer(last)
        place.shard.perform(lambda machine, now: machine.forget_topics({"t": old}, now))
        assert await code(place, place.commit(77, group="g4", topic_id=new)) == 0
        await asyncio.sleep(1)
        assert place.machine.groups.ids() == ["g4"]
        assert place.committed(group="g4") == 77

    on_loop(test)


def pending(place: GroupPlace, producer: int, offset: int) -> Any:
    """An offset committed in a transaction of that producer."""
    key = OffsetKey(group="g", topic="t", partition=0)
    value = OffsetValue(offset=offset, metadata="", commit_timestamp=1, topic_id=T)
    return place.perform(
        lambda machine, now: Outcome([OffsetRecord(key, value)], "written", (producer, 0))
    )


def end(place: GroupPlace, producer: int, *, committed: bool = True) -> None:
    answer = Asked(place.loop)
    place.shard.end_transaction(Marker(committed, 0), (producer, 0), answer, is_bumped=False)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_two_transactions_the_later_commit_stands(order: tuple[int, int]) -> None:
    """Later is what is later in the log, whichever of them ends first."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        assert await place.answer(pending(place, 1, 10)) == "written"
        assert await place.answer(pending(place, 2, 20)) == "written"
        for producer in order:
            end(place, producer)
        assert place.committed() == 20
        assert (await restarted(place)).committed() == 20

    on_loop(test)


def test_a_commit_after_a_transactions_own_stands() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        await place.answer(pending(place, 1, 10))
        await place.answer(place.commit(5))
        end(place, 1)
        assert place.committed() == 5
        assert (await restarted(place)).committed() == 5

    on_loop(test)


@pytest.mark.parametrize("how", ["offset", "group", "topic"])
def test_what_is_deleted_does_not_come_back_with_a_transaction(how: str) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        await place.answer(pending(place, 1, 10))

        def delete(machine: GroupMachine, now: int) -> Outcome:
            if how == "topic":
                return machine.forget_topics({"t": T}, now)
            if how == "group":
                return Outcome(machine.admin.delete("g"), "gone")
            return Outcome(machine.offsets.delete(machine.offsets.deletable("g"), "t", 0), "gone")

        await place.answer(pending(place, 2, 20))
        place.perform(delete)
        await asyncio.sleep(1)
        for _ in range(2):
            assert place.machine.groups.ids() == []
            assert not place.machine.groups.pending.has("g", "t", 0)
            place = await restarted(place)
        await place.answer(pending(place, 3, 30))
        for producer in (1, 2):
            end(place, producer)
        assert place.committed() is None
        place = await restarted(place)
        assert place.committed() is None
        end(place, 3)
        assert place.committed() == 30
        assert (await restarted(place)).committed() == 30

    on_loop(test)

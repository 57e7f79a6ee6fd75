"""Members of both protocols in one group: upgrade, downgrade, and what each of them is told."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.group.classic import EMPTY, STABLE, ClassicGroup
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    TopicPartition,
    assignment_bytes,
    read_assignment,
    written,
)
from ottla.protocol.messages.leave_group import MemberIdentity
from tests.coordinator.consumers import Consumer, ConsumerPlace, subscription
from tests.coordinator.test_consumer_groups import on_place, settle


def range_of(*topics: str, owned: dict[str, list[int]] | None = None) -> Any:
    return (("range", subscription(*topics, owned=owned)),)


async def old_group(place: ConsumerPlace, assignment: bytes | None = None, **options: Any) -> str:
    """A classic group of one member that reads all of `a`; the member's id."""
    protocols = options.pop("protocols", range_of("a"))
    member_id = await place.member(protocols=protocols)
    joined = await place.answer(place.join(member_id, protocols=protocols, **options))
    count = len(place.image.topics["a"].partitions)
    share = assignment_bytes({"a": list(range(count))}, 1) if assignment is None else assignment
    synced = await place.answer(place.sync(member_id, joined.generation_id, {member_id: share}))
    assert synced.error_code == 0
    return member_id


async def again(place: ConsumerPlace, member_id: str, owned: dict[str, list[int]]) -> Any:
    """It joins again, and fetches its assignment: (join, {topic: partitions})."""
    joined = await place.answer(place.join(member_id, protocols=range_of("a", owned=owned)))
    assert joined.error_code == 0
    synced = await place.answer(place.sync(member_id, joined.generation_id))
    assert synced.error_code == 0
    rows = read_assignment(synced.assignment).assigned_partitions
    return joined, {row.topic: row.partitions for row in rows}


async def code_of(pending: Any, place: ConsumerPlace) -> int:
    answer = await place.answer(pending)
    return int(getattr(answer, "error_code", answer))


# -- upgrade


def test_a_classic_group_is_upgraded_by_the_first_that_joins_with_the_new_protocol() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 4)
        old = await old_group(place)
        new = Consumer(place, "n")
        told = await new.join()
        assert (told.error_code, told.member_epoch, new.has) == (0, 2, {})
        group = place.consumers()
        assert place.group() is None
        assert set(group.members) == {old, "n"}
        assert group.members[old].is_classic
        assert group.members[old].assigned == {a: dict.fromkeys(range(4), 1)}
        beat = place.heartbeat(old, 1)
        assert await code_of(beat, place) == ErrorCode.REBALANCE_IN_PROGRESS
        joined, share = await again(place, old, {"a": [0, 1, 2, 3]})
        assert (joined.generation_id, share) == (1, {"a": [0, 1]})
        await new.beat()
        assert new.has == {}, "it did not say that it gave back"
        beat = place.heartbeat(old, 1)
        assert await code_of(beat, place) == ErrorCode.REBALANCE_IN_PROGRESS
        joined, share = await again(place, old, {"a": [0, 1]})
        assert (joined.generation_id, share) == (2, {"a": [0, 1]})
        assert await code_of(place.heartbeat(old, 2), place) == 0
        await new.beat()
        assert new.has == {a: [2, 3]}
        assert group.state.value == "Stable"

    on_place(test)


def test_an_empty_group_makes_way_for_the_other_kind() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        old = await old_group(place)
        await place.answer(place.leave(MemberIdentity(member_id=old)))
        await asyncio.sleep(10)
        assert place.group().is_in(EMPTY)
        m = Consumer(place, "m")
        assert (await m.join()).member_epoch == 1
        assert place.group() is None
        await place.beaten("m", -1)
        old = await old_group(place)
        assert isinstance(place.group(), ClassicGroup)
        assert place.machine.groups.find_consumer("g") is None

    on_place(test)


def test_members_that_wait_are_told_to_join_again() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        first = await old_group(place)
        second = await place.member(protocols=range_of("a"))
        waiting = place.join(second, protocols=range_of("a"))
        await Consumer(place, "n").join()
        answer = await place.answer(waiting)
        assert answer.error_code == ErrorCode.REBALANCE_IN_PROGRESS
        assert set(place.consumers().members) == {first, second, "n"}

    on_place(test)


USER_DATA = written(
    ConsumerProtocolAssignment(
        assigned_partitions=[TopicPartition(topic="a", partitions=[0])], user_data=b"x"
    ),
    1,
)


@pytest.mark.parametrize(
    ("assignment", "options", "words"),
    [
        (None, {"group_consumer_migration_policy": "disabled"}, "disabled"),
        (None, {"group_consumer_migration_policy": "downgrade"}, "disabled"),
        (USER_DATA, {}, "custom assignor"),
        (b"\0\1\0", {}, "malformed"),
    ],
)
def test_groups_that_are_not_upgraded(
    assignment: bytes | None, options: dict[str, str], words: str
) -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        old = await old_group(place, assignment)
        told = await Consumer(place, "n").join()
        assert told.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert words in (told.error_message or "")
        assert list(place.group().members) == [old]
        assert await code_of(place.heartbeat(old, 1), place) == 0

    on_place(test, **options)


def test_a_group_of_another_protocol_type_is_not_upgraded() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        await old_group(place, protocol_type="connect")
        told = await Consumer(place, "n").join()
        assert told.error_code == ErrorCode.GROUP_ID_NOT_FOUND

    on_place(test)


# -- downgrade


def test_the_last_member_of_the_new_protocol_that_goes_leaves_a_classic_group() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        old = await old_group(place)
        new = Consumer(place, "n")
        await new.join()
        await place.beaten("n", -1)
        await asyncio.sleep(0.1)
        group = place.group()
        assert isinstance(group, ClassicGroup)
        assert list(group.members) == [old]
        beat = place.heartbeat(old, group.generation)
        assert await code_of(beat, place) == ErrorCode.REBALANCE_IN_PROGRESS
        joined = await place.answer(place.join(old, protocols=range_of("a")))
        assert (joined.error_code, joined.leader) == (0, old)
        synced = place.sync(old, joined.generation_id, {old: b"all"})
        assert (await place.answer(synced)).assignment == b"all"
        assert place.group().is_in(STABLE)

    on_place(test)


def test_a_member_that_is_put_out_may_be_the_last_of_the_new_protocol() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        old = await old_group(place, session_ms=60_000)
        await Consumer(place, "n").join()
        for _ in range(4):
            await asyncio.sleep(14)
            await place.answer(place.heartbeat(old, 1))
        assert isinstance(place.group(), ClassicGroup)

    on_place(test)


def test_a_group_that_may_not_be_downgraded_stays_a_consumer_group() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        old = await old_group(place)
        await Consumer(place, "n").join()
        await place.beaten("n", -1)
        assert list(place.consumers().members) == [old]
        joined, share = await again(place, old, {"a": [0, 1]})
        assert share == {"a": [0, 1]}
        assert joined.generation_id == place.consumers().epoch

    on_place(test, group_consumer_migration_policy="upgrade")


def test_a_static_member_that_comes_back_with_the_classic_protocol() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        old = await old_group(place)
        new = Consumer(place, "n", instance="i")
        await new.join()
        back = await place.answer(place.join(instance="i", protocols=range_of("a")))
        assert back.error_code == 0
        await asyncio.sleep(0.1)
        group = place.group()
        assert isinstance(group, ClassicGroup)
        assert set(group.members) == {old, back.member_id}

    on_place(test)


def test_a_group_that_would_be_too_large_for_its_log_stays_a_consumer_group() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        old = await old_group(place, protocols=(("range", subscription("a", "b" * 300)),))
        await Consumer(place, "n").join()
        partition = place.place.partition
        partition.settings = replace(partition.settings, max_message_bytes=700)
        assert (await place.beaten("n", -1)).error_code == 0
        assert list(place.consumers().members) == [old]
        await asyncio.sleep(11)
        assert place.consumers().members == {}, "its session is counted on"

    on_place(test)


def test_a_group_that_would_be_too_large_for_its_log_is_not_upgraded() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 1)
        old = await old_group(place)
        partition = place.place.partition
        partition.settings = replace(partition.settings, max_message_bytes=400)
        again = place.join(old, protocols=range_of("a"))
        assert (await Consumer(place, "n").join()).error_code == ErrorCode.RECORD_LIST_TOO_LARGE
        joined = await place.answer(again)
        assert joined.error_code == 0
        assert isinstance(place.group(), ClassicGroup)

    on_place(test)


def test_what_was_awaited_of_a_member_ends_with_the_group_it_was_in() -> None:
    """It was told to join again, in a consumer group; that went, and another came."""

    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        old = await old_group(place, rebalance_ms=20_000)
        await Consumer(place, "n").join()
        assert await code_of(place.heartbeat(old, 1), place) == ErrorCode.REBALANCE_IN_PROGRESS
        await place.beaten("n", -1)
        protocols = range_of("a")
        joined = await place.answer(place.join(old, protocols=protocols, rebalance_ms=20_000))
        share = {old: assignment_bytes({"a": [0, 1]}, 1)}
        await place.answer(place.sync(old, joined.generation_id, share))
        for number in range(3):
            if number == 2:
                await Consumer(place, "m").join()
            await place.answer(place.heartbeat(old, joined.generation_id))
            await asyncio.sleep(8)
        assert old in place.consumers().members

    on_place(test)


# -- members of the classic protocol in a consumer group


def test_who_may_join() -> None:
    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        new = Consumer(place, "n")
        await new.join()
        for options in (
            {"protocol_type": "connect"},
            {"protocols": ()},
            {"protocols": (("range", b"nonsense"),)},
        ):
            refused = place.join("x", **{"protocols": range_of("a"), **options})
            assert await code_of(refused, place) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        asked = await place.answer(place.join(protocols=range_of("a")))
        assert asked.error_code == ErrorCode.MEMBER_ID_REQUIRED
        _, share = await again(place, asked.member_id, {})
        assert share == {}
        await settle(new)
        _, share = await again(place, asked.member_id, {})
        assert len(share["a"]) == len(new.places) == 1
        other = place.join("y", protocols=(("other", subscription("a")),))
        assert await code_of(other, place) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert await code_of(place.sync("n", new.epoch), place) == ErrorCode.UNKNOWN_MEMBER_ID
        assert await code_of(place.heartbeat("n", new.epoch), place) == ErrorCode.UNKNOWN_MEMBER_ID
        beat = place.heartbeat(asked.member_id, 99)
        assert await code_of(beat, place) == ErrorCode.ILLEGAL_GENERATION
        left = await place.answer(
            place.leave(MemberIdentity(member_id="n"), MemberIdentity(member_id=asked.member_id))
        )
        codes = [row.error_code for row in left.members]
        assert codes == [ErrorCode.UNKNOWN_MEMBER_ID, 0]
        await settle(new)
        assert len(new.places) == 2

    on_place(test)


@pytest.mark.parametrize("does_sync", [True, False])
def test_who_does_not_go_on_is_put_out(does_sync: bool) -> None:
    """It joined and does not fetch its assignment, or was told to join again and does not."""

    async def test(place: ConsumerPlace) -> None:
        place.make("a", 2)
        new = Consumer(place, "n")
        await new.join()
        asked = await place.answer(place.join(protocols=range_of("a")))
        options: dict[str, Any] = {"rebalance_ms": 20_000, "session_ms": 40_000}
        joined = await place.answer(place.join(asked.member_id, protocols=range_of("a"), **options))
        if does_sync:
            await place.answer(place.sync(asked.member_id, joined.generation_id))
            place.make("a", 4)
        for _ in range(4):
            await new.beat()
            await place.answer(place.heartbeat(asked.member_id, joined.generation_id))
            await asyncio.sleep(7)
        assert list(place.consumers().members) == ["n"]

    on_place(test)


# -- offsets


def test_who_may_commit_and_fetch() -> None:
    async def test(place: ConsumerPlace) -> None:
        a = place.make("a", 2)
        m = Consumer(place, "m")
        await m.join()
        old = (await place.answer(place.join(protocols=range_of("a")))).member_id
        await again(place, old, {})

        async def commit(epoch: int, member_id: str = "m", version: int = 9) -> int:
            pending = place.commit(
                1, topic="a", topic_id=a, generation=epoch, member_id=member_id, version=version
            )
            return await code_of(pending, place)

        await settle(m)
        assert m.epoch == 2
        assert await commit(m.epoch) == 0
        assert await commit(1) == 0, "it has had the partition since"
        assert await commit(m.epoch + 1) == ErrorCode.STALE_MEMBER_EPOCH
        assert await commit(0) == ErrorCode.STALE_MEMBER_EPOCH
        assert await commit(m.epoch, "x") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await commit(-1, "") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await commit(m.epoch, version=8) == ErrorCode.UNSUPPORTED_VERSION
        assert await commit(99, old) == ErrorCode.ILLEGAL_GENERATION
        offsets = place.machine.offsets
        offsets.check_fetch("g", "m", m.epoch)
        offsets.check_fetch("g", None, -1)
        offsets.check_fetch("none", "m", 1)
        await place.beaten("m", -1)

    on_place(test, group_consumer_migration_policy="upgrade")

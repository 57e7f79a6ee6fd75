"""Classic groups: each request in each state, and what brings a group from state to state."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.batches import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES
from ottla.coordinator.group.classic import (
    COMPLETING_REBALANCE,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
)
from ottla.coordinator.group.records import encode_record
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.sim.loop import SimLoop
from tests.coordinator.places import Asked, GroupPlace, on_loop

NOW: Any = {"group_initial_rebalance_delay_ms": "0"}
BOTH = (("range", b"r"), ("sticky", b"s"))


async def preparing(place: GroupPlace) -> tuple[list[str], Asked]:
    """Two members, of whom the first has joined again."""
    ids = await place.stable(2)
    return ids, place.join(ids[0])


async def completing(place: GroupPlace) -> tuple[list[str], int]:
    """Two members that have joined, and no assignment yet."""
    ids = await place.stable(2)
    answers = [await place.answer(each) for each in [place.join(i) for i in ids]]
    assert place.group().state is COMPLETING_REBALANCE
    leader = answers[0].leader
    return sorted(ids, key=lambda each: each != leader), answers[0].generation_id


# --- joining


def test_the_first_members_wait_for_one_another() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        began = loop.time()
        first = place.join(await place.member())
        await asyncio.sleep(2)
        second = place.join(await place.member())
        answers = [await place.answer(each) for each in (first, second)]
        assert loop.time() - began == pytest.approx(6, abs=0.1)
        assert {each.generation_id for each in answers} == {1}
        leader, follower = answers
        assert leader.leader == leader.member_id == follower.leader
        assert [each.member_id for each in leader.members] == [
            leader.member_id,
            follower.member_id,
        ]
        assert [each.metadata for each in leader.members] == [b"topics", b"topics"]
        assert follower.members == []
        assert (leader.protocol_type, leader.protocol_name) == ("consumer", "range")

    on_loop(test)


def test_the_initial_delay_ends_with_the_rebalance_timeout() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        began = loop.time()
        pending = place.join(await place.member(), rebalance_ms=7_000)
        for _ in range(4):
            await asyncio.sleep(2)
            place.join(await place.member(), rebalance_ms=7_000)
        await place.answer(pending)
        assert loop.time() - began <= 9.1

    on_loop(test)


def test_old_clients_join_without_an_id() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        for version in (0, 3):
            answer = await place.answer(place.join(version=version, group=f"g{version}"))
            assert answer.error_code == 0
            assert answer.member_id.startswith("c-")
            assert len(answer.member_id) == 2 + 36
        answer = await place.answer(place.join(version=6, group="h", protocols=()))
        assert (answer.error_code, answer.protocol_name) == (
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
            "",
        )

    on_loop(test)


def test_a_long_client_id_makes_a_member_id_that_can_be_sent() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        for options in ({"client_id": "é" * 16_000}, {"instance": "é" * 16_000}):
            answer = await place.answer(place.join(version=3, group=str(options)[:9], **options))
            assert answer.error_code == 0
            assert len(answer.member_id) == 1_000 + 1 + 36

    on_loop(test)


def test_without_a_rebalance_timeout_the_session_timeout_counts() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        answer = await place.answer(place.join(version=0, rebalance_ms=-1, session_ms=9_000))
        member = place.group().members[answer.member_id]
        assert member.rebalance_timeout_ms == 9_000

    on_loop(test)


def test_a_new_member_makes_everybody_join_again() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader,) = await place.stable()
        new = place.join(await place.member())
        assert place.group().state is PREPARING_REBALANCE
        beat = await place.answer(place.heartbeat(leader, 1))
        assert beat.error_code == ErrorCode.REBALANCE_IN_PROGRESS
        again = place.join(leader)
        answers = [await place.answer(each) for each in (again, new)]
        assert [each.generation_id for each in answers] == [2, 2]
        assert [each.leader for each in answers] == [leader, leader]

    on_loop(test)


def test_who_does_not_join_again_in_time_is_out() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids = await place.stable(2, rebalance_ms=4_000)
        began = loop.time()
        answer = await place.answer(place.join(ids[0], rebalance_ms=4_000))
        assert loop.time() - began == pytest.approx(4, abs=0.1)
        assert [each.member_id for each in answer.members] == [ids[0]]
        late = await place.answer(place.join(ids[1]))
        assert late.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_a_leader_that_does_not_join_again_is_replaced() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        leader, follower = await place.stable(2, rebalance_ms=4_000)
        changed = (("range", b"other"),)
        answer = await place.answer(place.join(follower, protocols=changed))
        assert answer.leader == follower
        assert leader not in place.group().members

    on_loop(test)


def test_a_retry_of_a_join_gets_the_same_generation() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader, follower), generation = await completing(place)
        for member, members in ((leader, 2), (follower, 0)):
            answer = await place.answer(place.join(member))
            assert (answer.generation_id, len(answer.members)) == (generation, members)
        assert place.group().state is COMPLETING_REBALANCE
        changed = place.join(follower, protocols=(("range", b"changed"),))
        assert place.group().state is PREPARING_REBALANCE
        place.join(leader)
        assert (await place.answer(changed)).generation_id == generation + 1

    on_loop(test)


def test_a_follower_that_joins_a_stable_group_disturbs_nobody() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        leader, follower = await place.stable(2)
        answer = await place.answer(place.join(follower))
        assert (answer.error_code, answer.generation_id) == (0, place.group().generation)
        assert place.group().state is STABLE
        place.join(leader)
        assert place.group().state is PREPARING_REBALANCE

    on_loop(test)


def test_the_protocol_is_the_one_most_prefer_of_those_all_know() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        a, b, c = (("a", b"a"), ("b", b"b"), ("c", b"c"))
        sets = [(a, b), (c, b, a), (b, a)]
        ids = [await place.member(protocols=each) for each in sets]
        joins = [place.join(i, protocols=p) for i, p in zip(ids, sets, strict=True)]
        answers = [await place.answer(each) for each in joins]
        assert {each.protocol_name for each in answers} == {"b"}
        assert [each.metadata for each in answers[0].members] == [b"b"] * 3
        odd = await place.answer(place.join(protocols=(("c", b""),)))
        assert odd.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        odd = await place.answer(place.join(protocol_type="connect"))
        assert odd.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    on_loop(test)


def test_a_group_has_no_more_members_than_it_may() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, group_max_size="2", **NOW)
        ids = [await place.member() for _ in range(3)]
        joins = [place.join(each) for each in ids]
        answers = [await place.answer(each) for each in joins]
        assert [each.error_code for each in answers] == [0, 0, ErrorCode.GROUP_MAX_SIZE_REACHED]
        await place.rebalanced(ids[:2])
        late = await place.answer(place.join())
        assert (late.error_code, late.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")

    on_loop(test)


def test_a_node_has_no_more_members_than_fit(monkeypatch: Any) -> None:
    monkeypatch.setattr("ottla.coordinator.group.member.GROUP_MEMBERS_COUNT", 3)

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        await place.stable(2)
        await place.member(group="h")
        full = await place.answer(place.join(group="i"))
        assert full.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert place.group("i") is None
        await asyncio.sleep(11)
        assert (place.budget.members, place.budget.bytes) == (0, 0)

    on_loop(test)


@pytest.mark.parametrize("member_id", ["nobody", "c-"])
def test_an_id_that_was_never_given_is_unknown(member_id: str) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        code = ErrorCode.UNKNOWN_MEMBER_ID
        assert (await place.answer(place.join(member_id))).error_code == code
        await place.stable()
        assert (await place.answer(place.join(member_id))).error_code == code
        assert (await place.answer(place.join(member_id, instance="i"))).error_code == code
        assert await place.answer(place.sync(member_id, 1)) == code
        assert await place.answer(place.heartbeat(member_id, 1)) == code
        assert await place.answer(place.commit(1, member_id=member_id, generation=1)) == code
        (row,) = (await place.answer(place.leave(MemberIdentity(member_id=member_id)))).members
        assert row.error_code == code

    on_loop(test)


def test_a_group_nobody_knows_has_no_members() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        code = ErrorCode.UNKNOWN_MEMBER_ID
        assert await place.answer(place.sync("m", 1)) == code
        assert await place.answer(place.heartbeat("m", 1)) == code
        answer = await place.answer(place.leave(MemberIdentity(member_id="m")))
        assert [row.error_code for row in answer.members] == [code]
        missing = ErrorCode.GROUP_ID_NOT_FOUND
        assert await place.answer(place.commit(1, member_id="m", generation=1)) == missing
        old = place.commit(1, member_id="m", generation=1, version=8)
        assert await place.answer(old) == ErrorCode.ILLEGAL_GENERATION

    on_loop(test)


# --- given ids


def test_a_given_id_is_waited_for_and_forgotten_after_a_session() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader,) = await place.stable(session_ms=60_000)
        given = await place.member(session_ms=8_000)
        began = loop.time()
        again = place.join(leader, session_ms=60_000)
        await place.answer(again)
        assert loop.time() - began == pytest.approx(8, abs=0.1)
        gone = await place.answer(place.join(given))
        assert gone.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_ids_that_are_never_used_leave_nothing() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        for number in range(100):
            await place.member(group=f"made-up-{number}")
        assert len(place.machine.groups.ids()) == place.budget.members == 100
        await asyncio.sleep(11)
        assert place.machine.groups.ids() == []
        assert (place.budget.members, place.budget.bytes) == (0, 0)
        assert place.place.log.log_end_offset == 0

    on_loop(test)


def test_a_join_that_is_never_finished_leaves_nothing() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        answer = await place.answer(place.join(await place.member()))
        assert answer.error_code == 0
        await asyncio.sleep(200)
        assert place.machine.groups.ids() == []
        assert (place.budget.members, place.budget.bytes) == (0, 0)
        assert place.place.log.log_end_offset == 0

    on_loop(test)


def test_a_member_that_leaves_with_its_given_id_is_not_waited_for() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader,) = await place.stable()
        given = await place.member()
        again = place.join(leader)
        answer = await place.answer(place.leave(MemberIdentity(member_id=given)))
        assert [row.error_code for row in answer.members] == [0]
        assert (await place.answer(again)).generation_id == 2

    on_loop(test)


# --- SyncGroup


def test_a_generation_is_stable_when_its_assignments_are_in_the_log() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader, follower), generation = await completing(place)
        waiting = place.sync(follower, generation)
        assert waiting.response is None
        place.place.flushing.is_held = True
        shares = {leader: b"one", "stranger": b"two"}
        done = place.sync(leader, generation, shares)
        await asyncio.sleep(1)
        assert waiting.response is None
        assert done.response is None
        place.place.flushing.flush()
        assert (await place.answer(done)).assignment == b"one"
        assert (await place.answer(waiting)).assignment == b""
        assert place.group().state is STABLE
        late = await place.answer(place.sync(leader, generation))
        assert (late.assignment, late.protocol_name, late.protocol_type) == (
            b"one",
            "range",
            "consumer",
        )

    on_loop(test)


def test_a_sync_is_held_to_its_generation_and_protocol() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader, _), generation = await completing(place)
        wrong = place.sync(leader, generation - 1)
        assert await place.answer(wrong) == ErrorCode.ILLEGAL_GENERATION
        for options in ({"protocol_type": "connect"}, {"protocol": "sticky"}):
            odd = place.sync(leader, generation, **options)  # type: ignore[arg-type]
            assert await place.answer(odd) == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        place.join(leader, protocols=(("range", b"new"),))
        early = place.sync(leader, generation)
        assert await place.answer(early) == ErrorCode.REBALANCE_IN_PROGRESS

    on_loop(test)


def test_whoever_waits_for_an_assignment_is_told_of_a_rebalance() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (_, follower), generation = await completing(place)
        waiting = place.sync(follower, generation)
        place.join(await place.member())
        answer = await place.answer(waiting)
        assert (answer.error_code, answer.assignment) == (ErrorCode.REBALANCE_IN_PROGRESS, b"")

    on_loop(test)


def test_who_does_not_sync_in_time_is_out() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        options: dict[str, Any] = {"rebalance_ms": 5_000, "session_ms": 60_000}
        ids = [await place.member(**options) for _ in range(2)]
        answers = [await place.answer(each) for each in [place.join(i, **options) for i in ids]]
        leader = answers[0].leader
        (follower,) = (each for each in ids if each != leader)
        await place.answer(place.sync(leader, 1, {}))
        assert place.group().state is STABLE
        await asyncio.sleep(6)
        assert list(place.group().members) == [leader]
        assert place.group().state is PREPARING_REBALANCE
        gone = place.heartbeat(follower, 1)
        assert await place.answer(gone) == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_a_group_too_large_for_its_log_is_told_so() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader, follower), generation = await completing(place)
        waiting = place.sync(follower, generation)
        done = place.sync(leader, generation, {leader: bytes(2 << 20)})
        for pending in (done, waiting):
            answer = await place.answer(pending)
            assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert place.group().state is PREPARING_REBALANCE
        await place.rebalanced([leader, follower])

    on_loop(test)


@pytest.mark.parametrize("room", range(-8, 3))
def test_whoever_is_told_its_assignment_has_it_in_the_log(room: int) -> None:
    """The bound is met to the byte, also by a group of a short name."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (leader, _), generation = await completing(place)
        assignment = bytes(5_000)
        key, value = encode_record(place.group().record({leader: assignment}))
        size = len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES + BATCH_OVERHEAD_BYTES
        partition = place.place.partition
        partition.settings = replace(partition.settings, max_message_bytes=size + room)
        answer = await place.answer(place.sync(leader, generation, {leader: assignment}))
        fits = room >= 0
        assert answer.error_code == (0 if fits else ErrorCode.UNKNOWN_SERVER_ERROR)
        assert place.group().state is (STABLE if fits else PREPARING_REBALANCE)

    on_loop(test)


# --- sessions


def test_a_member_lives_as_long_as_it_beats() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (member,) = await place.stable(session_ms=6_000)
        for _ in range(5):
            await asyncio.sleep(5)
            assert (await place.answer(place.heartbeat(member, 1))).error_code == 0
        for _ in range(5):
            await asyncio.sleep(5)
            done = await place.answer(place.commit(1, member_id=member, generation=1))
            assert done.error_code == 0
        await asyncio.sleep(7)
        assert place.group().state is EMPTY
        dead = place.heartbeat(member, 1)
        assert await place.answer(dead) == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_a_commit_in_a_transaction_does_not_speak_for_the_session() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (member,) = await place.stable(session_ms=6_000)
        await asyncio.sleep(5)
        done = place.commit(1, member_id=member, generation=1, is_transactional=True)
        assert (await place.answer(done)).error_code == 0
        await asyncio.sleep(2)
        assert place.group().state is EMPTY

    on_loop(test)


def test_a_dead_member_makes_the_others_rebalance() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        leader, follower = await place.stable(2, session_ms=6_000)
        await asyncio.sleep(5)
        await place.answer(place.heartbeat(follower, place.group().generation))
        await asyncio.sleep(2)
        assert list(place.group().members) == [follower]
        assert place.group().leader == follower
        answer = await place.answer(place.join(follower))
        assert [each.member_id for each in answer.members] == [follower]
        assert leader not in place.group().members

    on_loop(test)


def test_a_member_whose_join_waits_is_not_dead() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids = await place.stable(2, session_ms=6_000, rebalance_ms=30_000)
        waiting = place.join(ids[0], session_ms=6_000, rebalance_ms=30_000)
        for _ in range(5):
            await asyncio.sleep(5)
            await place.answer(place.heartbeat(ids[1], place.group().generation))
        assert waiting.response is None
        await asyncio.sleep(6)
        assert (await place.answer(waiting)).error_code == 0

    on_loop(test)


def test_a_new_member_whose_first_join_waits_for_ever_is_out() -> None:
    """Its connection may be gone, and nobody would know."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        long = 1_000_000
        (member,) = await place.stable(rebalance_ms=long)
        waiting = place.join(await place.member(), rebalance_ms=long)
        for _ in range(61):
            await asyncio.sleep(5)
            await place.answer(place.heartbeat(member, 1))
        answer = await place.answer(waiting)
        assert answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_a_heartbeat_is_held_to_its_generation() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        (member,) = await place.stable()
        for generation in (-1, 0, 2):
            wrong = place.heartbeat(member, generation)
            assert await place.answer(wrong) == ErrorCode.ILLEGAL_GENERATION
        _, generation = await completing(GroupPlace(loop, **NOW))
        assert generation > 1

    on_loop(test)


# --- leaving


def test_members_leave_and_the_last_leaves_an_empty_group() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        leader, follower = await place.stable(2)
        answer = await place.answer(place.leave(MemberIdentity(member_id=leader)))
        assert [row.error_code for row in answer.members] == [0]
        assert place.group().state is PREPARING_REBALANCE
        await place.answer(place.leave(MemberIdentity(member_id=follower)))
        group = place.group()
        assert (group.state, group.leader, group.protocol) == (EMPTY, None, None)
        assert group.protocol_type == "consumer"
        assert group.generation == 2

    on_loop(test)


def test_a_member_that_leaves_while_it_joins_is_told() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids, waiting = await preparing(place)
        await place.answer(place.leave(MemberIdentity(member_id=ids[0])))
        assert (await place.answer(waiting)).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


# --- static members


async def static(place: GroupPlace, **options: Any) -> tuple[str, str]:
    """A stable group of a static member that leads and a dynamic one."""
    first = place.join(instance="i", **options)
    assert (await place.answer(first)).error_code == 0
    leader = first.response.member_id
    follower = await place.member(**options)
    joins = [place.join(follower, **options), place.join(leader, instance="i", **options)]
    answers = [await place.answer(each) for each in joins]
    generation = answers[0].generation_id
    syncs = [
        place.sync(leader, generation, {leader: b"A", follower: b"B"}, instance="i"),
        place.sync(follower, generation),
    ]
    for each in syncs:
        await place.answer(each)
    return leader, follower


@pytest.mark.parametrize("version", [5, 8, 9])
def test_a_static_member_that_comes_back_takes_its_place(version: int) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        old, follower = await static(place)
        end = place.place.log.log_end_offset
        answer = await place.answer(place.join(instance="i", version=version))
        new = answer.member_id
        assert new != old
        assert new.startswith("i-")
        assert place.group().state is STABLE
        assert place.place.log.log_end_offset == end + 1
        assert place.group().leader == new
        if version >= 9:
            assert (answer.leader, answer.skip_assignment) == (new, True)
            assert {each.member_id for each in answer.members} == {new, follower}
        else:
            assert (answer.leader, answer.members) == (old, [])
        mine = await place.answer(place.sync(new, answer.generation_id, instance="i"))
        assert mine.assignment == b"A"
        for fenced in (
            place.heartbeat(old, answer.generation_id, instance="i"),
            place.sync(old, answer.generation_id, instance="i"),
            place.commit(1, member_id=old, generation=answer.generation_id, instance="i"),
        ):
            assert await place.answer(fenced) == ErrorCode.FENCED_INSTANCE_ID
        again = await place.answer(place.join(old, instance="i"))
        assert again.error_code == ErrorCode.FENCED_INSTANCE_ID
        plain = place.heartbeat(old, answer.generation_id)
        assert await place.answer(plain) == ErrorCode.UNKNOWN_MEMBER_ID

    on_loop(test)


def test_a_static_member_with_another_protocol_makes_a_rebalance() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        await static(place, protocols=BOTH)
        place.join(instance="i", protocols=(BOTH[1],))
        assert place.group().state is PREPARING_REBALANCE

    on_loop(test)


def test_a_static_member_that_comes_back_twice_fences_who_waits() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        _, follower = await static(place)
        place.join(await place.member())
        first = place.join(instance="i")
        second = place.join(instance="i")
        answer = await place.answer(first)
        assert answer.error_code == ErrorCode.FENCED_INSTANCE_ID
        assert second.response is None
        assert follower in place.group().members

    on_loop(test)


def test_a_static_member_is_kept_while_it_is_away_and_removed_by_its_instance() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        options: dict[str, Any] = {"rebalance_ms": 5_000, "session_ms": 100_000}
        leader, follower = await static(place, **options)
        changed = (("range", b"changed"),)
        answer = await place.answer(place.join(follower, protocols=changed, **options))
        assert {each.member_id for each in answer.members} == {leader, follower}
        assert answer.leader == follower
        away = MemberIdentity(member_id="", group_instance_id="i")
        nobody = MemberIdentity(member_id="", group_instance_id="j")
        rows = (await place.answer(place.leave(away, nobody))).members
        assert [row.error_code for row in rows] == [0, ErrorCode.UNKNOWN_MEMBER_ID]
        assert list(place.group().members) == [follower]

    on_loop(test)


# --- the coordinator stops, fails, starts


def test_a_restart_finds_the_members_and_waits_for_their_heartbeats() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        leader, follower = await place.stable(2, session_ms=6_000)
        generation = place.group().generation
        before = place.group().record()
        place.shard.close()
        again = GroupPlace(loop, place.place, **NOW)
        while again.shard.refusal:
            await asyncio.sleep(0)
        assert again.group().record() == before
        assert again.group().state is STABLE
        assert again.group().leader == leader
        mine = await again.answer(again.sync(leader, generation))
        assert mine.assignment == b"share of " + leader.encode()
        await asyncio.sleep(5)
        assert (await again.answer(again.heartbeat(follower, generation))).error_code == 0
        await asyncio.sleep(2)
        assert list(again.group().members) == [follower]

    on_loop(test)


def test_whoever_waits_is_told_when_the_log_fails() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids, waiting = await preparing(place)
        await place.stable(group="other")
        place.place.disk.fail_at(1)
        lost = place.commit(1, group="simple")
        assert await place.answer(lost) == ErrorCode.KAFKA_STORAGE_ERROR
        assert await place.answer(waiting) == ErrorCode.KAFKA_STORAGE_ERROR
        while place.shard.refusal:
            await asyncio.sleep(0)
        assert place.group().state is STABLE
        assert set(place.group().members) == set(ids)
        await place.rebalanced(ids)

    on_loop(test)


def test_a_group_that_is_too_large_after_a_restart_rebalances() -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        await place.stable(2)
        place.shard.close()
        again = GroupPlace(loop, place.place, group_max_size="1", **NOW)
        while again.shard.refusal:
            await asyncio.sleep(0)
        assert again.group().state is PREPARING_REBALANCE

    on_loop(test)


STEPS = 7


@pytest.mark.parametrize("after", range(STEPS))
@pytest.mark.parametrize("how", ["restart", "append fails"])
def test_a_coordinator_that_fails_between_two_steps(how: str, after: int) -> None:
    """Two members go through a generation; the coordinator is lost after one of the steps. They
    recover as clients do, and no offset that was acknowledged goes back."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        acknowledged = -1
        ids: list[str] = []
        generation = -1
        step = 0

        async def lose() -> None:
            nonlocal place, step
            step += 1
            if step - 1 != after:
                return
            if how == "restart":
                await asyncio.sleep(0.01)
                place.shard.close()
                place = GroupPlace(loop, place.place, **NOW)
            else:
                place.place.disk.fail_at(1)
                await place.answer(place.commit(1, group="other"))
                place.place.disk.fail_at(0)
            while place.shard.refusal:
                await asyncio.sleep(0)
            assert place.committed() == (None if acknowledged < 0 else acknowledged)

        async def joined() -> None:
            nonlocal ids, generation
            while len(ids) < 2:
                ids.append(await place.member())
                await lose()
            pending = [place.join(each) for each in ids]
            answers = [await place.answer(each) for each in pending]
            if any(each.error_code for each in answers):
                ids = [i for i, a in zip(ids, answers, strict=True) if not a.error_code]
                await joined()
                return
            generation = answers[0].generation_id
            await lose()
            shares = {each: each.encode() for each in ids}
            leader = answers[0].leader
            order = sorted(ids, key=lambda each: each == leader)
            syncs = [place.sync(e, generation, shares if e == leader else None) for e in order]
            done = [await place.answer(each) for each in syncs]
            await lose()
            if any(isinstance(each, ErrorCode) for each in done):
                ids = []
                await joined()

        await joined()
        for offset in range(3):
            answer = await place.answer(
                place.commit(offset, member_id=ids[0], generation=generation)
            )
            if isinstance(answer, ErrorCode):
                ids = []
                await joined()
            else:
                acknowledged = offset
            await lose()
        beat = await place.answer(place.heartbeat(ids[1], generation))
        assert isinstance(beat, ErrorCode) or beat.error_code == 0
        assert place.committed() == acknowledged == 2
        assert step >= STEPS

    on_loop(test)


@pytest.mark.parametrize("later", [(("range", b"other"),), (("sticky", b"topics"),)])
def test_a_restart_finds_what_members_said_last(later: Any) -> None:
    """The log has every generation: the last one counts, with all that is in it."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ((name, metadata),) = later
        (member,) = await place.stable(protocols=(("range", b"topics"), ("sticky", b"topics")))
        await place.rebalanced([member], protocols=later, session_ms=20_000)
        place.shard.close()
        again = GroupPlace(loop, place.place, **NOW)
        while again.shard.refusal:
            await asyncio.sleep(0)
        found = again.group().members[member]
        assert again.group().protocol == name
        assert found.metadata(name) == metadata
        assert found.session_timeout_ms == 20_000
        await again.rebalanced([member], protocols=later)

    on_loop(test)


def test_a_full_node_lets_a_static_member_come_back_without_its_id(monkeypatch: Any) -> None:
    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        await static(place)
        monkeypatch.setattr(
            "ottla.coordinator.group.member.GROUP_MEMBERS_COUNT", place.budget.members
        )
        assert (await place.answer(place.join(instance="i"))).error_code == 0
        stranger = await place.answer(place.join(instance="j"))
        assert stranger.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE

    on_loop(test)


def test_a_full_node_goes_on_with_those_it_has(monkeypatch: Any) -> None:
    """Members join again, and ids that were given become members; nobody brings more."""
    monkeypatch.setattr("ottla.coordinator.group.member.GROUP_MEMBERS_COUNT", 3)

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **NOW)
        ids = await place.stable(2)
        given = await place.member(group="h")
        await place.rebalanced(ids)
        assert (await place.answer(place.join(given, group="h"))).error_code == 0
        monkeypatch.setattr(
            "ottla.coordinator.group.member.GROUP_SOFT_BYTES", place.budget.bytes + 10
        )
        await place.rebalanced(ids)
        larger = (("range", b"topics" * 9),)
        refused = await place.answer(place.join(ids[0], protocols=larger))
        assert refused.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE

    on_loop(test)

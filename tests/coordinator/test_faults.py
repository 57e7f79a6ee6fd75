"""What clients and failures may do to groups: ids without end, topics that are not there, members
that die and coordinators that restart between every two steps."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from ottla.base.errors import ErrorCode
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.machine import Outcome
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.sim.loop import SimLoop
from tests.coordinator.consumers import Consumer, ConsumerPlace
from tests.coordinator.places import GroupPlace, on_loop

OPTIONS: Any = {
    "group_initial_rebalance_delay_ms": "0",
    "group_consumer_assignment_interval_ms": "0",
    "group_consumer_session_timeout_ms": "10000",
}
SESSION_S = 10


# -- ids without end


def test_requests_about_any_number_of_groups_leave_nothing() -> None:
    """Of members that are not there, and of groups that are not."""

    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop)
        place.make("a", 1)

        def look(machine: GroupMachine, now: int, group: str) -> Outcome:
            found = machine.offsets.fetch(group, "a", bytes(16), [0])  # type: ignore[arg-type]
            return Outcome(response=(machine.admin.describe(group, 6), found))

        for number in range(10_000):
            group = f"g{number}"
            asked = [
                place.heartbeat("m", 1, group=group),
                place.sync("m", 1, group=group),
                place.leave(MemberIdentity(member_id="m"), group=group),
                place.join("m", group=group),
                place.commit(1, generation=1, member_id="m", group=group),
                place.beat("m", 3, group=group, owned={}),
                place.beat("m", -1, group=group),
                place.beat("m", -2, group=group, instance="i"),
                place.beat("m", 0, group=group, owned={}, rebalance_ms=1, regex="("),
                place.perform(lambda machine, now, group=group: look(machine, now, group)),
            ]
            assert all(each.response is not None for each in asked)
        groups = place.machine.groups
        assert (groups.ids(), len(place.shard._timers)) == ([], 1)
        assert (place.budget.members, place.budget.bytes) == (0, 0)
        assert place.place.log.log_end_offset == 0

    on_loop(test)


def test_a_group_that_only_commits_takes_little_memory() -> None:
    """So many as clients like, as in Kafka: it is what they asked to be kept."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop)
        await place.answer(place.commit(1, group="first"))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(5_000):
                record = place.commit(number, group=f"some-group-of-some-name-{number}")
            await place.answer(record)
            await asyncio.sleep(1)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        disk = sum(map(len, place.place.disk.files.values()))
        assert (after - before - disk) / 5_000 < 1_500

    on_loop(test)


def test_a_log_that_is_not_read_to_its_end_leaves_no_members_behind() -> None:
    """The memory of a node's members is counted over all shards, and over all lives of them."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **OPTIONS)
        await place.stable(3)
        for number in range(600):
            last = place.commit(number, group="other")
        await place.answer(last)
        place.shard.close()
        again = GroupPlace(loop, place.place, **OPTIONS)
        while not again.budget.members:
            await asyncio.sleep(0)
        assert again.shard.refusal == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        again.shard.close()
        assert (again.budget.members, again.budget.bytes) == (0, 0)

    on_loop(test)


def test_many_small_things_that_a_member_says_are_counted_with_what_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ottla.coordinator.group.member.GROUP_SOFT_BYTES", 1 << 20)

    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop, **OPTIONS)
        protocols = tuple((f"p{number}", b"") for number in range(20_000))
        refused = await place.answer(place.join(protocols=protocols, group="old"))
        assert refused.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        names = [f"t{number}" for number in range(20_000)]
        beat = await place.beaten("m", 0, topics=names, owned={}, rebalance_ms=1)
        assert beat.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE

    on_loop(test)


# -- topics that are not there


def test_members_wait_for_topics_that_do_not_exist() -> None:
    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop, **OPTIONS)
        one, two = (Consumer(place, each, topics=["a", "none"]) for each in ("one", "two"))
        for each in (one, two):
            told = await each.join()
            assert (told.error_code, each.has) == (0, {})
        await one.beat()
        assert place.consumers().state.value == "Stable"
        place.make("a", 4)
        for _ in range(4):
            await one.beat()
            await two.beat()
        assert len(one.places) == len(two.places) == 2
        assert place.consumers().state.value == "Stable"

    on_loop(test)


# -- members that die


async def keep(place: GroupPlace, leader: str, seconds: float) -> None:
    """One member of a classic group goes on, whatever the others do."""
    end = place.loop.time() + seconds
    generation = place.group().generation
    while place.loop.time() < end:
        await asyncio.sleep(2)
        beat = await place.answer(place.heartbeat(leader, generation))
        if getattr(beat, "error_code", beat) != ErrorCode.REBALANCE_IN_PROGRESS:
            continue
        answer = await place.answer(place.join(leader, rebalance_ms=9_000))
        assert answer.error_code == 0
        generation = answer.generation_id
        shares = {each.member_id: each.member_id.encode() for each in answer.members}
        synced = await place.answer(place.sync(leader, generation, shares))
        assert getattr(synced, "error_code", synced) in (0, ErrorCode.REBALANCE_IN_PROGRESS)


@pytest.mark.parametrize("steps", range(6))
def test_a_classic_member_that_dies_between_two_steps(steps: int) -> None:
    """Given an id, joined and not told, joined, synced, committed: it goes after so many steps."""

    async def test(loop: SimLoop) -> None:
        place = GroupPlace(loop, **OPTIONS)
        (leader,) = await place.stable(rebalance_ms=9_000)
        assert (await place.answer(place.commit(1, member_id=leader, generation=1))).error_code == 0
        going = loop.create_task(keep(place, leader, 40))

        async def other() -> None:
            if steps == 0:
                return
            member = await place.member(rebalance_ms=9_000)
            if steps == 1:
                return
            joining = place.join(member, rebalance_ms=9_000)
            if steps == 2:
                joining.abandon()
                return
            joined = await place.answer(joining)
            if steps == 3:
                return
            await place.answer(place.sync(member, joined.generation_id))
            if steps == 4:
                return
            commit = place.commit(7, member_id=member, generation=joined.generation_id)
            assert (await place.answer(commit)).error_code == 0

        await other()
        await going
        group = place.group()
        assert list(group.members) == [leader]
        assert (group.state.value, group.pending_ids, group.unsynced) == ("Stable", {}, {})
        assert place.committed() == (7 if steps == 5 else 1)
        assert place.budget.members == 1

    on_loop(test)


@pytest.mark.parametrize("steps", range(6))
def test_a_consumer_that_dies_between_two_steps(steps: int) -> None:
    """After it joined, was told, asked for a part back, got it, gave it up, or left for a while."""

    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop, **OPTIONS)
        a = place.make("a", 4)
        stays = Consumer(place, "stays")
        dies = Consumer(place, "dies", instance="i")
        await stays.join()
        await dies.join()
        assert dies.has == {}
        if steps >= 1:
            await stays.beat()
        if steps >= 2:
            await stays.beat()
        if steps >= 3:
            await dies.beat()
            assert len(dies.places) == 2
        if steps >= 4:
            await dies.beat(topics=["none"])
        if steps >= 5:
            assert (await place.beaten("dies", -2, instance="i")).error_code == 0
        for _ in range(SESSION_S):
            await asyncio.sleep(2)
            await stays.beat()
        assert list(place.consumers().members) == ["stays"]
        assert stays.has == {a: [0, 1, 2, 3]}
        assert place.consumers().state.value == "Stable"
        assert place.budget.members == 1

    on_loop(test)


def test_the_log_names_who_was_put_out_of_which_group(caplog: pytest.LogCaptureFixture) -> None:
    """On one line, whatever a client calls itself."""

    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop, **OPTIONS)
        (old,) = await place.stable(client_id="c\nx", group="old")
        await Consumer(place, "n" * 999).join()
        await asyncio.sleep(2 * SESSION_S)
        assert place.budget.members == 0
        lost = "of /127.0.0.1 was not heard of in time, and is out of it"
        told = [record.getMessage() for record in caplog.records if "heard" in record.getMessage()]
        assert told == [
            f"group 'old': member {old!r} {lost}",
            f"group 'g': member '{'n' * 200}' {lost}",
        ]

    caplog.set_level("INFO")
    on_loop(test)


# -- a coordinator that restarts


@pytest.mark.parametrize("how", ["restart", "append fails"])
@pytest.mark.parametrize("after", range(10))
def test_a_coordinator_that_fails_between_two_steps_of_consumers(how: str, after: int) -> None:
    """Two share, one commits, one leaves; the coordinator is lost after one of the steps. No
    partition has two owners, and no offset that was acknowledged goes back."""

    async def test(loop: SimLoop) -> None:
        place = ConsumerPlace(loop, **OPTIONS)
        a = place.make("a", 4)
        one, two = Consumer(place, "one"), Consumer(place, "two")
        acknowledged: int | None = None
        step = 0

        async def lose() -> None:
            nonlocal place, step
            step += 1
            if step - 1 != after:
                return
            image = place.image
            if how == "restart":
                await asyncio.sleep(0.01)
                place.shard.close()
                place = ConsumerPlace(loop, place.place, **OPTIONS)
                place.image = image
                one.place = two.place = place
            else:
                place.place.disk.fail_at(1)
                await place.answer(place.commit(1, group="other"))
                place.place.disk.fail_at(0)
            while place.shard.refusal:
                await asyncio.sleep(0)
            assert place.committed() == acknowledged

        for member in (one, two):
            assert (await member.join()).error_code == 0
            await lose()
        for member in (one, one, two):
            assert (await member.beat()).error_code == 0
            assert not one.places & two.places
            await lose()
        assert len(one.places) == len(two.places) == 2
        for offset in range(3):
            pending = place.commit(offset, member_id="one", generation=one.epoch, topic_id=a)
            assert (await place.answer(pending)).error_code == 0
            acknowledged = offset
            await lose()
        assert (await place.beaten("two", -1)).error_code == 0
        await lose()
        for _ in range(2):
            assert (await one.beat()).error_code == 0
        await lose()
        assert one.has == {a: [0, 1, 2, 3]}
        assert place.committed() == 2
        assert step == 10

    on_loop(test)

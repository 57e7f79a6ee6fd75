"""Whatever members do and whatever fails: the log says what memory holds, and time ends it."""

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode
from ottla.coordinator.group.classic import EMPTY, STABLE
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.sim.loop import SimLoop
from tests.coordinator.places import Asked, GroupPlace, on_loop

SLOTS = st.integers(0, 3)
GROUPS = st.sampled_from("gh")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), GROUPS, SLOTS),
        st.tuples(st.just("static"), GROUPS, SLOTS),
        st.tuples(st.just("sync"), GROUPS, SLOTS),
        st.tuples(st.just("beat"), GROUPS, SLOTS),
        st.tuples(st.just("settle"), GROUPS, SLOTS),
        st.tuples(st.just("leave"), GROUPS, SLOTS),
        st.tuples(st.just("commit"), GROUPS, SLOTS),
        st.tuples(st.just("simple"), GROUPS, SLOTS),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.003, 0.5, 4.0, 9.0]), SLOTS),
        st.tuples(st.just("fail"), GROUPS, SLOTS),
        st.tuples(st.just("restart"), GROUPS, SLOTS),
    ),
    max_size=60,
)


class Story:
    """Members at their places, who know what they were told last."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.place = GroupPlace(loop, group_initial_rebalance_delay_ms="0")
        self.ids: dict[tuple[str, int], str] = {}
        self.generations: dict[str, tuple[int, str]] = {}
        self.asked: list[Asked] = []
        self.committed = 0

    def keep(self, pending: Asked) -> Asked:
        self.asked.append(pending)
        return pending

    async def step(self, kind: str, where: Any, slot: int) -> None:
        if kind == "wait":
            await asyncio.sleep(where)
            return
        if kind == "restart":
            await asyncio.sleep(0.01)
            self.place.shard.close()
            options = {"group_initial_rebalance_delay_ms": "0"}
            self.place = GroupPlace(self.loop, self.place.place, **options)
            await self.settled()
            return
        if kind == "fail":
            self.place.place.disk.fail_at(1)
            self.keep(self.place.commit(1, group="f"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.place.place.disk.fail_at(0)
            await self.settled()
            return
        if kind == "settle":
            await self.settle(where)
            return
        self.request(kind, where, slot)

    async def settle(self, group: str) -> None:
        """Who is there goes through a generation."""
        await asyncio.sleep(0.01)
        slots = [slot for known, slot in self.ids if known == group]
        for kind in ("join", "sync"):
            for slot in slots:
                self.request(kind, group, slot)
            await asyncio.sleep(0.1)

    async def settled(self) -> None:
        while self.place.shard.refusal:
            await asyncio.sleep(0)

    def request(self, kind: str, group: str, slot: int) -> None:
        place, who = self.place, (group, slot)
        member_id = self.ids.get(who, "")
        generation = self.generations.get(member_id, (-1, ""))[0]
        if kind in ("join", "static"):
            instance = f"i{slot}" if kind == "static" else None
            said = b"%d" % (len(self.asked) % 3)
            options: dict[str, Any] = {"protocols": (("range", said), ("sticky", said))}
            options |= {"session_ms": 6_000 + len(self.asked) % 3, "rebalance_ms": 8_000}
            known = "" if kind == "static" else member_id
            pending = self.keep(place.join(known, group=group, instance=instance, **options))
            pending.future.add_done_callback(lambda future: self.joined(who, future.result()))
        elif kind == "sync":
            leader = self.generations.get(member_id, (-1, ""))[1]
            shares = {each: each.encode() for each in self.ids.values()}
            mine = shares if leader == member_id else None
            self.keep(place.sync(member_id, generation, mine, group=group))
        elif kind == "beat":
            self.keep(place.heartbeat(member_id, generation, group=group))
        elif kind == "leave":
            self.keep(place.leave(MemberIdentity(member_id=member_id), group=group))
        elif kind == "commit":
            self.committed += 1
            options = {"group": group, "generation": generation, "member_id": member_id}
            self.keep(place.commit(self.committed, partition=slot, **options))
        else:
            self.committed += 1
            self.keep(place.commit(self.committed, group=group, partition=slot))

    def joined(self, who: tuple[str, int], answer: Any) -> None:
        if isinstance(answer, ErrorCode):
            return
        if answer.error_code in (0, ErrorCode.MEMBER_ID_REQUIRED):
            self.ids[who] = answer.member_id
            if not answer.error_code:
                self.generations[answer.member_id] = (answer.generation_id, answer.leader)
        else:
            self.ids.pop(who, None)


def durable(place: GroupPlace) -> dict[str, Any]:
    """What the log must know: offsets, and groups that are at rest."""
    content: dict[str, Any] = {}
    for group_id in place.machine.groups.ids():
        offsets = {k: v for k, v in place.machine.groups.offsets(group_id).items()}
        group = place.machine.groups.find(group_id)
        assert group is not None
        record = None
        if group.is_durable and group.state in (STABLE, EMPTY):
            record = group.record()
        if offsets or record:
            content[group_id] = (offsets, record)
    return content


def check_counts(place: GroupPlace) -> None:
    members = bytes_ = 0
    for group in place.machine.groups.joined():
        assert group.joined_count == sum(m.join is not None for m in group.members.values())
        assert set(group.unsynced) <= set(group.members)
        assert set(group.static_ids.values()) <= set(group.members)
        assert group.leader is None or group.leader in group.members
        assert bool(group.members) == (group.leader is not None)
        if group.state in (STABLE, EMPTY):
            assert group.joined_count == 0
        members += len(group.members) + len(group.pending_ids)
        bytes_ += sum(m.size_bytes for m in group.members.values())
        bytes_ += sum(map(len, group.pending_ids))
    assert (place.budget.members, place.budget.bytes) == (members, bytes_)


@settings(deadline=None, max_examples=150)
@given(STEPS)
@example(
    [("join", "g", 0), ("settle", "g", 0), ("beat", "h", 0), ("beat", "h", 0), ("settle", "g", 0)]
)
def test_the_log_says_what_memory_holds(steps: list[Any]) -> None:
    async def test(loop: SimLoop) -> None:
        story = Story(loop)
        for step in steps:
            await story.step(*step)
            check_counts(story.place)
        await asyncio.sleep(0.01)
        live = durable(story.place)
        again = GroupPlace(loop, story.place.place)
        while again.shard.refusal:
            await asyncio.sleep(0)
        replayed = durable(again)
        for group_id, (offsets, record) in live.items():
            assert replayed[group_id][0] == offsets
            if record is not None:
                assert replayed[group_id][1] == record
        assert {g for g, (offsets, _) in replayed.items() if offsets} == {
            g for g, (offsets, _) in live.items() if offsets
        }
        again.shard.close()
        # Everybody is gone: every request has its answer, and nothing is kept of members.
        await asyncio.sleep(600)
        assert all(pending.future.done() for pending in story.asked)
        check_counts(story.place)
        assert story.place.budget.members == 0
        for group in story.place.machine.groups.joined():
            assert group.state is EMPTY
            assert group.is_durable

    on_loop(test)

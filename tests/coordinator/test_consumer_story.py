"""Whatever members of both protocols do and whatever fails: nobody shares a partition, the log says
what memory holds, and it settles with everything assigned."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.coordinator.group.classic import STABLE
from ottla.protocol.consumer_protocol import assignment_bytes, read_assignment
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.protocol.messages.sync_group import SyncGroupResponse
from ottla.sim.loop import SimLoop
from tests.coordinator.consumers import Consumer, ConsumerPlace, durable, subscription
from tests.coordinator.places import Asked, on_loop

OPTIONS = {
    "group_initial_rebalance_delay_ms": "0",
    "group_consumer_assignment_interval_ms": "100",
}
REJOINING = (
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
)
SLOTS = st.integers(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["new", "new", "old", "static", "leave", "crash"]), SLOTS),
        st.tuples(st.sampled_from(["beat", "beat", "beat", "round", "lazy"]), SLOTS),
        st.tuples(st.sampled_from(["grow", "drop", "read a", "read b", "read all"]), SLOTS),
        st.tuples(st.sampled_from(["fail", "restart", "wait", "long wait"]), SLOTS),
    ),
    max_size=40,
)


class Old:
    """A client of the classic protocol that gives up everything before it joins (eager)."""

    def __init__(self, place: ConsumerPlace, client_id: str) -> None:
        self.place = place
        self.client_id = client_id
        self.id = ""
        self.generation = -1
        self.topics = ["a", "b"]
        self.has: dict[Uuid, list[int]] = {}
        self.pending: Asked | None = None
        self.is_syncing = False

    @property
    def places(self) -> set[tuple[Uuid, int]]:
        return {(topic, index) for topic, parts in self.has.items() for index in parts}

    def rejoin(self) -> None:
        self.has = {}
        self.is_syncing = False
        self.pending = self.place.join(
            self.id,
            protocols=(("range", subscription(*self.topics)),),
            client_id=self.client_id,
            session_ms=45_000,
        )

    async def beat(self) -> None:
        """Go on from whatever was answered since."""
        if self.pending is not None:
            for _ in range(20):
                if self.pending.future.done():
                    break
                await asyncio.sleep(0.001)
            if not self.pending.future.done():
                return
            self._take(self.pending.future.result())
            return
        code = await self.place.answer(self.place.heartbeat(self.id, self.generation))
        code = getattr(code, "error_code", code)
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self.id = "" if code == ErrorCode.UNKNOWN_MEMBER_ID else self.id
        if code not in (0, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
            self.rejoin()

    def _take(self, answer: Any) -> None:
        code = answer if isinstance(answer, ErrorCode) else answer.error_code
        self.pending = None
        if isinstance(answer, JoinGroupResponse) and code in (0, ErrorCode.MEMBER_ID_REQUIRED):
            self.id = answer.member_id
            if code == 0:
                self.generation = answer.generation_id
                self._sync(answer)
                return
        if isinstance(answer, SyncGroupResponse) and code == 0:
            rows = read_assignment(answer.assignment).assigned_partitions
            by_name = self.place.image.topics
            self.has = {
                by_name[row.topic].id: row.partitions for row in rows if row.topic in by_name
            }
            return
        if code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.id = ""
        self.rejoin()

    def _sync(self, joined: JoinGroupResponse) -> None:
        """The leader of a classic group gives everything to the first member."""
        assignments = None
        if joined.leader == joined.member_id and joined.members:
            counts = {name: len(t.partitions) for name, t in self.place.image.topics.items()}
            share = {name: list(range(count)) for name, count in counts.items()}
            assignments = {each.member_id: b"" for each in joined.members}
            assignments[self.id] = assignment_bytes(share, 1)
        self.pending = self.place.sync(self.id, self.generation, assignments)


class Story:
    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.place = ConsumerPlace(loop, **OPTIONS)
        self.members: dict[int, Consumer | Old] = {}
        self.ids = 0
        self.place.make("a", 2)

    async def step(self, kind: str, slot: int) -> None:
        known = self.members.get(slot)
        if kind in ("new", "static") and known is None:
            self.ids += 1
            options: dict[str, Any] = {"topics": ["a", "b"]}
            if kind == "static":
                options["instance"] = f"i{slot}"
            made = Consumer(self.place, f"m{self.ids}", **options)
            if (await made.join()).error_code == 0:
                self.members[slot] = made
        elif kind == "old" and known is None:
            old = self.members[slot] = Old(self.place, f"c{slot}")
            old.rejoin()
        elif kind in ("leave", "crash") and known is not None:
            del self.members[slot]
            if kind == "leave":
                await self.leave(known)
        elif kind == "beat" and known is not None:
            await self.beat(slot)
        elif kind == "round":
            await self.round()
        elif kind == "lazy" and isinstance(known, Consumer):
            known.is_lazy = not known.is_lazy
        elif kind in ("read a", "read b", "read all") and isinstance(known, Consumer):
            topics = {"read a": ["a"], "read b": ["b"]}.get(kind, ["a", "b"])
            known.options["topics"] = topics
            await self.beat(slot, topics=topics)
        else:
            await self.change(kind, slot)

    async def change(self, kind: str, slot: int) -> None:
        if kind == "grow":
            name = "ab"[slot % 2]
            topic = self.place.image.topics.get(name)
            self.place.make(name, 1 + (len(topic.partitions) if topic else 0))
        elif kind == "drop":
            self.place.drop("b")
        elif kind == "wait":
            await asyncio.sleep(0.2)
        elif kind == "long wait":
            for _ in range(5):
                await asyncio.sleep(10)
                await self.round()
        elif kind == "restart":
            await self.restart()
        elif kind == "fail":
            self.place.place.disk.fail_at(1)
            if slot in self.members:
                await self.beat(slot)
            else:
                await self.place.answer(self.place.commit(1, group="f"))
            self.place.place.disk.fail_at(0)
            while self.place.shard.refusal:
                await asyncio.sleep(0)

    async def leave(self, member: Consumer | Old) -> None:
        if isinstance(member, Consumer):
            await self.place.beaten(member.id, -1, instance=member.options.get("instance"))
        elif member.id:
            await self.place.answer(self.place.leave(MemberIdentity(member_id=member.id)))

    async def beat(self, slot: int, **options: Any) -> None:
        member = self.members[slot]
        if isinstance(member, Old):
            await member.beat()
            return
        code = (await member.beat(**options)).error_code
        if code in REJOINING:
            await member.join()
        elif code in (ErrorCode.FENCED_INSTANCE_ID, ErrorCode.UNRELEASED_INSTANCE_ID):
            del self.members[slot]

    async def round(self) -> None:
        for slot in list(self.members):
            if slot in self.members:
                await self.beat(slot)
        self.check()

    async def restart(self) -> None:
        await asyncio.sleep(0.01)
        before = self.groups()
        image = self.place.image
        self.place.shard.close()
        self.place = ConsumerPlace(self.loop, self.place.place, **OPTIONS)
        self.place.image = image
        await asyncio.sleep(1)
        assert self.groups() == before, "what the log says"
        for member in self.members.values():
            member.place = self.place

    def groups(self) -> Any:
        group = self.place.machine.groups.find_consumer("g")
        return None if group is None else durable(group)

    def check(self) -> None:
        """Nobody has what another one has, whatever either has been told."""
        group = self.place.machine.groups.find_consumer("g")
        if group is None:
            return
        seen: dict[tuple[Uuid, int], str] = {}
        for member in group.members.values():
            for held in (member.assigned, member.revoking):
                for topic, indexes in held.items():
                    for index in indexes:
                        assert seen.setdefault((topic, index), member.id) == member.id
        assert seen == group.owners


async def told_and_done(loop: SimLoop, steps: list[tuple[str, int]]) -> None:
    story = Story(loop)
    for kind, slot in steps:
        await story.step(kind, slot)
        story.check()
    for member in story.members.values():
        if isinstance(member, Consumer):
            member.is_lazy = False
    for _ in range(40):
        await asyncio.sleep(3)
        await story.round()
    group = story.place.machine.groups.find_consumer("g")
    classic = story.place.machine.groups.find("g")
    if not story.members:
        assert group is None or not group.members
        assert classic is None or not classic.members
    elif group is not None:
        assert group.state.value == "Stable", group.members
        read = group.subscribed_topics()
        topics = [t for name, t in story.place.image.topics.items() if name in read]
        everything = {(topic.id, each.index) for topic in topics for each in topic.partitions}
        found = [place for member in story.members.values() for place in member.places]
        assert sorted(found) == sorted(everything)
        assert len(group.members) == len(story.members)
    else:
        assert classic is not None
        assert classic.is_in(STABLE)
        assert len(classic.members) == len(story.members)
    await story.restart()


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_any_story_ends_well(steps: list[tuple[str, int]]) -> None:
    on_loop(lambda loop: told_and_done(loop, steps))

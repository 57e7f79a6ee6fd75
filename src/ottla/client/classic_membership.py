"""The driver of a member with the classic protocol: a generation after another.

    give up what must be before joining ─> JoinGroup ─> (the leader assigns) ─> SyncGroup
      ─> give up what is gone, take what came ─> heartbeats, until something calls for a rejoin

Heartbeats run beside whatever takes time while the generation stands; a member that waits for
the answer to its join or sync is known to be alive. Between join and sync commits would be
refused, so they wait (`settled`).

A rejoin is called for by the coordinator (a heartbeat), by a subscription that has changed or
whose pattern matches other topics, and, at the leader, by topics that have more partitions.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.classic_member import ClassicMember, Turn
from ottla.client.errors import RETRIABLE, NoBrokersError
from ottla.client.membership import Membership, OutOfGroupError, StalledError
from ottla.client.offsets import GroupMetadata
from ottla.protocol.messages.heartbeat import HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupResponse
from ottla.protocol.messages.sync_group import SyncGroupResponse

_log = logging.getLogger(__name__)

T = TypeVar("T")

JOIN_LATE_MS = 5_000
"""How much later than the rebalance timeout a join may be answered."""
LOOKS = 3
"""How often a leader asks for topics of which it is told nothing, before it assigns without."""
LOOK_S = 1.0
"""How often it looks for topics that do not exist (yet)."""


class ClassicMembership(Membership):
    protocol: ClassVar[str] = "classic"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._member = ClassicMember(self._settings)
        self._is_settled = asyncio.Event()
        self._is_settled.set()
        self._must_rejoin = False
        self._topics: list[str] = []
        """What it last joined with."""
        self._counts: Mapping[str, int] = {}
        """Of the leader: how many partitions the group's topics had when it assigned them."""

    def metadata(self) -> GroupMetadata:
        return self._member.metadata

    async def settled(self) -> None:
        await self._is_settled.wait()

    async def leave(self) -> None:
        """A static member goes without a word: it may come back within its session."""
        if not self._member.id or self._settings.group_instance_id is not None:
            return
        await self._say_last(self._member.leave_request, LeaveGroupResponse)

    # ---- a generation

    async def _live(self) -> None:
        try:
            await self._learn_all()
            while True:
                await self._generation()
        except StalledError:
            await self.leave()
            self._member.id, self._member.generation = "", -1
            raise
        finally:
            self._is_settled.set()

    async def stop(self) -> None:
        is_joining = not self._is_settled.is_set()
        await super().stop()
        if is_joining:
            # What is said on that connection would wait behind the join.
            self._cluster.hang_up_apart()

    async def _generation(self) -> None:
        self._counts = {}
        self._topics = self._names()
        owned = self._ownership.keys
        leaving = [key for key in owned if self._member.is_eager or key.topic not in self._topics]
        if leaving:
            await self._beating(self._ownership.give_up(leaving))
        self._is_settled.clear()
        assignment = await self._join_and_sync()
        self._is_settled.set()
        if assignment is None:
            return
        if await self._beating(self._adopt(assignment)):
            return
        await self._beating(self._wait_rejoin())

    def _names(self) -> list[str]:
        """The topics subscribed to; KafkaError for one that the cluster refuses."""
        for name in self._subscription.topics:
            code = self._cluster.topic_errors.get(name, ErrorCode.NONE)
            if code and code not in RETRIABLE:
                raise KafkaError(code, f"topic {name!r}: {code.name}")
        return self._subscription.names(self._cluster.topics)

    async def _join_and_sync(self) -> list[TopicPartition] | None:
        """The assignment; None where it has to join again."""
        member, settings = self._member, self._settings
        response = await self._ask(
            lambda: member.join_request(self._topics, self._ownership.keys),
            JoinGroupResponse,
            max(settings.request_timeout_ms, settings.max_poll_interval_ms + JOIN_LATE_MS),
        )
        if not self._may_go_on(member.joined(response)):
            if response.error_code != ErrorCode.MEMBER_ID_REQUIRED:
                await asyncio.sleep(settings.retry_backoff_ms / 1_000)
            return None
        self._must_rejoin = False  # what heartbeats said before was about this join
        assignments = await self._assign(response) if member.is_leader else {}
        synced = await self._ask(lambda: member.sync_request(assignments), SyncGroupResponse)
        if not self._may_go_on(member.turn(synced.error_code)):
            await asyncio.sleep(settings.retry_backoff_ms / 1_000)
            return None
        assignment = member.synced(synced)
        _log.info(
            "group %s: %s in generation %d: %s",
            settings.group_id,
            member.id,
            member.generation,
            ", ".join(map(str, assignment)) or "nothing",
        )
        return assignment

    async def _assign(self, response: JoinGroupResponse) -> dict[str, bytes]:
        members = self._member.members_of(response)
        names = sorted({name for view in members.values() for name in view.topics})
        await self._learn(names)
        self._counts = self._counts_of(names)
        if response.skip_assignment:
            return {}
        return self._member.assign(members, {n: c for n, c in self._counts.items() if c})

    async def _learn(self, names: Sequence[str]) -> None:
        """Ask for the topics of the group that are not known; there may be none of that name."""
        cluster = self._cluster
        cluster.want(names)
        for _ in range(LOOKS):
            if all(name in cluster.topics or name in cluster.topic_errors for name in names):
                return
            try:
                await cluster.refresh()
            except NoBrokersError as failure:
                _log.info("group %s: %s", self._settings.group_id, failure)

    def _counts_of(self, names: Iterable[str]) -> dict[str, int]:
        topics = self._cluster.topics
        return {name: len(topics[name]) if name in topics else 0 for name in names}

    def _may_go_on(self, turn: Turn) -> bool:
        if turn is Turn.OUT:
            raise OutOfGroupError("the coordinator does not know this member or its generation")
        return turn is Turn.GO_ON

    async def _adopt(self, assignment: list[TopicPartition]) -> bool:
        """Read what was assigned and nothing else; whether something was given up, so that the
        others can have it after another round."""
        gone = [key for key in self._ownership.keys if key not in assignment]
        await self._ownership.give_up(gone)
        await self._ownership.take(assignment)
        return bool(gone)

    # ---- while it stands

    async def _beating(self, step: Coroutine[Any, Any, T]) -> T:
        """A step of a member, with heartbeats beside it."""
        return await self._both(step, self._beat())

    async def _beat(self) -> None:
        interval_s = self._settings.heartbeat_interval_ms / 1_000
        interval_s = min(interval_s, self._settings.max_poll_interval_ms / 2_000)
        while True:
            await asyncio.sleep(interval_s)
            self._check_reader()
            if self._member.generation < 0:
                continue
            response = await self._ask(self._member.heartbeat_request, HeartbeatResponse)
            turn = self._member.turn(response.error_code)
            if turn is Turn.REJOIN:
                self._must_rejoin = True
                self._woken.set()
            else:
                self._may_go_on(turn)

    async def _wait_rejoin(self) -> None:
        while not self._must_rejoin:
            topics = self._names()
            if topics != self._topics or self._counts != self._counts_of(self._counts):
                return
            is_missing = not all(self._counts.values())
            await self._sleep(self._woken, LOOK_S if is_missing else 3_600.0)
            if is_missing:
                self._cluster.refresh_soon()

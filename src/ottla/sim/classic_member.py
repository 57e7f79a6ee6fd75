"""A scripted member of a group with the classic protocol: it joins, the leader assigns, it sends
heartbeats, and gives up everything before it joins again.

Its life ends where it is told that it is no member, leaves, or is gone without a word.
"""

import asyncio
from typing import Any, Final

from ottla.base.errors import ErrorCode
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    assignment_bytes,
    read_assignment,
    written,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from ottla.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
)
from ottla.protocol.messages.offset_commit import OffsetCommitResponse
from ottla.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from ottla.sim.group_member import BEAT_S, REBALANCE_MS, SESSION_MS, GroupMember, Out
from ottla.sim.stubborn import Told

AGAIN: Final = (ErrorCode.REBALANCE_IN_PROGRESS,)
OVER: Final = (
    ErrorCode.ILLEGAL_GENERATION,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.STALE_MEMBER_EPOCH,
)


class ClassicMember(GroupMember):
    async def take_part(self) -> None:
        self.id = ""
        while True:
            self.give_up(list(self.held))
            if not await self._sync(await self._join()):
                continue
            await self.find_positions()
            while await self._beat():
                if self.is_unsteady():
                    await self._leave()
                await self.move_on()
                await asyncio.sleep(self.rng.uniform(*BEAT_S))

    # ---- a generation

    async def _join(self) -> JoinGroupResponse:
        content = written(ConsumerProtocolSubscription(topics=[self.topic.name]), 1)
        while True:
            request = JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                member_id=self.id,
                group_instance_id=self.instance_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=content)],
            )
            version = self.rng.choice([5, 7, 9])
            told = await self.stubborn.ask(
                request, version, JoinGroupResponse, lambda each: each.error_code, goes_on=False
            )
            if told.code is ErrorCode.MEMBER_ID_REQUIRED and told.response is not None:
                self.id = told.response.member_id
            elif told.code not in AGAIN:
                break
        self._judge(told, "JoinGroup")
        assert told.response is not None
        self.id, self.epoch = told.response.member_id, told.response.generation_id
        return told.response

    async def _sync(self, joined: JoinGroupResponse) -> bool:
        """Whether it has a part in the generation."""
        assignments = []
        if joined.leader == self.id and not joined.skip_assignment:
            members = sorted(member.member_id for member in joined.members)
            for number, member_id in enumerate(members):
                mine = [index for _, index in self.topic.partitions][number :: len(members)]
                part = assignment_bytes({self.topic.name: mine}, 1)
                row = SyncGroupRequestAssignment(member_id=member_id, assignment=part)
                assignments.append(row)
        request = SyncGroupRequest(
            group_id=self.group,
            generation_id=self.epoch,
            member_id=self.id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=assignments,
        )
        asked_at = self.now()
        version = self.rng.choice([3, 5])
        told = await self.stubborn.ask(
            request, version, SyncGroupResponse, lambda each: each.error_code, goes_on=False
        )
        if told.code in AGAIN:
            return False
        self._judge(told, "SyncGroup")
        assert told.response is not None
        self.prove(asked_at)
        rows = read_assignment(told.response.assignment).assigned_partitions
        self.take((self.topic.id, index) for row in rows for index in row.partitions)
        return True

    async def _beat(self) -> bool:
        """Whether the generation goes on."""
        request = HeartbeatRequest(
            group_id=self.group,
            generation_id=self.epoch,
            member_id=self.id,
            group_instance_id=self.instance_id,
        )
        asked_at = self.now()
        told = await self.stubborn.ask(
            request, 4, HeartbeatResponse, lambda each: each.error_code, goes_on=False
        )
        if told.code in AGAIN:
            if self.rng.random() < 0.5:
                await self.move_on()
            return False
        self._judge(told, "Heartbeat")
        self.prove(asked_at)
        return True

    async def _leave(self) -> None:
        """Out, with a word or without."""
        self.give_up(list(self.held))
        if self.rng.random() < 0.5 and self.instance_id is None:
            request = LeaveGroupRequest(
                group_id=self.group, members=[MemberIdentity(member_id=self.id)]
            )
            await self.stubborn.ask(request, 5, LeaveGroupResponse, lambda each: each.error_code)
        raise Out

    # ---- what it is told

    def _judge(self, told: Told[Any], api: str) -> None:
        if told.code is ErrorCode.NONE and told.response is not None:
            return
        if told.response is not None and told.code not in OVER:
            self.surprise(api, told.code)
        raise Out(may_linger=told.is_doubtful)

    def judge_commit(self, told: Told[OffsetCommitResponse]) -> None:
        if told.code not in AGAIN:
            self._judge(told, "OffsetCommit")

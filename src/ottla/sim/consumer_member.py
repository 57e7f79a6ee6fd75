"""A scripted member of a group with the new protocol (KIP-848): its heartbeats say what it has, and
are told what it should have. What is taken from it, it commits and gives up first.

Its life ends where it is told that it is no member, leaves, or is gone without a word.
"""

import asyncio
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.protocol.messages.offset_commit import OffsetCommitResponse
from ottla.sim.group_member import BEAT_S, REBALANCE_MS, GroupMember, Out
from ottla.sim.history import Key
from ottla.sim.stubborn import Told

LEAVE: Final = -1
LEAVE_FOR_A_WHILE: Final = -2
OVER: Final = (
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.UNRELEASED_INSTANCE_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
)


class ConsumerMember(GroupMember):
    async def take_part(self) -> None:
        self.id = f"{self.rng.randbytes(8).hex()}"
        self.epoch = 0
        self._wanted: list[Key] = []
        self._is_unsure = True
        while True:
            await self._beat()
            await self._reconcile()
            await self.find_positions()
            if self.is_unsteady():
                await self._leave()
            await self.move_on()
            await asyncio.sleep(self.rng.uniform(*BEAT_S))

    async def _beat(self) -> None:
        """Tell what it has, and take what it is told. Where an answer may have been lost it asks
        anew for all: until then it may have been told to give something back."""
        request = self._request(self.epoch)
        request.topic_partitions = self._rows()
        if self._is_unsure:
            request.rebalance_timeout_ms = REBALANCE_MS
            request.subscribed_topic_names = [self.topic.name]
        asked_at = self.now()
        told = await self._ask(request)
        if told.code is not ErrorCode.NONE or told.response is None:
            if told.response is not None and told.code not in OVER:
                self.surprise("ConsumerGroupHeartbeat", told.code)
            raise Out(may_linger=told.is_doubtful)
        self._is_unsure = told.is_doubtful
        if not told.is_doubtful:
            self.prove(asked_at)
        self.epoch = told.response.member_epoch
        if told.response.assignment is not None:
            rows = told.response.assignment.topic_partitions
            self._wanted = [(self.topic.id, index) for row in rows for index in row.partitions]

    async def _reconcile(self) -> None:
        revoked = [key for key in self.held if key not in self._wanted]
        if revoked:
            if self.rng.random() < 0.7:
                await self.commit(revoked)
            self.give_up(revoked)
        self.take(self._wanted)

    async def _leave(self) -> None:
        """Out, with a word or without."""
        self.give_up(list(self.held))
        if self.rng.random() < 0.6:
            epoch = LEAVE if self.instance_id is None else LEAVE_FOR_A_WHILE
            await self._ask(self._request(epoch))
        raise Out

    # ---- what it says

    def _request(self, epoch: int) -> ConsumerGroupHeartbeatRequest:
        return ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=self.id,
            member_epoch=epoch,
            instance_id=self.instance_id,
        )

    def _rows(self) -> list[TopicPartitions]:
        if not self.held:
            return []
        indexes = sorted(index for _, index in self.held)
        return [TopicPartitions(topic_id=Uuid(self.topic.id), partitions=indexes)]

    async def _ask(
        self, request: ConsumerGroupHeartbeatRequest
    ) -> Told[ConsumerGroupHeartbeatResponse]:
        return await self.stubborn.ask(
            request,
            1,
            ConsumerGroupHeartbeatResponse,
            lambda each: each.error_code,
            goes_on=False,
        )

    def judge_commit(self, told: Told[OffsetCommitResponse]) -> None:
        if told.code is ErrorCode.STALE_MEMBER_EPOCH:
            return
        if told.code is not ErrorCode.NONE:
            if told.response is not None and told.code not in OVER:
                self.surprise("OffsetCommit", told.code)
            raise Out

"""The driver of a member with the protocol of KIP-848: heartbeats, and beside them whatever the
coordinator's assignment asks for.

    heartbeat ─> another target ─> give up what is not in it ─> take what is new in it
        ^                                                              │
        └───────── at once, with what is owned now <───────────────────┘

Partitions whose topic is not known by its id yet are taken when it is; what is known goes first.
"""

import asyncio
import logging
from typing import Any, ClassVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.consumer_member import ConsumerMember, Place
from ottla.client.errors import NoBrokersError
from ottla.client.membership import AGAIN, Membership, OutOfGroupError, StalledError
from ottla.client.offsets import GroupMetadata
from ottla.client.subscription import Subscription
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatResponse
from ottla.rpc.errors import RpcError

_log = logging.getLogger(__name__)


class ConsumerMembership(Membership):
    protocol: ClassVar[str] = "consumer"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._member = ConsumerMember(self._settings, self._cluster.world.rng)
        self._owned: dict[TopicPartition, Place] = {}
        self._told = asyncio.Event()
        """There is something to say before the next heartbeat is due."""

    def metadata(self) -> GroupMetadata:
        return self._member.metadata

    def subscribe(self, subscription: Subscription) -> None:
        super().subscribe(subscription)
        self._told.set()

    async def leave(self) -> None:
        if self._member.epoch > 0:
            request = self._member.leaving()
            await self._say_last(lambda _: request, ConsumerGroupHeartbeatResponse)

    async def _live(self) -> None:
        self._owned.clear()
        try:
            await self._both(self._reconcile(), self._beat())
        except StalledError:
            await self.leave()
            raise

    async def _beat(self) -> None:
        while True:
            self._check_reader()
            response = await self._ask(self._heartbeat, ConsumerGroupHeartbeatResponse)
            before = self._member.target
            if not self._member.answered(response):
                name = ErrorCode(response.error_code).name
                raise OutOfGroupError(f"{name}: {response.error_message or 'out of the group'}")
            if self._member.target != before:
                self._woken.set()
            interval_ms = min(
                self._member.heartbeat_interval_ms, self._settings.max_poll_interval_ms // 2
            )
            await self._sleep(self._told, interval_ms / 1_000)

    def _heartbeat(self) -> Any:
        return self._member.heartbeat(self._subscription, self._owned.values())

    async def _ask_once(self, request: Any, expected: Any, timeout_ms: int | None) -> Any:
        try:
            return await super()._ask_once(request, expected, timeout_ms)
        except (RpcError, NoBrokersError, KafkaError) as failure:
            if not isinstance(failure, KafkaError) or failure.code in AGAIN:
                self._member.not_answered()
            raise

    async def _reconcile(self) -> None:
        while True:
            target = self._member.target
            if target is None:
                await self._woken.wait()
                self._woken.clear()
                continue
            wanted: dict[TopicPartition, Place] = {}
            for topic_id, index in sorted(target):
                name = self._cluster.name_of(topic_id)
                if name is not None:
                    wanted[TopicPartition(name, PartitionIndex(index))] = topic_id, index
            gone = [key for key, place in self._owned.items() if wanted.get(key) != place]
            come = [key for key, place in wanted.items() if self._owned.get(key) != place]
            if gone or come:
                _log.info("group %s: epoch %d", self._settings.group_id, self._member.epoch)
                await self._ownership.lose([key for key in gone if key in wanted])  # made anew
                await self._ownership.give_up(gone)
                for key in gone:
                    del self._owned[key]
            if come and target == self._member.target:
                await self._ownership.take(come)
                self._owned.update((key, wanted[key]) for key in come)
            if gone or come:
                self._told.set()
                continue
            if len(wanted) < len(target):
                self._cluster.refresh_soon()
            await self._sleep(self._woken, 3_600.0)

"""The group coordinator of a node: `__consumer_offsets`, and the way from a group to its shard.

The topic is made when somebody first asks for a coordinator. It has as many replicas as
`offsets.topic.replication.factor` says and brokers are there: a cluster smaller than that serves
groups all the same, where Kafka would not.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.base.options import BrokerSettings
from ottla.base.world import World
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.member import Budget
from ottla.coordinator.machine import Operation
from ottla.coordinator.pending import Pending
from ottla.coordinator.runtime import CoordinatorRuntime
from ottla.coordinator.shard import Shard
from ottla.metadata.controller import Controller
from ottla.metadata.delta import Delta
from ottla.metadata.image import ClusterImage
from ottla.metadata.topic_names import CONSUMER_OFFSETS
from ottla.records.control import Marker
from ottla.replica.manager import ReplicaManager

logger = logging.getLogger(__name__)

GroupOperation = Operation[GroupMachine]


class GroupCoordinator:
    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        replicas: ReplicaManager,
        controller: Controller,
        settings: Callable[[], BrokerSettings],
    ) -> None:
        budget = Budget()
        self._controller = controller
        self._settings = settings
        self._runtime = CoordinatorRuntime(
            CONSUMER_OFFSETS,
            world,
            loop,
            replicas,
            lambda host: GroupMachine(host, world.rng, settings, budget, self.image),
            commit_timeout_ms=lambda: settings().offsets_commit_timeout_ms,
        )
        self._image: ClusterImage

    def image(self) -> ClusterImage:
        return self._image

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        """Told of every image, behind the replica manager."""
        self._image = image
        self._runtime.follow(delta, image)
        gone = {
            topic.name: topic.id for topic in delta.topics_deleted if topic.name != CONSUMER_OFFSETS
        }
        if gone:
            for index in self._runtime.indexes:
                self._runtime.perform(
                    index, lambda machine, now_ms: machine.forget_topics(gone, now_ms)
                )

    async def node_of(self, group_id: str) -> NodeId:
        """The node that coordinates a group. KafkaError COORDINATOR_NOT_AVAILABLE."""
        if CONSUMER_OFFSETS not in self._image.topics:
            await self.make_topic()
        return self._runtime.node_of(group_id, self._image)

    async def make_topic(self) -> None:
        """KafkaError COORDINATOR_NOT_AVAILABLE where it cannot be made now."""
        settings = self._settings()
        try:
            await self._controller.create_topic(
                CONSUMER_OFFSETS,
                partitions=settings.offsets_topic_num_partitions,
                replication_factor=min(
                    settings.offsets_topic_replication_factor, len(self._image.brokers)
                ),
                configs={
                    "cleanup.policy": "compact",
                    "compression.type": "producer",
                    "segment.bytes": str(settings.offsets_topic_segment_bytes),
                },
            )
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                logger.warning("%s cannot be made: %s", CONSUMER_OFFSETS, error)
                raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE) from error

    def perform(self, group_id: str, operation: GroupOperation, pending: Pending) -> None:
        self._runtime.perform(self._runtime.shard_of(group_id), operation, pending)

    async def ask(self, group_id: str, operation: GroupOperation) -> Any:
        """The response of an operation on the shard of a group; KafkaError."""
        return await self._runtime.ask(self._runtime.shard_of(group_id), operation)

    async def ask_all(self, operation: GroupOperation) -> list[Any]:
        """The response of each shard of this node; KafkaError while one of them loads."""
        return await self._runtime.ask_all(operation)

    def shard_of(self, group_id: str) -> int:
        """The partition of the topic that holds a group; -1 while there is no topic."""
        return self._runtime.shard_of(group_id)

    @property
    def shards(self) -> list[Shard[GroupMachine]]:
        return self._runtime.shards

    def end_transaction(
        self,
        index: int,
        marker: Marker,
        producer: tuple[int, int],
        pending: Pending,
        *,
        is_bumped: bool,
    ) -> None:
        """What a producer committed in a transaction counts from now on, or never did."""
        self._runtime.end_transaction(index, marker, producer, pending, is_bumped=is_bumped)

    async def wait_loaded(self, timeout_s: float) -> None:
        await self._runtime.wait_loaded(timeout_s)

    def close(self) -> None:
        self._runtime.close()

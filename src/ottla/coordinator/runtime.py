"""The coordinator of one internal topic: a shard for each of its partitions that this node leads.

A key belongs to the partition `abs(hashCode) mod partitions`, with Java's hash of a text, so that
every Kafka broker and tool agrees on it. The count of partitions is the one that the topic had
when it was first seen: more of them would move every key, and take effect at the next start.

`follow` is told of every change of the image, behind the replica manager: shards come with the
topic's partitions and go with them.
"""

import asyncio
import logging
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Generic, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import World
from ottla.coordinator.pending import Pending
from ottla.coordinator.shard import Host, Machine, Operation, Shard
from ottla.metadata.delta import Delta
from ottla.metadata.image import ClusterImage
from ottla.replica.manager import ReplicaManager

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Machine[Any])
_UNIT: Final = Struct(">H")


class CoordinatorRuntime(Generic[M]):
    def __init__(
        self,
        topic: str,
        world: World,
        loop: asyncio.AbstractEventLoop,
        replicas: ReplicaManager,
        make_machine: Callable[[Host], M],
        *,
        commit_timeout_ms: Callable[[], int],
    ) -> None:
        self.topic = topic
        self._world = world
        self._loop = loop
        self._replicas = replicas
        self._make_machine = make_machine
        self._commit_timeout_ms = commit_timeout_ms
        self._shards: dict[int, Shard[M]] = {}
        self._partition_count = 0

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        if any(topic.name == self.topic for topic in delta.topics_deleted):
            self.close()
        topic = image.topics.get(self.topic)
        if topic is None:
            return
        self._partition_count = self._partition_count or len(topic.partitions)
        for change in delta.partitions_added:
            if change.topic.name == self.topic and change.new.index < self._partition_count:
                self._open(change.new.index)

    def _open(self, index: int) -> None:
        try:
            partition = self._replicas.leader_of(self.topic, index)
        except KafkaError as error:
            if error.code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                logger.error("%s-%d has no coordinator: %s", self.topic, index, error)
            return
        self._shards[index] = Shard(
            self._world, self._loop, partition, self._make_machine, self._commit_timeout_ms
        )

    def shard_of(self, key: str) -> int:
        """The partition that `key` belongs to; -1 while there is no topic."""
        return partition_of(key, self._partition_count) if self._partition_count else -1

    @property
    def shards(self) -> dict[int, Shard[M]]:
        """Those of this node, by partition."""
        return self._shards

    def perform(self, index: int, operation: Operation[M], pending: Pending | None = None) -> None:
        """Run an operation on a shard; `pending` is told where it is not this node's."""
        shard = self._shards.get(index)
        if shard is not None:
            shard.perform(operation, pending)
        elif pending is not None:
            pending.fail(ErrorCode.NOT_COORDINATOR)

    async def ask(self, index: int, operation: Operation[M]) -> Any:
        """The response of an operation; KafkaError where there is none."""
        future: asyncio.Future[Any] = self._loop.create_future()
        pending = Pending(KafkaError)

        def answered(answer: Any) -> None:
            if not future.done():
                future.set_result(answer)

        pending.on_complete = answered
        self.perform(index, operation, pending)
        answer = await future
        if isinstance(answer, KafkaError):
            raise answer
        return answer

    def close(self) -> None:
        """Answer everybody who waits, and end all shards."""
        shards, self._shards = self._shards, {}
        self._partition_count = 0
        for shard in shards.values():
            shard.close()


def partition_of(key: str, count: int) -> int:
    """Kafka's `Utils.abs(key.hashCode()) % count`."""
    number = java_hash(key)
    return 0 if number == -(1 << 31) else abs(number) % count


def java_hash(text: str) -> int:
    """Java's `String.hashCode`: over UTF-16 code units, in 32 signed bits."""
    units = text.encode("utf-16-be", "surrogatepass")
    number = 0
    for (unit,) in _UNIT.iter_unpack(units):
        number = (31 * number + unit) & 0xFFFF_FFFF
    return number - (1 << 32) if number >= 1 << 31 else number

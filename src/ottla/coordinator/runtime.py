"""The coordinator of one internal topic: a shard for each of its partitions that this node leads.

A key belongs to the partition `abs(hashCode) mod partitions`, with Java's hash of a text, so that
every Kafka broker and tool agrees on it. The count of partitions is the one that the topic had
when it was first seen: more of them would move every key, and take effect at the next start.

`follow` is told of every change of the image, behind the replica manager: shards go with the
topic. They come when their partition is there, at the latest when somebody asks for one.
"""

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Generic, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.base.world import World
from ottla.coordinator.machine import Host, Machine, Operation
from ottla.coordinator.pending import Pending
from ottla.coordinator.shard import Shard, State
from ottla.metadata.delta import Delta
from ottla.metadata.image import NO_NODE, ClusterImage
from ottla.records.control import Marker
from ottla.replica.manager import ReplicaManager

M = TypeVar("M", bound=Machine[Any])
_NOT_YET: Final = {ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
"""Of a partition whose log is being opened."""
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
        if topic is not None and not self._partition_count:
            self._partition_count = len(topic.partitions)
            for index in range(self._partition_count):
                self._find(index)

    def _find(self, index: int) -> Shard[M] | ErrorCode:
        """The shard of a partition, or why there is none. The log of a partition may be opened
        long after the start, and a directory may fail: so this is asked each time."""
        shard = self._shards.get(index)
        if shard is not None and shard.state is not State.CLOSED:
            return shard
        try:
            partition = self._replicas.leader_of(self.topic, index)
        except KafkaError as error:
            return _NOT_YET.get(error.code, ErrorCode.NOT_COORDINATOR)
        if shard is None or shard.partition is not partition:
            shard = self._shards[index] = Shard(
                self._world, self._loop, partition, self._make_machine, self._commit_timeout_ms
            )
        return shard

    def shard_of(self, key: str) -> int:
        """The partition that `key` belongs to; -1 while there is no topic."""
        return partition_of(key, self._partition_count) if self._partition_count else -1

    def node_of(self, key: str, image: ClusterImage) -> NodeId:
        """The node that coordinates a key. KafkaError COORDINATOR_NOT_AVAILABLE."""
        topic = image.topics.get(self.topic)
        index = self.shard_of(key)
        if topic is None or not 0 <= index < len(topic.partitions):
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        leader = topic.partitions[index].leader
        if leader == NO_NODE or leader not in image.brokers:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return leader

    @property
    def indexes(self) -> range:
        """The partitions of the topic."""
        return range(self._partition_count)

    @property
    def shards(self) -> list[Shard[M]]:
        """Of this node."""
        return list(self._shards.values())

    def perform(self, index: int, operation: Operation[M], pending: Pending | None = None) -> None:
        """Run an operation on a shard; `pending` is told where it is not this node's."""
        shard = self._find(index) if index >= 0 else ErrorCode.NOT_COORDINATOR
        if not isinstance(shard, ErrorCode):
            shard.perform(operation, pending)
        elif pending is not None:
            pending.fail(shard)

    def end_transaction(
        self,
        index: int,
        marker: Marker,
        producer: tuple[int, int],
        pending: Pending,
        *,
        is_bumped: bool,
    ) -> None:
        """End a producer's transaction on a shard (see `Shard.end_transaction`)."""
        shard = self._find(index) if index >= 0 else ErrorCode.NOT_COORDINATOR
        if isinstance(shard, ErrorCode):
            pending.fail(shard)
        else:
            shard.end_transaction(marker, producer, pending, is_bumped=is_bumped)

    async def wait_loaded(self, timeout_s: float) -> None:
        """Until all that is being loaded is, or so long: a client that comes right after a start
        then need not be told to come again."""
        loading = [shard.loading for shard in self._shards.values() if shard.loading is not None]
        if loading:
            await asyncio.wait(loading, timeout=timeout_s)

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

    async def ask_all(self, operation: Operation[M]) -> list[Any]:
        """The response of each shard of this node; KafkaError while one of them loads."""
        answers = []
        for index in self.indexes:
            try:
                answers.append(await self.ask(index, operation))
            except KafkaError as error:
                if error.code != ErrorCode.NOT_COORDINATOR:
                    raise
        return answers

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
    units = text.encode() if text.isascii() else _utf_16_units(text)
    number = 0
    for unit in units:
        number = (31 * number + unit) & 0xFFFF_FFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def _utf_16_units(text: str) -> list[int]:
    return [unit for (unit,) in _UNIT.iter_unpack(text.encode("utf-16-be", "surrogatepass"))]

"""A partition in memory on a loop with virtual time, and shards and groups on it."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from ottla.base.errors import ErrorCode
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.options import BrokerLayers, BrokerSettings, effective_broker, effective_topic
from ottla.base.world import World
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.member import Budget, Sender
from ottla.coordinator.group.offsets import Commit
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.coordinator.shard import Shard
from ottla.metadata.image import EMPTY
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.leave_group import LeaveGroupRequest
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponsePartition,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.replica.partition import Partition
from ottla.sim.clock import SimClock
from ottla.sim.loop import SimLoop
from ottla.storage.config import LogConfig
from ottla.storage.log import Log
from tests.storage.memory_disk import MemoryDisk

FLUSH_S = 0.002


class Flushing:
    """Flushes `FLUSH_S` after it was asked to, unless it is held."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.partition: Partition
        self.is_held = False
        self.is_due = False

    def mark_dirty(self, log: Log) -> None:
        if not self.is_due and not self.is_held:
            self.is_due = True
            self.loop.call_later(FLUSH_S, self.flush)

    def mark_dirty_soon(self, log: Log) -> None:
        self.mark_dirty(log)

    def mark_dirty_within(self, log: Log, ms: int) -> None:
        self.mark_dirty(log)

    def failed(self, error: OSError) -> None:
        pass

    def flush(self) -> None:
        self.is_due = False
        log = self.partition.log
        log.flushed_end_offset = log.log_end_offset
        self.partition.advance_high_watermark()


class Offload:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.calls = 0

    def submit(self, call: Any, done: Any) -> None:
        self.calls += 1
        self.loop.call_later(0.001, lambda: done(call(), None))


class Place:
    """A partition of an internal topic, to put shards on."""

    def __init__(self, loop: SimLoop, **configs: str) -> None:
        self.loop = loop
        self.disk = MemoryDisk()
        self.disk.make_directory("data/t-0")
        name = TopicPartition("__consumer_offsets", PartitionIndex(0))
        self.log = Log(self.disk, Random(1), name, "data/t-0", LogConfig())
        self.log.start_at(0, 0)
        self.flushing = Flushing(loop)
        texts = {key.replace("_", "."): value for key, value in configs.items()}
        settings = effective_topic(texts, BrokerSettings())
        self.partition = Partition(
            name.topic, 0, self.log, settings, leader_epoch=3, flushing=self.flushing
        )
        self.flushing.partition = self.partition
        self.offload = Offload(loop)
        self.clock = SimClock(loop)
        self.world: Any = World(self.clock, Random(7), self.disk, None, self.offload)  # type: ignore[arg-type]

    def shard(self, make_machine: Callable[[Any], Any]) -> Shard[Any]:
        return Shard(self.world, self.loop, self.partition, make_machine, lambda: 5_000)


class Asked(Pending):
    """A request of a test: its answer, or the code it was refused with."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop, version: int = 9) -> None:
        super().__init__(lambda code: code, version)
        self.future: asyncio.Future[Any] = loop.create_future()

    def complete(self, response: Any) -> None:
        if not self.future.done():
            self.future.set_result(response)
        super().complete(response)


def on_loop(test: Callable[[SimLoop], Coroutine[Any, Any, None]]) -> None:
    loop = SimLoop()
    loop.run(test(loop))


class GroupPlace:
    """A shard of groups, asked by scripts of members."""

    def __init__(self, loop: SimLoop, place: Place | None = None, **options: str) -> None:
        self.loop = loop
        self.place = place or Place(loop)
        texts = {key.replace("_", "."): value for key, value in options.items()}
        self.settings = effective_broker(BrokerLayers(static=texts))
        self.budget = Budget()
        self.image = EMPTY
        self.shard = self.place.shard(self._machine)

    def _machine(self, host: Any) -> GroupMachine:
        rng = self.place.world.rng
        return GroupMachine(host, rng, lambda: self.settings, self.budget, lambda: self.image)

    @property
    def machine(self) -> GroupMachine:
        machine: GroupMachine = self.shard.machine
        return machine

    def group(self, group_id: str = "g") -> Any:
        return self.machine.groups.find(group_id)

    def perform(self, operation: Callable[[GroupMachine, int], Outcome], version: int = 9) -> Asked:
        pending = Asked(self.loop, version)
        self.shard.perform(operation, pending)
        return pending

    async def answer(self, pending: Asked) -> Any:
        """The response; an error code where it was refused."""
        return await asyncio.wait_for(pending.future, 3_600)

    # -- requests, begun and not waited for

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        instance: str | None = None,
        protocols: tuple[tuple[str, bytes], ...] = (("range", b"topics"),),
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        version: int = 9,
        client_id: str = "c",
    ) -> Asked:
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=n, metadata=m) for n, m in protocols],
        )
        pending = Asked(self.loop, version)
        sender = Sender(client_id, "/127.0.0.1")
        self.shard.perform(
            lambda machine, now: machine.join(sender, request, pending, now), pending
        )
        return pending

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> Asked:
        rows = [
            SyncGroupRequestAssignment(member_id=each, assignment=what)
            for each, what in (assignments or {}).items()
        ]
        request = SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol,
            assignments=rows,
        )
        pending = Asked(self.loop)
        self.shard.perform(lambda machine, now: machine.sync(request, pending, now), pending)
        return pending

    def heartbeat(
        self, member_id: str, generation: int, *, group: str = "g", instance: str | None = None
    ) -> Asked:
        request = HeartbeatRequest(
            group_id=group,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
        )
        return self.perform(lambda machine, now: machine.heartbeat(request))

    def leave(self, *members: Any, group: str = "g") -> Asked:
        request = LeaveGroupRequest(group_id=group, members=list(members))
        return self.perform(lambda machine, now: machine.leave(request, now))

    def commit(
        self,
        offset: int,
        *,
        group: str = "g",
        topic: str = "t",
        partition: int = 0,
        generation: int = -1,
        member_id: str = "",
        instance: str | None = None,
        metadata: str | None = None,
        retention_ms: int = -1,
        version: int = 9,
        topic_id: Any = bytes(15) + b"t",
        is_transactional: bool = False,
    ) -> Asked:
        """Answered with the partition's code."""
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=[],
        )
        asked = OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_metadata=metadata
        )
        row = OffsetCommitResponsePartition(partition_index=partition)
        commits = [Commit(topic, topic_id, asked, row)]

        def commit(machine: GroupMachine, now: int) -> Outcome:
            records = machine.offsets.commit(
                request, commits, version, now, is_transactional=is_transactional
            )
            return Outcome(records, row, (1, 0) if is_transactional else None)

        return self.perform(commit)

    def committed(self, *, group: str = "g", topic: str = "t", partition: int = 0) -> int | None:
        """What memory holds."""
        ((_, value),) = self.machine.offsets.fetch(group, topic, bytes(16), [partition])  # type: ignore[arg-type]
        return None if value is None else value.offset

    # -- whole stories

    async def member(self, **options: Any) -> str:
        """The id that a new member is given."""
        answer = await self.answer(self.join(**options))
        assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
        return str(answer.member_id)

    async def stable(self, count: int = 1, **options: Any) -> list[str]:
        """A group of so many members in a stable generation; the leader first."""
        ids = [await self.member(**options) for _ in range(count)]
        return await self.rebalanced(ids, **options)

    async def rebalanced(self, ids: list[str], **options: Any) -> list[str]:
        answers = [await self.answer(each) for each in [self.join(i, **options) for i in ids]]
        assert [each.error_code for each in answers] == [0] * len(ids)
        leader, generation = answers[0].leader, answers[0].generation_id
        shares = {each: b"share of " + each.encode() for each in ids}
        group = options.get("group", "g")
        syncs = [
            self.sync(each, generation, shares if each == leader else None, group=group)
            for each in ids
        ]
        for each, pending in zip(ids, syncs, strict=True):
            assert (await self.answer(pending)).assignment == shares[each]
        return sorted(ids, key=lambda each: each != leader)

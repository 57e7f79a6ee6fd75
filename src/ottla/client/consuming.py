"""A consumer's life and its parts: what is behind the calls of `consumer`.

Each part has its own account: `reader` hands out, `fetcher` keeps ahead of it, `positions` finds
where to begin, `commits` keeps how far the group is; of a subscribed consumer `membership` takes
part in the group, and `ownership` carries out what that decides; `process` is the workflow. All
share one dictionary of `PartitionState`s, and tell each other by `_told`.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Unpack

from ottla.base.ids import PartitionIndex, TopicPartition, Uuid, id_text
from ottla.base.world import World
from ottla.client.assignment import PartitionState
from ottla.client.cluster import Cluster
from ottla.client.commits import Commits
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ClientError, CommitFailedError
from ottla.client.exactly_once import AtOnce, ExactlyOnce, Settling
from ottla.client.fetcher import Fetcher
from ottla.client.life import Life, in_turn
from ottla.client.membership import Membership
from ottla.client.offsets import GroupMetadata
from ottla.client.options import ConsumerOptions
from ottla.client.outlet import Outlet
from ottla.client.ownership import Ownership
from ottla.client.positions import Positions
from ottla.client.process import Processing, ProcessOptions
from ottla.client.producer import Producer
from ottla.client.reader import Reader
from ottla.client.settings import ClientSettings
from ottla.client.work import Work

TRANSACTION_TIMEOUT_MS = 10_000
"""Of `process`: so long others may have to wait for what a member left open that is gone."""

Key = TopicPartition | tuple[str, int]


class Consuming(Life):
    _kind = "consumer"

    def __init__(self, *, world: World | None = None, **options: Unpack[ConsumerOptions]) -> None:
        """ConfigError where options contradict each other; TypeError for an unknown one."""
        super().__init__(world)
        self.settings = ConsumerSettings(**options)
        self._states: dict[TopicPartition, PartitionState] = {}
        self._reader = Reader(
            self._states,
            told=self._told,
            taken=self._taken,
            require_open=self._require_open,
        )
        self._fetcher: Fetcher
        self._positions: Positions
        self._commits: Commits
        self._ownership: Ownership
        self._membership: Membership | None = None
        self._processing: Processing | None = None

    # ---- a life

    def _build(self, world: World) -> Cluster:
        cluster = Cluster(world, self.settings, creates_topics=False)
        self._fetcher = Fetcher(world, cluster, self.settings, self._states, self._told)
        self._positions = Positions(cluster, self.settings, self._states, self._told)
        self._commits = Commits(
            cluster, self.settings, self._states, self._committer, self._settled
        )
        self._ownership = Ownership(
            self._states,
            self._reader,
            self._positions,
            self._commits,
            commit_timeout_ms=self.settings.request_timeout_ms,
            told=self._told,
        )
        return cluster

    async def _begin(self) -> None:
        self._commits.start()

    async def close(self) -> None:
        """End; where auto-commit is on, what was handed out counts as done and is committed. A
        member leaves its group."""
        if self._processing is None:
            self._reader.all_done()
        await self._close()

    async def _close(self) -> None:
        if not self._is_open:
            self._is_ended = True
            return
        await in_turn(self._leave(), self._end)

    async def _end(self) -> None:
        self._is_open, self._is_ended = False, True
        await in_turn(self._settle(), super()._end)

    async def _settle(self) -> None:
        try:
            await self._commits.close()
            await self._positions.close()
        finally:
            self._fetcher.close()
            self._reader.look_again()

    async def __aexit__(self, kind: object, *_: Any) -> None:
        """After an error only what was done before is committed."""
        if kind is None:
            await self.close()
        else:
            await self._close()

    async def _leave(self) -> None:
        membership = self._membership
        if membership is not None:
            await membership.stop()
        await in_turn(self._ownership.close(), self._left)

    async def _left(self) -> None:
        if self._membership is not None:
            await self._membership.leave()
            self._membership, self._reader.failure = None, None

    # ---- inside

    def _member(self) -> GroupMetadata:
        self._require_open()
        if self.settings.group_id is None:
            raise ClientError("offsets are committed for a group, and group_id is not set")
        if self._membership is not None:
            return self._membership.metadata()
        return GroupMetadata(self.settings.group_id)

    def _committer(self) -> GroupMetadata:
        """Who commits; CommitFailedError for a subscribed consumer that is no member now."""
        member = self._member()
        if self._membership is not None and member.generation_id < 0:
            raise CommitFailedError("the consumer is no member of its group now")
        return member

    async def _settled(self) -> None:
        if self._membership is not None:
            await self._membership.settled()

    def _state(self, partition: Key) -> PartitionState:
        self._require_open()
        name, index = partition
        state = self._states.get(TopicPartition(name, PartitionIndex(index)))
        if state is None:
            raise ClientError(f"{name}-{index} is not assigned to this consumer")
        return state

    def _told(self) -> None:
        """Something changed: who waits looks again, and positions are found that are missing."""
        self._reader.look_again()
        if self._is_open:
            self._fetcher.turn_soon()
            self._positions.find_soon()

    def _taken(self) -> None:
        self._fetcher.turn_soon()

    def _outlet(self, options: ProcessOptions) -> Outlet:
        given: dict[str, Any] = {
            each.name: getattr(self.settings, each.name) for each in fields(ClientSettings)
        }
        if options.transactional:
            member = self._member()
            unique = member.group_instance_id or id_text(
                Uuid(self._cluster.world.rng.randbytes(16))
            )
            given["transaction_timeout_ms"] = TRANSACTION_TIMEOUT_MS
            given["transactional_id"] = options.transactional_id or f"{member.group_id}-{unique}"
        return Outlet(lambda: Producer(world=self._cluster.world, **given))

    async def _end_processing(self, outlet: Outlet, options: ProcessOptions) -> None:
        self._ownership.drain = self._ownership.drop = None
        try:
            await outlet.close()
            await self._commits.commit_done(
                list(self._states.values()), self.settings.default_api_timeout_ms
            )
        finally:
            self._processing = None
            self._commits.end_processing(is_transactional=options.transactional)

    def _settling(
        self,
        options: ProcessOptions,
        outlet: Outlet,
        work: Work,
        marked: Callable[[TopicPartition], None],
    ) -> Settling:
        if not options.transactional:
            return AtOnce(work, outlet)
        return ExactlyOnce(
            work,
            outlet,
            member=self._committer,
            settled=self._settled,
            committed=marked,
            interval_ms=options.transaction_interval_ms,
        )


def keys_of(partitions: Iterable[Key]) -> list[TopicPartition]:
    return [TopicPartition(name, PartitionIndex(index)) for name, index in partitions]

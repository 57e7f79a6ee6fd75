"""The consumer: records of the partitions it was given, in order, from where it is told to begin.

Three ways to read, which may be mixed: `async for record in consumer`, `poll` (a list of records)
and `poll_batch` (one batch as columns, the fastest). A partition's position moves when a record
is handed out; it is *done* when its reader asks for more.

This is the face. What is behind it, each with its own account: `reader` hands out, `fetcher`
keeps ahead of it, `positions` finds where to begin, `commits` keeps how far the group is; of a
subscribed consumer `membership` takes part in the group, and `ownership` carries out what that
decides.
All share one dictionary of `PartitionState`s, and tell each other by `_told`.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Self, Unpack

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import World
from ottla.client.assignment import EARLIEST, LATEST, PartitionState
from ottla.client.classic_membership import ClassicMembership
from ottla.client.cluster import Cluster
from ottla.client.commits import Commits
from ottla.client.consumer_membership import ConsumerMembership
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ClientClosedError, ClientError, CommitFailedError
from ottla.client.fetcher import Fetcher
from ottla.client.membership import Membership
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp
from ottla.client.options import ConsumerOptions
from ottla.client.ownership import Ownership
from ottla.client.positions import Positions
from ottla.client.reader import Reader
from ottla.client.records import Columns, ConsumerRecord
from ottla.client.subscription import Listener, Subscription, Told

MEMBERSHIPS: Mapping[str, type[Membership]] = {
    each.protocol: each for each in (ClassicMembership, ConsumerMembership)
}

Key = TopicPartition | tuple[str, int]


class Consumer:
    """Reads records of a cluster. Options are those of `ConsumerSettings`.

    async with Consumer(world=world, bootstrap_servers="127.0.0.1:9092") as consumer:
        consumer.assign([("greetings", 0)])
        async for record in consumer:
            print(record.offset, record.value)
    """

    def __init__(self, *, world: World | None = None, **options: Unpack[ConsumerOptions]) -> None:
        """ConfigError where options contradict each other; TypeError for an unknown one."""
        self.settings = ConsumerSettings(**options)
        self._world = world
        self._states: dict[TopicPartition, PartitionState] = {}
        self._is_open = False
        self._is_ended = False
        self._reader = Reader(
            self._states,
            told=self._told,
            taken=self._taken,
            require_open=self._require_open,
        )
        self._cluster: Cluster
        self._fetcher: Fetcher
        self._positions: Positions
        self._commits: Commits
        self._ownership: Ownership
        self._membership: Membership | None = None

    # ---- a life

    async def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers."""
        if self._is_open or self._is_ended:
            raise ClientError("a consumer starts once")
        world = self._world = self._world or self._open_world()
        cluster = self._cluster = Cluster(world, self.settings, creates_topics=False)
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
        self._is_open = True
        try:
            await cluster.start()
        except BaseException:
            await self._end()
            raise
        self._commits.start()

    async def close(self) -> None:
        """End; where auto-commit is on, what was handed out counts as done and is committed. A
        member leaves its group."""
        self._reader.all_done()
        await self._close()

    async def _close(self) -> None:
        if not self._is_open:
            self._is_ended = True
            return
        try:
            await self._leave()
        finally:
            await self._end()

    async def _end(self) -> None:
        self._is_open, self._is_ended = False, True
        await self._commits.close()
        await self._positions.close()
        self._fetcher.close()
        self._reader.look_again()
        await self._cluster.close()
        self._close_world()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: object, *_: Any) -> None:
        """After an error only what was done before is committed."""
        if kind is None:
            await self.close()
        else:
            await self._close()

    def _open_world(self) -> World:
        raise ClientError("a consumer needs a world; ottla.Consumer brings its own")

    def _close_world(self) -> None:
        return

    # ---- what to read

    def subscribe(
        self,
        topics: Iterable[str] = (),
        *,
        pattern: str | None = None,
        on_assigned: Told | None = None,
        on_revoked: Told | None = None,
        on_lost: Told | None = None,
    ) -> None:
        """Read these topics, or those that match a pattern, as a member of the group `group_id`:
        its members share the partitions. Joining goes on in the background.

        The callbacks are functions or coroutine functions of a list of partitions, see
        `subscription.Listener`; they must not read. What they raise is raised by the next read.
        """
        self._member()
        wanted = tuple(dict.fromkeys([topics] if isinstance(topics, str) else topics))
        if bool(wanted) == (pattern is not None):
            raise ClientError("subscribe takes topics or a pattern; unsubscribe ends it")
        if self._states and self._membership is None:
            raise ClientError("the consumer was assigned partitions: it cannot subscribe too")
        listener = Listener(on_assigned, on_revoked, on_lost)
        subscription = Subscription(wanted, pattern)
        if self.settings.group_protocol == "classic":
            subscription.check()
        self._ownership.listener = listener
        if self._membership is not None:
            self._membership.subscribe(subscription)
            return
        kind = MEMBERSHIPS[self.settings.group_protocol]
        self._membership = kind(
            self._cluster, self.settings, subscription, self._ownership, self._reader
        )
        self._membership.start()

    async def unsubscribe(self) -> None:
        """Leave the group, and read nothing. What was handed out counts as done."""
        self._require_open()
        self._reader.all_done()
        await self._leave()

    async def _leave(self) -> None:
        membership = self._membership
        if membership is not None:
            await membership.stop()
        try:
            await self._ownership.close()
        finally:
            if membership is not None:
                await membership.leave()
                self._membership = None
                self._reader.failure = None

    def assign(self, partitions: Iterable[Key]) -> None:
        """Read these partitions and no others. Those that were read before go on where they are."""
        self._require_open()
        if self._membership is not None:
            raise ClientError("the consumer is subscribed: its group assigns (unsubscribe first)")
        keys = dict.fromkeys(_keys(partitions))
        self._positions.drop([each for each in self._states if each not in keys])
        self._positions.add(keys)
        self._told()

    def assignment(self) -> list[TopicPartition]:
        return list(self._states)

    def seek(self, partition: Key, offset: int) -> None:
        """Go on from an offset."""
        if offset < 0:
            raise ValueError(f"offset {offset} is below 0")
        self._state(partition).seek(offset)
        self._told()

    def seek_to_beginning(self, *partitions: Key) -> None:
        """Go on from the first offset that is there (of all partitions, where none is named)."""
        self._seek_to(partitions, EARLIEST)

    def seek_to_end(self, *partitions: Key) -> None:
        """Go on with what comes after now."""
        self._seek_to(partitions, LATEST)

    async def seek_to_time(self, timestamp_ms: int, *partitions: Key) -> None:
        """Go on from the first record of that time or later; from the end, where there is none."""
        keys = [self._state(each).key for each in partitions or self._states]
        found = await self.offsets_for_times({key: timestamp_ms for key in keys})
        for key, place in found.items():
            state = self._states.get(key)
            if state is not None:
                state.seek(None if place is None else place.offset, LATEST)
        self._told()

    def pause(self, *partitions: Key) -> None:
        """Hand out nothing of these (of all, where none is named) until `resume`."""
        for each in partitions or self._states:
            self._state(each).pause(True)

    def resume(self, *partitions: Key) -> None:
        for each in partitions or self._states:
            self._state(each).pause(False)
        self._told()

    def paused(self) -> list[TopicPartition]:
        return [key for key, state in self._states.items() if state.is_paused]

    # ---- reading

    async def poll(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> list[ConsumerRecord]:
        """Records that are there, at most `max_records` (`max_poll_records`), of one partition
        after another; an empty list where none came within the time."""
        return await self._reader.poll(timeout_ms, max_records or self.settings.max_poll_records)

    async def poll_batch(self, timeout_ms: float = 0) -> Columns | None:
        """The next batch of some partition as columns; None where none came within the time."""
        return await self._reader.poll_batch(timeout_ms)

    async def batches(self) -> AsyncIterator[Columns]:
        """Batch after batch, as `poll_batch` gives them, without end."""
        while True:
            columns = await self.poll_batch(self.settings.max_poll_interval_ms)
            if columns is not None:
                yield columns

    def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """Record after record, without end. Leaving the loop loses nothing: reading goes on
        behind the last record that was handed out."""
        return self._reader.records(self.settings.max_poll_interval_ms)

    # ---- offsets

    async def position(self, partition: Key) -> int:
        """Offset of the next record to be handed out. Raises what is in the way of finding it:
        TimedOutError, NoOffsetError, KafkaError for a topic that is not there."""
        state = self._state(partition)
        self._told()
        while state.position is None:
            if state.error is not None:
                raise state.error
            await self._reader.wait_change()
        return state.position

    async def commit(self, offsets: Mapping[Key, int | OffsetAndMetadata] | None = None) -> None:
        """Keep offsets as the group's: by default the position of every partition, that is,
        all that was handed out. CommitFailedError where a partition went to another member of
        the group, KafkaError where the commit is refused otherwise."""
        self._member()
        wanted = None
        if offsets is not None:
            wanted = {
                TopicPartition(name, PartitionIndex(index)): (
                    OffsetAndMetadata(given) if isinstance(given, int) else given
                )
                for (name, index), given in offsets.items()
            }
        await self._commits.commit(wanted)

    async def committed(self, *partitions: Key) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed of these (of all assigned, where none is named)."""
        self._member()
        return await self._commits.committed(_keys(partitions or self._states))

    def group_metadata(self) -> GroupMetadata:
        """Who the consumer is in its group now: what a producer's transaction names that commits
        offsets for it (KIP-447)."""
        return self._member()

    async def beginning_offsets(self, *partitions: Key) -> dict[TopicPartition, int]:
        return await self._ends(partitions, EARLIEST)

    async def end_offsets(self, *partitions: Key) -> dict[TopicPartition, int]:
        """Offsets behind the last record that may be read (with `read_committed`: behind the last
        one that no open transaction holds back)."""
        return await self._ends(partitions, LATEST)

    async def offsets_for_times(
        self, times: Mapping[Key, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record of each partition at that time or later; None where there is none."""
        self._require_open()
        wanted = {}
        for (name, index), timestamp in times.items():
            if timestamp < 0:
                raise ValueError(f"time {timestamp} is below 0")
            wanted[TopicPartition(name, PartitionIndex(index))] = timestamp
        found = await self._positions.offsets_at(wanted)
        return {key: place if place.offset >= 0 else None for key, place in found.items()}

    # ---- inside

    def _require_open(self) -> None:
        if not self._is_open:
            raise ClientClosedError(
                "the consumer is closed" if self._is_ended else "the consumer was not started"
            )

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

    def _seek_to(self, partitions: tuple[Key, ...], where: int) -> None:
        for each in partitions or tuple(self._states):
            self._state(each).seek(None, where)
        self._told()

    def _told(self) -> None:
        """Something changed: who waits looks again, and positions are found that are missing."""
        self._reader.look_again()
        if self._is_open:
            self._fetcher.turn_soon()
            self._positions.find_soon()

    def _taken(self) -> None:
        self._fetcher.turn_soon()

    async def _ends(self, partitions: tuple[Key, ...], where: int) -> dict[TopicPartition, int]:
        self._require_open()
        keys = _keys(partitions or self._states)
        found = await self._positions.offsets_at(dict.fromkeys(keys, where))
        return {key: place.offset for key, place in found.items()}


def _keys(partitions: Iterable[Key]) -> list[TopicPartition]:
    return [TopicPartition(name, PartitionIndex(index)) for name, index in partitions]

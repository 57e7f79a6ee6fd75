"""The consumer: records of the partitions it was given, in order, from where it is told to begin.

Three ways to read, which may be mixed: `async for record in consumer`, `poll` (a list of records)
and `poll_batch` (one batch as columns, the fastest). A partition's position moves when a record
is handed out; it is *done* when its reader asks for more.

This is the face; `consuming` has what is behind it.
"""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Unpack

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.assignment import EARLIEST, LATEST, PAUSED
from ottla.client.classic_membership import ClassicMembership
from ottla.client.consumer_membership import ConsumerMembership
from ottla.client.consuming import Consuming, Key, keys_of
from ottla.client.errors import ClientError
from ottla.client.membership import Membership
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp
from ottla.client.process import Handler, MoreOptions, Processing, ProcessOptions
from ottla.client.records import Columns, ConsumerRecord
from ottla.client.retry import RetryPolicy
from ottla.client.subscription import Listener, Subscription, Told

MEMBERSHIPS: Mapping[str, type[Membership]] = {
    each.protocol: each for each in (ClassicMembership, ConsumerMembership)
}


class Consumer(Consuming):
    """Reads records of a cluster. Options are those of `ConsumerSettings`.

    async with Consumer(world=world, bootstrap_servers="127.0.0.1:9092") as consumer:
        consumer.assign([("greetings", 0)])
        async for record in consumer:
            print(record.offset, record.value)
    """

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
        if self._processing is not None:
            raise ClientError("the consumer processes: stop_processing first")
        self._reader.all_done()
        await self._leave()

    def assign(self, partitions: Iterable[Key]) -> None:
        """Read these partitions and no others. Those that were read before go on where they are."""
        self._require_open()
        if self._membership is not None:
            raise ClientError("the consumer is subscribed: its group assigns (unsubscribe first)")
        keys = dict.fromkeys(keys_of(partitions))
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
            self._state(each).stop(PAUSED, True)

    def resume(self, *partitions: Key) -> None:
        for each in partitions or self._states:
            self._state(each).stop(PAUSED, False)
        self._told()

    def paused(self) -> list[TopicPartition]:
        return [key for key, state in self._states.items() if state.stops & PAUSED]

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

    # ---- processing

    async def process(
        self,
        handler: Handler,
        *,
        concurrency: int = 10,
        order: str = "key",
        retry: RetryPolicy | None = None,
        dead_letter: str | None = None,
        **options: Unpack[MoreOptions],
    ) -> None:
        """Give every record to a handler, until `stop_processing`, and commit what is done.

        The handler is a function or a coroutine function of a ConsumerRecord; the `Output`s it
        returns are delivered before its record is done. At most `concurrency` are at work, and of
        one key ("key"), one partition ("partition") one at a time ("none": no order). One that
        fails is tried again as `retry` says, and goes to the topic `dead_letter` in the end;
        without one ProcessingError is raised, and the position stays in front of it.
        Every record is processed at least once; with `transactional=True` its outputs, its dead
        letter and the group's offsets are committed together, and seen exactly once.
        """
        self._require_open()
        if self._processing is not None:
            raise ClientError("the consumer processes already")
        given = ProcessOptions(
            concurrency=concurrency,
            order=order,
            retry=retry or RetryPolicy(),
            dead_letter=dead_letter,
            **options,
        )
        outlet = self._outlet(given)
        run = Processing(
            self._cluster.world,
            self._states,
            self._reader,
            handler,
            given,
            settling=lambda work, marked: self._settling(given, outlet, work, marked),
            told=self._told,
        )
        self._processing = run
        self._ownership.drain, self._ownership.drop = run.drain, run.drop
        try:
            await self._commits.begin_processing(is_transactional=given.transactional)
            if given.transactional:
                await outlet.producer()  # which ends what one of its name left open
            await run.run()
        except (Exception, CancelledError):  # but not where it is thrown away with its loop
            await self._end_processing(outlet, given)
            raise
        await self._end_processing(outlet, given)

    def stop_processing(self) -> None:
        """`process` begins nothing more, finishes what is at work, and returns."""
        if self._processing is not None:
            self._processing.stop()

    # ---- offsets

    async def position(self, partition: Key) -> int:
        """Offset of the next record to be handed out. Raises what is in the way of finding it:
        TimedOutError, NoOffsetError, KafkaError for a topic that is not there."""
        self._told()
        while (state := self._state(partition)).position is None:
            if state.error is not None:
                raise state.error
            await self._reader.wait_change()
        return state.position

    async def commit(self, offsets: Mapping[Key, int | OffsetAndMetadata] | None = None) -> None:
        """Keep offsets as the group's: by default the position of every partition, that is,
        all that was handed out. CommitFailedError where a partition went to another member of
        the group, KafkaError where the commit is refused otherwise."""
        self._member()
        if offsets is None and self._processing is not None:
            raise ClientError("process commits by itself")
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
        return await self._commits.committed(keys_of(partitions or self._states))

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

    def _seek_to(self, partitions: tuple[Key, ...], where: int) -> None:
        for each in partitions or tuple(self._states):
            self._state(each).seek(None, where)
        self._told()

    async def _ends(self, partitions: tuple[Key, ...], where: int) -> dict[TopicPartition, int]:
        self._require_open()
        keys = keys_of(partitions or self._states)
        found = await self._positions.offsets_at(dict.fromkeys(keys, where))
        return {key: place.offset for key, place in found.items()}

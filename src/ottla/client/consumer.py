"""The consumer: records of the partitions it was given, in order, from where it is told to begin.

Three ways to read, which may be mixed: `async for record in consumer`, `poll` (a list of records)
and `poll_batch` (one batch as columns, the fastest). A partition's position moves when a record
is handed out; it is *done* when its reader asks for more. `commit` keeps positions, auto-commit
keeps only what is done: after a crash the record in hand is read again.

Where to begin: the offset that was sought, else what the group has committed, else
`auto_offset_reset`. Errors of one partition are raised by the next read; the others go on after.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Self, Unpack

from ottla.base.errors import KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import World
from ottla.client.assignment import EARLIEST, LATEST, PartitionState
from ottla.client.cluster import Cluster
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ClientClosedError, ClientError, NoOffsetError
from ottla.client.fetcher import Fetcher
from ottla.client.offsets import (
    Membership,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    commit,
    committed,
    list_offsets,
)
from ottla.client.options import ConsumerOptions
from ottla.client.records import Columns, ConsumerRecord

_log = logging.getLogger(__name__)

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
        self._ready = asyncio.Event()
        self._finding: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._committed: dict[TopicPartition, int] = {}
        """What auto-commit has committed."""
        self._is_open = False
        self._is_ended = False
        self._cluster: Cluster
        self._fetcher: Fetcher

    # ---- a life

    async def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers."""
        if self._is_open or self._is_ended:
            raise ClientError("a consumer starts once")
        world = self._world = self._world or self._open_world()
        self._cluster = Cluster(world, self.settings, creates_topics=False)
        self._fetcher = Fetcher(world, self._cluster, self.settings, self._states, self._told)
        self._is_open = True
        try:
            await self._cluster.start()
        except BaseException:
            await self._end()
            raise
        if self._auto_commits:
            self._committing = asyncio.get_running_loop().create_task(self._commit_on_and_on())

    async def close(self) -> None:
        """End; where auto-commit is on, what was handed out counts as done and is committed."""
        for state in self._states.values():
            state.done = state.position
        await self._close()

    async def _close(self) -> None:
        if not self._is_open:
            self._is_ended = True
            return
        try:
            if self._auto_commits:
                await self._commit_done(self.settings.request_timeout_ms)
        except (ClientError, KafkaError) as error:
            _log.warning("group %s: the last commit failed: %s", self.settings.group_id, error)
        finally:
            await self._end()

    async def _end(self) -> None:
        self._is_open, self._is_ended = False, True
        for task in (self._committing, self._finding):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._fetcher.close()
        self._ready.set()
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

    def assign(self, partitions: Iterable[Key]) -> None:
        """Read these partitions and no others. Those that were read before go on where they are."""
        self._require_open()
        keys = {TopicPartition(name, PartitionIndex(index)): None for name, index in partitions}
        for key in [each for each in self._states if each not in keys]:
            del self._states[key]
        self._cluster.want(key.topic for key in keys)
        for key in keys:
            if key not in self._states:
                self._states[key] = PartitionState(key)
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
            self._state(each).is_paused = True

    def resume(self, *partitions: Key) -> None:
        for each in partitions or self._states:
            self._state(each).is_paused = False
        self._told()

    def paused(self) -> list[TopicPartition]:
        return [key for key, state in self._states.items() if state.is_paused]

    # ---- reading

    async def poll(
        self, timeout_ms: float = 0, max_records: int | None = None
    ) -> list[ConsumerRecord]:
        """Records that are there, at most `max_records` (`max_poll_records`), of one partition
        after another; an empty list where none came within the time."""
        most = max_records or self.settings.max_poll_records
        records: list[ConsumerRecord] = []
        state = await self._next_state(timeout_ms)
        while state is not None and len(records) < most:
            head = state.first()
            if head is None:
                break
            at = state.head_at
            stop = min(len(head), at + most - len(records))
            records += _rows(head, at, stop)
            state.hand_out(stop)
            if not state.buffer:
                state = self._buffered(is_quiet=True)
        self._fetcher.turn_soon()
        return records

    async def poll_batch(self, timeout_ms: float = 0) -> Columns | None:
        """The next batch of some partition as columns; None where none came within the time."""
        state = await self._next_state(timeout_ms)
        if state is None:
            return None
        head = state.first()
        assert head is not None
        at = state.head_at
        state.hand_out(len(head))
        self._fetcher.turn_soon()
        if not at:
            return head
        return Columns(
            head.topic,
            head.partition,
            head.offsets[at:],
            head.timestamps_ms[at:],
            head.keys[at:],
            head.values[at:],
            head.headers[at:],
        )

    async def batches(self) -> AsyncIterator[Columns]:
        """Batch after batch, as `poll_batch` gives them, without end."""
        while True:
            columns = await self.poll_batch(self.settings.max_poll_interval_ms)
            if columns is not None:
                yield columns

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """Record after record, without end. Leaving the loop loses nothing: reading goes on
        behind the last record that was handed out."""
        # hot: client consume
        while True:
            state = await self._next_state(self.settings.max_poll_interval_ms)
            head = None if state is None else state.first()
            if state is None or head is None:
                continue
            turn, at, last = state.turn, state.head_at, len(head) - 1
            for index, record in enumerate(_rows(head, at, last + 1), at):
                if index < last:
                    position = state.position = head.offsets[index + 1]
                    state.head_at = index + 1
                else:
                    state.hand_out(index + 1)
                    position = state.position or 0
                    self._fetcher.turn_soon()
                yield record
                if state.turn != turn:
                    break
                state.done = position
                if state.position != position or state.is_paused:
                    break

    async def _next_state(self, timeout_ms: float) -> PartitionState | None:
        """A partition that has something to hand out. What was handed out before is done."""
        for state in self._states.values():
            state.done = state.position
        found = self._buffered()
        if found is not None:
            self._require_open()
            return found
        self._told()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while found is None:
                    self._require_open()
                    self._ready.clear()
                    await self._ready.wait()
                    found = self._buffered()
        except TimeoutError:
            return None
        self._require_open()
        return found

    def _buffered(self, *, is_quiet: bool = False) -> PartitionState | None:
        """The next partition in turn with records. Raises what is wrong with one, if it is;
        with `is_quiet` that waits for the next read, since there are records to return."""
        for key, state in self._states.items():
            if state.is_paused:
                continue
            if state.error is not None:
                if is_quiet:
                    continue
                error, state.error = state.error, None
                raise error
            try:
                has_records = state.first() is not None
            except KafkaError as error:
                if is_quiet:
                    continue
                where = f"{key} from offset {state.position}"
                raise KafkaError(error.code, f"{where}: {error.message}") from error
            if has_records:
                # It goes to the end of the order, so that no partition starves another.
                del self._states[key]
                self._states[key] = state
                return state
        return None

    # ---- offsets

    async def position(self, partition: Key) -> int:
        """Offset of the next record to be handed out. Raises what is in the way of finding it:
        TimedOutError, NoOffsetError, KafkaError for a topic that is not there."""
        state = self._state(partition)
        self._told()
        while state.position is None:
            if state.error is not None:
                raise state.error
            self._require_open()
            self._ready.clear()
            await self._ready.wait()
        return state.position

    async def commit(self, offsets: Mapping[Key, int | OffsetAndMetadata] | None = None) -> None:
        """Keep offsets as the group's: by default the position of every partition, that is,
        all that was handed out. KafkaError where that is refused."""
        group_id = self._group_id()
        if offsets is None:
            wanted = {
                key: OffsetAndMetadata(state.position)
                for key, state in self._states.items()
                if state.position is not None
            }
        else:
            wanted = {
                TopicPartition(name, PartitionIndex(index)): (
                    OffsetAndMetadata(given) if isinstance(given, int) else given
                )
                for (name, index), given in offsets.items()
            }
        if wanted:
            await commit(
                self._cluster,
                group_id,
                wanted,
                Membership(),
                self.settings.default_api_timeout_ms,
            )

    async def committed(self, *partitions: Key) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed of these (of all assigned, where none is named)."""
        group_id = self._group_id()
        keys = [TopicPartition(n, PartitionIndex(i)) for n, i in partitions or self._states]
        timeout_ms = self.settings.default_api_timeout_ms
        found = await committed(self._cluster, group_id, keys, timeout_ms)
        return {key: found.get(key) for key in keys}

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
        found = await self._list(wanted)
        return {key: place if place.offset >= 0 else None for key, place in found.items()}

    # ---- inside

    def _require_open(self) -> None:
        if not self._is_open:
            raise ClientClosedError(
                "the consumer is closed" if self._is_ended else "the consumer was not started"
            )

    def _group_id(self) -> str:
        self._require_open()
        if self.settings.group_id is None:
            raise ClientError("offsets are committed for a group, and group_id is not set")
        return self.settings.group_id

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
        self._ready.set()
        if not self._is_open:
            return
        self._fetcher.turn_soon()
        is_missing = any(
            state.position is None and state.error is None for state in self._states.values()
        )
        if is_missing and self._finding is None:
            self._finding = asyncio.get_running_loop().create_task(self._find_positions())

    async def _ends(self, partitions: tuple[Key, ...], where: int) -> dict[TopicPartition, int]:
        self._require_open()
        keys = [TopicPartition(n, PartitionIndex(i)) for n, i in partitions or self._states]
        found = await self._list(dict.fromkeys(keys, where))
        return {key: place.offset for key, place in found.items()}

    async def _list(
        self, wanted: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        settings = self.settings
        return await list_offsets(
            self._cluster,
            wanted,
            isolation=settings.isolation,
            timeout_ms=settings.default_api_timeout_ms,
        )

    async def _find_positions(self) -> None:
        try:
            while missing := [
                state
                for state in self._states.values()
                if state.position is None and state.error is None
            ]:
                turns = {state.key: state.turn for state in missing}
                try:
                    await self._find(missing)
                except (ClientError, KafkaError) as error:
                    for state in missing:
                        if state.position is None and state.turn == turns[state.key]:
                            state.error = error
        finally:
            self._finding = None
            self._ready.set()
            self._fetcher.turn_soon()

    async def _find(self, missing: list[PartitionState]) -> None:
        """Where to begin in each: at the committed offset, or where its reset says."""
        turns = {state.key: state.turn for state in missing}
        found: dict[TopicPartition, int] = {}
        unset = [state.key for state in missing if state.reset_to is None]
        if unset and self.settings.group_id is not None:
            timeout_ms = self.settings.default_api_timeout_ms
            kept = await committed(self._cluster, self.settings.group_id, unset, timeout_ms)
            found = {key: place.offset for key, place in kept.items()}
        wanted: dict[TopicPartition, int] = {}
        for state in missing:
            if state.key in found:
                continue
            if state.reset_to is not None:
                wanted[state.key] = state.reset_to
            elif self.settings.auto_offset_reset == "none":
                state.error = NoOffsetError(f'{state.key}: no offset, and the reset is "none"')
            else:
                is_early = self.settings.auto_offset_reset == "earliest"
                wanted[state.key] = EARLIEST if is_early else LATEST
        if wanted:
            found.update({key: place.offset for key, place in (await self._list(wanted)).items()})
        for state in missing:
            # A seek meanwhile knows better.
            if state.key in found and state.turn == turns[state.key] and state.position is None:
                state.seek(found[state.key])

    # ---- auto-commit

    @property
    def _auto_commits(self) -> bool:
        return self.settings.enable_auto_commit and self.settings.group_id is not None

    async def _commit_on_and_on(self) -> None:
        while True:
            await asyncio.sleep(self.settings.auto_commit_interval_ms / 1_000)
            try:
                await self._commit_done(self.settings.default_api_timeout_ms)
            except (ClientError, KafkaError) as error:
                _log.warning("group %s: auto-commit: %s", self.settings.group_id, error)

    async def _commit_done(self, timeout_ms: int) -> None:
        done = {
            key: state.done
            for key, state in self._states.items()
            if state.done is not None and state.done != self._committed.get(key)
        }
        if not done:
            return
        offsets = {key: OffsetAndMetadata(offset) for key, offset in done.items()}
        await commit(self._cluster, self._group_id(), offsets, Membership(), timeout_ms)
        self._committed.update(done)


def _rows(columns: Columns, start: int, stop: int) -> list[ConsumerRecord]:
    """Records of columns."""
    # hot: client consume
    topic, partition, make = columns.topic, columns.partition, tuple.__new__
    return [
        make(ConsumerRecord, (topic, partition, offset, when, key, value, headers))
        for offset, when, key, value, headers in zip(
            columns.offsets[start:stop],
            columns.timestamps_ms[start:stop],
            columns.keys[start:stop],
            columns.values[start:stop],
            columns.headers[start:stop],
            strict=True,
        )
    ]

"""Positions: of every partition that is read, where to begin, found out beside the reader.

A partition begins where it was sought, else at what its group has committed, else where
`auto_offset_reset` says. What is missing is asked of each leader apart, so that a partition
without a leader, or a topic that is not there, holds up no other. What is in the way of one
becomes the error of that partition, for the next read. A seek meanwhile knows better.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.base.ids import TopicPartition
from ottla.client.assignment import LATEST, PartitionState
from ottla.client.cluster import Cluster
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import NoOffsetError
from ottla.client.offsets import (
    OffsetAndMetadata,
    OffsetAndTimestamp,
    committed,
    list_offsets,
)


class _Search(NamedTuple):
    """For the position of a partition, as it was missing when it was begun."""

    state: PartitionState
    turn: int

    @property
    def is_wanted(self) -> bool:
        return self.state.turn == self.turn and self.state.position is None

    def found(self, offset: int, epoch: int = -1) -> None:
        if self.is_wanted:
            self.state.seek(offset, epoch=epoch)

    def failed(self, error: Exception) -> None:
        if self.is_wanted:
            self.state.error = error


class Positions:
    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        states: dict[TopicPartition, PartitionState],
        told: Callable[[], None],
    ) -> None:
        """`states` are those of the consumer; `told` is called when positions were found."""
        self._cluster = cluster
        self._settings = settings
        self._states = states
        self._told = told
        self._finding: dict[PartitionState, asyncio.Task[None]] = {}

    def add(self, keys: Iterable[TopicPartition]) -> list[PartitionState]:
        """Read these too; those that are read already go on where they are."""
        made = []
        for key in keys:
            if key not in self._states:
                self._states[key] = PartitionState(key)
                made.append(self._states[key])
        self._cluster.want(state.key.topic for state in made)
        return made

    def drop(self, keys: Iterable[TopicPartition]) -> None:
        """Read these no more: a reader in the middle of one sees it."""
        for key in keys:
            state = self._states.pop(key, None)
            if state is not None:
                state.seek(None)

    def find_soon(self) -> None:
        """Find what is missing and not looked for yet. Waits for nothing."""
        missing = [
            state
            for state in self._states.values()
            if state.position is None and state.error is None and state not in self._finding
        ]
        if missing:
            task = asyncio.get_running_loop().create_task(self._find(missing))
            self._finding.update(dict.fromkeys(missing, task))

    async def close(self) -> None:
        tasks = list(dict.fromkeys(self._finding.values()))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def offsets_at(
        self, wanted: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        settings = self._settings
        return await list_offsets(
            self._cluster,
            wanted,
            isolation=settings.isolation,
            timeout_ms=settings.default_api_timeout_ms,
        )

    async def _find(self, missing: Sequence[PartitionState]) -> None:
        searches = [_Search(state, state.turn) for state in missing]
        try:
            await self._find_committed([each for each in searches if each.state.reset_to is None])
            await self._reset([each for each in searches if each.is_wanted])
        except Exception as error:  # a bug of ours: nobody is left waiting
            self._failed(searches, error)
        finally:
            for state in missing:
                del self._finding[state]
        self._told()

    async def _find_committed(self, searches: Sequence[_Search]) -> None:
        """Take what the group has committed, and else say where to begin instead."""
        kept: Mapping[TopicPartition, OffsetAndMetadata] = {}
        if searches and self._settings.group_id is not None:
            timeout_ms = self._settings.default_api_timeout_ms
            keys = [each.state.key for each in searches]
            try:
                kept = await committed(self._cluster, self._settings.group_id, keys, timeout_ms)
            except Exception as error:
                self._failed(searches, error)
                return
        policy = self._settings.reset_to(self._cluster.world.clock.time_ms())
        for each in searches:
            state = each.state
            if state.key in kept:
                each.found(kept[state.key].offset, kept[state.key].leader_epoch)
            elif state.or_else is not None:
                each.found(state.or_else)
            elif policy is None:
                each.failed(NoOffsetError(f'{state.key}: no offset, and the reset is "none"'))
            elif each.is_wanted:
                state.reset_to = policy

    async def _reset(self, searches: Sequence[_Search]) -> None:
        """Find the offsets where these are to begin, as each leader answers."""
        by_leader: dict[int, list[_Search]] = {}
        unknown: dict[str, list[_Search]] = {}
        for each in searches:
            if each.state.error is not None:
                continue
            topic, index = each.state.key
            if topic in self._cluster.topics:
                leader = self._cluster.leader_of(topic, index)
                by_leader.setdefault(leader, []).append(each)
            else:
                unknown.setdefault(topic, []).append(each)
        alone = [[each] for each in by_leader.pop(-1, ())]
        await asyncio.gather(
            *(self._reset_at_leader(some) for some in [*by_leader.values(), *alone]),
            *(self._reset_unknown(topic, some) for topic, some in unknown.items()),
        )

    async def _reset_unknown(self, topic: str, searches: Sequence[_Search]) -> None:
        try:
            await self._cluster.topic(topic, self._settings.default_api_timeout_ms)
        except Exception as error:
            self._failed(searches, error)
        else:
            await self._reset(searches)

    async def _reset_at_leader(self, searches: Sequence[_Search]) -> None:
        wanted = {each.state.key: each.state.reset_to or 0 for each in searches}
        try:
            found = await self.offsets_at(wanted)
            late = [key for key, place in found.items() if place.offset < 0]
            if late:  # a time behind the last record
                found.update(await self.offsets_at(dict.fromkeys(late, LATEST)))
        except Exception as error:
            self._failed(searches, error)
            return
        for each in searches:
            each.found(found[each.state.key].offset)
        self._told()

    def _failed(self, searches: Iterable[_Search], error: Exception) -> None:
        for each in searches:
            each.failed(error)
        self._told()

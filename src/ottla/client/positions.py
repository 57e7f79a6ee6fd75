"""Positions: of every partition that is read, where to begin, found out beside the reader.

A partition begins where it was sought, else at what its group has committed, else where
`auto_offset_reset` says. One task finds the positions that are missing; what is in the way of one
becomes the error of its partition, for the next read. A seek meanwhile knows better.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from ottla.base.ids import TopicPartition
from ottla.client.assignment import EARLIEST, LATEST, PartitionState
from ottla.client.cluster import Cluster
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import NoOffsetError
from ottla.client.offsets import OffsetAndTimestamp, committed, list_offsets


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
        self._finding: asyncio.Task[None] | None = None

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
        """Find what is missing, unless that is under way. Waits for nothing."""
        if self._finding is None and self._missing():
            self._finding = asyncio.get_running_loop().create_task(self._find_all())

    async def close(self) -> None:
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait([self._finding])

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

    def _missing(self) -> list[PartitionState]:
        return [
            state
            for state in self._states.values()
            if state.position is None and state.error is None
        ]

    async def _find_all(self) -> None:
        try:
            while missing := self._missing():
                turns = {state.key: state.turn for state in missing}
                try:
                    await self._find(missing)
                except Exception as error:  # or a bug of ours: nobody is left waiting
                    for state in missing:
                        if state.position is None and state.turn == turns[state.key]:
                            state.error = error
        finally:
            self._finding = None
        self._told()

    async def _find(self, missing: list[PartitionState]) -> None:
        turns = {state.key: state.turn for state in missing}
        found: dict[TopicPartition, int] = {}
        unset = [state.key for state in missing if state.reset_to is None]
        if unset and self._settings.group_id is not None:
            timeout_ms = self._settings.default_api_timeout_ms
            kept = await committed(self._cluster, self._settings.group_id, unset, timeout_ms)
            found = {key: place.offset for key, place in kept.items()}
        wanted: dict[TopicPartition, int] = {}
        for state in missing:
            if state.key in found:
                continue
            if state.reset_to is not None:
                wanted[state.key] = state.reset_to
            elif self._settings.auto_offset_reset == "none":
                state.error = NoOffsetError(f'{state.key}: no offset, and the reset is "none"')
            else:
                is_early = self._settings.auto_offset_reset == "earliest"
                wanted[state.key] = EARLIEST if is_early else LATEST
        if wanted:
            found.update(
                {key: place.offset for key, place in (await self.offsets_at(wanted)).items()}
            )
        for state in missing:
            if state.key in found and state.turn == turns[state.key] and state.position is None:
                state.seek(found[state.key])

"""Ownership: partitions come to this consumer and go, as its membership says.

    take     on_assigned is told, then its records are handed out
    give up  nothing more is handed out; what is in hand is waited for; what is done is
             committed; on_revoked is told; only then the partition may be another's.
             Where the commit says that this is no member any more, they are lost
    lose     on_lost is told: it may be another's already

While it goes, a partition is held: the reader passes it over. Whoever works on records after
they were handed out (`process`) hangs in by `drain`, which is then awaited in place of the
reader, and by `drop`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable

from ottla.base.ids import TopicPartition
from ottla.client.assignment import HELD, PartitionState
from ottla.client.commits import Commits
from ottla.client.positions import Positions
from ottla.client.reader import Reader
from ottla.client.subscription import Listener, Told

_log = logging.getLogger(__name__)


class Ownership:
    def __init__(
        self,
        states: dict[TopicPartition, PartitionState],
        reader: Reader,
        positions: Positions,
        commits: Commits,
        *,
        commit_timeout_ms: int,
        told: Callable[[], None],
    ) -> None:
        self.listener = Listener()
        self.drain: Callable[[Sequence[TopicPartition]], Awaitable[None]] | None = None
        self.drop: Callable[[Sequence[TopicPartition]], None] | None = None
        """What `process` has of these is in vain: called when they are lost."""
        self._states = states
        self._reader = reader
        self._positions = positions
        self._commits = commits
        self._commit_timeout_ms = commit_timeout_ms
        self._told = told

    @property
    def keys(self) -> list[TopicPartition]:
        return sorted(self._states)

    async def take(self, keys: Iterable[TopicPartition]) -> None:
        """Read these too. What is read already goes on (and is held no more)."""
        keys = list(keys)
        made = self._positions.add(keys)
        for state in made:
            state.stop(HELD, True)
        try:
            await self._tell(self.listener.on_assigned, [state.key for state in made])
        finally:
            for key in keys:
                if key in self._states:
                    self._states[key].stop(HELD, False)
            self._told()

    async def give_up(self, keys: Iterable[TopicPartition]) -> None:
        """Returns when others may read them. Cancelled, they stay held: `lose` them, or take or
        give them up again."""
        states = [self._states[key] for key in keys if key in self._states]
        if not states:
            return
        for state in states:
            state.stop(HELD, True)
        if self.drain is not None:
            await self.drain([state.key for state in states])
        else:
            await self._reader.wait_done(states)
        await self._hand_over(states)

    async def close(self) -> None:
        """Give up everything, with what is in hand; only what is done is committed."""
        if self._states:
            await self._hand_over(list(self._states.values()))

    async def _hand_over(self, states: list[PartitionState]) -> None:
        gone = [state.key for state in states]
        if not await self._commits.commit_done(states, self._commit_timeout_ms):
            await self.lose(gone)
            return
        await self._tell(self.listener.on_revoked, gone)
        self._forget(gone)

    async def lose(self, keys: Iterable[TopicPartition]) -> None:
        gone = [key for key in keys if key in self._states]
        if not gone:
            return
        _log.warning("lost %s", ", ".join(map(str, gone)))
        if self.drop is not None:
            self.drop(gone)
        self._forget(gone)
        await self._tell(self.listener.on_lost or self.listener.on_revoked, gone)

    def _forget(self, keys: Sequence[TopicPartition]) -> None:
        self._positions.drop(keys)
        self._commits.forget(keys)
        self._told()

    async def _tell(self, told: Told | None, keys: list[TopicPartition]) -> None:
        """What a callback raises is raised by the next read; the rebalance goes on."""
        if told is None:
            return
        try:
            answer = told(keys)
            if isawaitable(answer):
                await answer
        except Exception as error:
            _log.exception("a rebalance callback failed")
            self._reader.error = error
            self._told()

"""Commits: how far the group has read, kept with its coordinator.

`commit` keeps positions, auto-commit keeps only what is done: after a crash the record in hand
is read again. Both speak for the member that the consumer is at that moment; while it is between
two generations of its group, where a commit would be refused, they wait (`settled`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from ottla.base.errors import KafkaError
from ottla.base.ids import TopicPartition, Uuid
from ottla.client.assignment import PartitionState
from ottla.client.cluster import Cluster
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ClientError, CommitFailedError, TimedOutError
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata, commit, committed

_log = logging.getLogger(__name__)


class Commits:
    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        states: dict[TopicPartition, PartitionState],
        member: Callable[[], GroupMetadata],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._states = states
        self._member = member
        self._settled = settled
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_forced = self.is_suspended = False
        self._kept: dict[TopicPartition, int] = {}
        """What auto-commit has committed."""

    @property
    def is_automatic(self) -> bool:
        has_group = self._settings.group_id is not None
        return has_group and (self._settings.enable_auto_commit or self._is_forced)

    async def begin_processing(self, *, is_transactional: bool) -> None:
        """From now on what is done is committed automatically; in transactions it is committed
        there alone, since an offset that comes late would undo a transaction's."""
        self._is_forced = True
        self.start()
        if is_transactional:
            async with self._turn:
                self.is_suspended = True

    def end_processing(self, *, is_transactional: bool) -> None:
        """From now on auto-commit is again what the options say."""
        if is_transactional:
            # It is committed, or another's by now: to commit it again could only undo that.
            states = self._states.values()
            self._kept.update((each.key, each.done) for each in states if each.done is not None)
        self.is_suspended = self._is_forced = False
        if not self.is_automatic and self._task is not None:
            self._task.cancel()
            self._task = None

    def start(self) -> None:
        """Commit on and on, where auto-commit is on."""
        if self.is_automatic and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._on_and_on())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata] | None) -> None:
        """By default the position of every partition. CommitFailedError where the partition went
        to somebody else, KafkaError where it is refused otherwise."""
        mine = self._mine(offsets)
        timeout_ms = self._settings.default_api_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await self._settled()
        except TimeoutError:
            raise TimedOutError("the group is being rebalanced for too long") from None
        if offsets is None:
            offsets = {
                key: OffsetAndMetadata(state.position, leader_epoch=state.epoch)
                for key, state in self._states.items()
                if state.position is not None
            }
        if offsets:
            await commit(self._cluster, offsets, mine, timeout_ms, self._ids())

    async def committed(
        self, keys: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        timeout_ms = self._settings.default_api_timeout_ms
        group_id = self._settings.group_id or ""
        found = await committed(self._cluster, group_id, keys, timeout_ms)
        return {key: found.get(key) for key in keys}

    def _ids(self) -> dict[TopicPartition, Uuid]:
        return {key: state.topic_id for key, state in self._states.items()}

    def _mine(self, keys: Iterable[TopicPartition] | None) -> Callable[[], GroupMetadata]:
        """The member at each try, as long as it has all that it had of these: a try that comes
        late must not undo what the next owner of a partition has committed."""
        before = [key for key in self._states if keys is None or key in keys]
        return lambda: self._still_mine(before)

    def _still_mine(self, keys: Iterable[TopicPartition]) -> GroupMetadata:
        for key in keys:
            if key not in self._states:
                raise CommitFailedError(f"{key} went to another member meanwhile")
        return self._member()

    async def commit_done(self, states: Iterable[PartitionState], timeout_ms: float) -> bool:
        """What is done of these, where auto-commit is on; a failure is logged. False where it
        says that the consumer is out of its group."""
        if not self.is_automatic:
            return True
        async with self._turn:  # one after another: an older one that is late undoes a newer
            if self.is_suspended:
                return True
            done = {
                state.key: state.done
                for state in states
                if state.done is not None and state.done != self._kept.get(state.key)
            }
            if not done:
                return True
            offsets = {key: OffsetAndMetadata(offset) for key, offset in done.items()}
            try:
                mine = self._mine(done)
                await commit(self._cluster, offsets, mine, int(timeout_ms), self._ids())
            except (ClientError, KafkaError) as error:
                _log.warning("group %s: auto-commit: %s", self._settings.group_id, error)
                return not isinstance(error, CommitFailedError)
            self._kept.update(done)
            return True

    def forget(self, keys: Iterable[TopicPartition]) -> None:
        """These are read no more: what is committed of them is somebody else's affair."""
        for key in keys:
            self._kept.pop(key, None)

    async def _on_and_on(self) -> None:
        while True:
            await asyncio.sleep(self._settings.auto_commit_interval_ms / 1_000)
            await self._settled()
            await self.commit_done(
                list(self._states.values()), self._settings.default_api_timeout_ms
            )

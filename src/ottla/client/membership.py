"""Membership: one consumer's life in its group, as a task beside the reader.

Both protocols (`classic_membership`, `consumer_membership`) are a member without I/O, which knows
what to say and what an answer means, and a driver over it, which asks the coordinator, and has
partitions taken, given up and lost (`ownership`). Here is what the drivers share:

- Asking goes on, with back-off, through lost connections and coordinators that moved or load.
- A step runs with heartbeats beside it (`_both`): whichever of the two fails ends the other.
- A reader that asks for nothing for `max_poll_interval_ms` has stalled (KIP-62): the member
  leaves, its partitions are lost, and it joins again when the reader is back.

What cannot be mended (authorisation, a fenced instance id ...) ends the membership: every read
raises it.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.cluster import Cluster, KeyType
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import ClientError, NoBrokersError
from ottla.client.offsets import GroupMetadata, minding
from ottla.client.ownership import Ownership
from ottla.client.reader import Reader
from ottla.client.subscription import Subscription
from ottla.protocol.message import Request, Response
from ottla.rpc.channel import Channel
from ottla.rpc.errors import RpcError, VersionMismatchError

_log = logging.getLogger(__name__)

R = TypeVar("R", bound=Response)
T = TypeVar("T")

AGAIN = frozenset(
    {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.BROKER_NOT_AVAILABLE,
    }
)
"""After these the same is asked again, if need be of another coordinator."""


class OutOfGroupError(Exception):
    """The member is none any more: what it had is lost, and it begins anew."""


class StalledError(OutOfGroupError):
    """The reader is away for too long."""


class Membership(ABC):
    protocol: ClassVar[str]

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        subscription: Subscription,
        ownership: Ownership,
        reader: Reader,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._subscription = subscription
        self._ownership = ownership
        self._reader = reader
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._moves: object = None
        self._moved_at = cluster.world.clock.monotonic()

    # ---- a life

    def start(self) -> None:
        self._cluster.on_change.append(self._woken.set)
        self._watch_topics()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Take part no more. What is read stays as it is; `leave` tells the group."""
        with suppress(ValueError):
            self._cluster.on_change.remove(self._woken.set)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def subscribe(self, subscription: Subscription) -> None:
        """Subscribe to something else, as the same member."""
        self._subscription = subscription
        self._watch_topics()
        self._woken.set()

    @abstractmethod
    def metadata(self) -> GroupMetadata:
        """Who it is now, for commits."""

    async def settled(self) -> None:
        """Until commits are possible."""
        return

    @abstractmethod
    async def leave(self) -> None:
        """Tell the coordinator that it goes, once; where that fails the session runs out."""

    @abstractmethod
    async def _live(self) -> None:
        """From joining until it is out."""

    async def _run(self) -> None:
        while True:
            try:
                await self._live()
            except OutOfGroupError as error:
                _log.warning("group %s: %s", self._settings.group_id, error)
                await self._ownership.lose(self._ownership.keys)
                if isinstance(error, StalledError):
                    await self._wait_reader()
            except (ClientError, KafkaError) as error:
                self._ended(error)
                await self._ownership.lose(self._ownership.keys)
                return
            except Exception as error:
                _log.exception("a bug of the membership in group %s", self._settings.group_id)
                self._ended(error)
                return

    def _ended(self, error: Exception) -> None:
        _log.error("group %s: no member any more: %s", self._settings.group_id, error)
        self._reader.failure = error
        self._reader.look_again()

    def _watch_topics(self) -> None:
        self._cluster.want_all(self._subscription.pattern is not None)
        self._cluster.want(self._subscription.topics)
        self._cluster.refresh_soon()

    # ---- waiting

    async def _both(self, step: Coroutine[Any, Any, T], beside: Coroutine[Any, Any, None]) -> T:
        """The outcome of `step`, or the failure of what runs `beside` and has no end."""
        loop = asyncio.get_running_loop()
        doing, running = loop.create_task(step), loop.create_task(beside)
        try:
            await asyncio.wait([doing, running], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _end([doing, running])
            raise
        await _end([doing, running])
        if running.cancelled():
            return doing.result()
        running.result()
        return await doing

    async def _sleep(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, which it then is no more, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        event.clear()

    def _check_reader(self) -> None:
        """StalledError where the reader was away for too long."""
        now = self._cluster.world.clock.monotonic()
        moves = self._reader.moves()
        if self._reader.is_waiting or moves != self._moves:
            self._moves, self._moved_at = moves, now
        elif now - self._moved_at > self._settings.max_poll_interval_ms / 1_000:
            raise StalledError(
                "nothing was read for max_poll_interval_ms: leaving the group. Take fewer records"
                " at a time (max_poll_records) or raise it"
            )

    async def _wait_reader(self) -> None:
        """Until the reader is back that was away."""
        before = self._reader.read_count
        while self._reader.read_count == before:
            await self._reader.wait_read()
        self._moved_at = self._cluster.world.clock.monotonic()

    async def _learn_all(self) -> None:
        """For a pattern: know the topics that there are, before the first join."""
        while self._subscription.pattern is not None and not self._cluster.is_whole:
            with suppress(NoBrokersError):
                await self._cluster.refresh()

    # ---- asking

    async def _ask(
        self, request: Callable[[], Request], expected: type[R], timeout_ms: int | None = None
    ) -> R:
        """Ask the coordinator until it answers something that is not in AGAIN. `request` is
        made anew for each try."""
        return await self._patiently(lambda: self._ask_once(request(), expected, timeout_ms))

    async def _patiently(self, attempt: Callable[[], Awaitable[R]]) -> R:
        failures_count = 0
        while True:
            try:
                response = await attempt()
            except VersionMismatchError as failure:
                raise ClientError(
                    f"the coordinator does not speak the protocol {self.protocol!r}: {failure}"
                ) from failure
            except (RpcError, NoBrokersError) as failure:
                self._cluster.refresh_soon()
                _log.info("group %s: %s", self._settings.group_id, failure)
            except KafkaError as failure:
                if failure.code not in AGAIN:
                    raise
                _log.info("group %s: %s", self._settings.group_id, failure)
            else:
                return response
            failures_count += 1
            backoff = self._cluster.settings.retry_backoff
            await asyncio.sleep(backoff.seconds(failures_count, self._cluster.world.rng))

    async def _ask_once(self, request: Request, expected: type[R], timeout_ms: int | None) -> R:
        """One try; KafkaError for an error in AGAIN."""
        group_id = self.metadata().group_id
        node = await self._cluster.coordinator(KeyType.GROUP, group_id)
        with minding(self._cluster, group_id):
            peer = self._cluster.peer(node, apart=True)
            response = await peer.ask(request, expected, timeout_ms=timeout_ms)
            code = getattr(response, "error_code", 0)
            if code in AGAIN:
                raise KafkaError(ErrorCode(code), ErrorCode(code).name)
            return response

    async def _say_last(
        self, request: Callable[[Channel], Request], expected: type[Response]
    ) -> None:
        group_id = self.metadata().group_id
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1_000):
                node = await self._cluster.coordinator(KeyType.GROUP, group_id)
                channel = await self._cluster.peer(node, apart=True).connected()
                await channel.ask(request(channel), expected)
        except (TimeoutError, RpcError, KafkaError, ClientError) as failure:
            _log.info("group %s: leaving: %s", group_id, failure)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait for it."""
    for task in tasks:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])

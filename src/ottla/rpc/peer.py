"""Another node at its address: a channel to it when there is one, and patience when there is not.

A peer is asked for a channel as often as one likes: all who ask while it connects wait for the
same attempt. After a failed attempt the next one is put off, at first by `reconnect_backoff_ms`,
doubled each time up to `reconnect_backoff_max_ms` and spread by a fifth, so that a node that
comes back is not met by all of its clients at once. Cancelling who waits does not end the
attempt that others wait for.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, TypeVar

from ottla.base.errors import KafkaError
from ottla.base.world import Rng, World
from ottla.protocol.message import Request, Response
from ottla.rpc.channel import Channel, ChannelSettings
from ottla.rpc.errors import ChannelClosedError, RpcError

R = TypeVar("R", bound=Response)

SPREAD: Final = 0.2


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubled from `first_ms` up to `most_ms`."""

    first_ms: int
    most_ms: int

    def seconds(self, failures_count: int, rng: Rng) -> float:
        """After so many failures in a row; 0 after none."""
        if failures_count < 1:
            return 0.0
        base_ms = min(self.most_ms, self.first_ms << min(failures_count - 1, 30))
        return base_ms * (1 + SPREAD * (2 * rng.random() - 1)) / 1_000


class Peer:
    def __init__(
        self, world: World, host: str, port: int, settings: ChannelSettings, backoff: Backoff
    ) -> None:
        self.host = host
        self.port = port
        self._world = world
        self._settings = settings
        self._backoff = backoff
        self._failures_count = 0
        self._next_try = 0.0
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[Channel | RpcError | KafkaError] | None = None
        self._is_closed = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def channel(self) -> Channel | None:
        """The open channel, if there is one now."""
        if self._channel is not None and not self._channel.is_open:
            self._channel = None
        return self._channel

    async def connected(self) -> Channel:
        """An open channel, after the attempt that it takes; RpcError where that fails."""
        channel = self.channel
        if channel is not None:
            return channel
        if self._is_closed:
            raise ChannelClosedError(f"{self}: closed on this side")
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        connecting = self._connecting
        await asyncio.wait([connecting])  # which leaves it alone when who waits is cancelled
        if connecting.cancelled():
            raise ChannelClosedError(f"{self}: closed on this side")
        outcome = connecting.result()
        if isinstance(outcome, Channel):
            return outcome
        # A new one each time: several may wait, and each adds its own traceback.
        raise outcome.__class__(*outcome.args) from outcome

    async def ask(
        self,
        request: Request,
        expected: type[R],
        *,
        last: int | None = None,
        timeout_ms: int | None = None,
    ) -> R:
        """Connect if need be, send, and wait for the answer."""
        channel = await self.connected()
        return await channel.ask(request, expected, last=last, timeout_ms=timeout_ms)

    def close(self) -> None:
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _connect(self) -> Channel | RpcError | KafkaError:
        try:
            delay_s = self._next_try - self._world.clock.monotonic()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self._channel = await Channel.open(self._world, self.host, self.port, self._settings)
        except (RpcError, KafkaError) as failure:
            self._failures_count += 1
            pause_s = self._backoff.seconds(self._failures_count, self._world.rng)
            self._next_try = self._world.clock.monotonic() + pause_s
            return failure
        else:
            self._failures_count = 0
            return self._channel
        finally:
            self._connecting = None

"""The life of a client, which producer, consumer and admin share: it starts once and ends once, in
the world that it was given or in one of its own, with the cluster as it sees it.

A client says what it is made of (`_build`), what is to be done before it is open (`_begin`), and
what ends with it (`_end`). A start that fails or is cancelled ends it.
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import ClassVar, Self

from ottla.base.world import World
from ottla.client.cluster import Cluster
from ottla.client.errors import ClientClosedError, ClientError


async def in_turn(first: Awaitable[None], then: Callable[[], Awaitable[None]]) -> None:
    """Await `first`, and `then` however that ends; but not where both are thrown away with their
    loop (GeneratorExit): nothing can be awaited there, and `finally` would try to."""
    try:
        await first
    except (Exception, CancelledError):
        await then()
        raise
    await then()


class Life:
    _kind: ClassVar[str] = "client"
    _cluster: Cluster

    def __init__(self, world: World | None) -> None:
        self._world = world
        self._is_open = False
        self._is_ended = False

    async def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers,
        AuthenticationError where one refuses us or is not to be believed."""
        if self._is_open or self._is_ended:
            raise ClientError(f"the {self._kind} was started before: it starts once")
        self._world = self._world or self._open_world()
        self._cluster = self._build(self._world)
        self._is_open = True
        try:
            await self._cluster.start()
            await self._begin()
        except (Exception, CancelledError):
            await self._end()
            raise

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    # ---- of each client

    def _build(self, world: World) -> Cluster:
        """Make the parts, and the cluster that they share."""
        raise NotImplementedError

    async def _begin(self) -> None:
        return

    async def _end(self) -> None:
        self._is_open, self._is_ended = False, True
        try:
            await self._cluster.close()
        finally:
            self._close_world()

    def _require_open(self) -> None:
        if not self._is_open or self._is_ended:
            why = "is closed" if self._is_ended else "was not started"
            raise ClientClosedError(f"the {self._kind} {why}")

    # ---- of where it lives

    def _open_world(self) -> World:
        kind = self._kind
        raise ClientError(f"the {kind} needs a world; ottla.{kind.capitalize()} brings its own")

    def _close_world(self) -> None:
        return

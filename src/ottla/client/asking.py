"""Whom an admin asks: the controller, a leader, a coordinator, a certain node, or any.

Each way finds its node, asks, and finds it again where the answer says that it was the wrong one,
with back-off, until `request_timeout_ms` is over. `admin` says what is asked.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar, Unpack

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.base.world import World
from ottla.client import offsets
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errors import ClientClosedError, ClientError, code_of
from ottla.client.options import ClientOptions
from ottla.client.rows import Resource
from ottla.client.settings import ClientSettings
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

R = TypeVar("R", bound=Response)
T = TypeVar("T")


class Asking:
    def __init__(self, *, world: World | None = None, **options: Unpack[ClientOptions]) -> None:
        self.settings = ClientSettings(**options)
        self._world = world
        self._is_open = False
        self._cluster: Cluster

    async def start(self) -> None:
        """Find the cluster. NoBrokersError where none of the bootstrap servers answers."""
        if self._is_open:
            raise ClientError("an admin starts once")
        world = self._world = self._world or self._open_world()
        self._cluster = Cluster(world, self.settings, creates_topics=False)
        self._is_open = True
        try:
            await self._cluster.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._cluster.close()
            self._close_world()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def _open_world(self) -> World:
        raise ClientError("an admin needs a world; ottla.Admin brings its own")

    def _close_world(self) -> None:
        return

    # ---- whom to ask

    def _nodes(self) -> Iterable[int]:
        if not self._is_open:
            raise ClientClosedError("the admin is not open")
        return list(self._cluster.nodes)

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        self._nodes()
        return await offsets.patiently(
            self._cluster, what, self.settings.request_timeout_ms, attempt
        )

    async def _ask_node(self, node_id: int, request: Request, expected: type[R]) -> R:
        return await self._patiently(
            expected.__name__, lambda: self._cluster.peer(node_id).ask(request, expected)
        )

    async def _ask_controller(
        self, request: Request | Callable[[int], Request], expected: type[R]
    ) -> R:
        """`request` is made of the version, where that decides how it looks."""

        async def attempt() -> R:
            channel = await self._cluster.peer(self._cluster.controller_id).connected()
            made = request
            if not isinstance(made, Request):
                made = made(channel.versions.pick(ApiKey.DELETE_TOPICS))
            response = await channel.ask(made, expected)
            rows: Any = getattr(response, "topics", None) or getattr(response, "responses", ())
            if any(row.error_code == ErrorCode.NOT_CONTROLLER for row in rows):
                self._cluster.refresh_soon()
                raise KafkaError(ErrorCode.NOT_CONTROLLER)
            return response

        return await self._patiently(expected.__name__, attempt)

    async def _ask_for(
        self, resource: Resource, name: str, request: Request, expected: type[R]
    ) -> R:
        """What concerns a broker is asked of that broker, all else of any."""
        if resource in (Resource.BROKER, Resource.BROKER_LOGGER) and name:
            if not name.isdecimal():
                raise ClientError(f"a broker is named by its id, not {name!r}")
            return await self._ask_node(int(name), request, expected)
        return await self._patiently(
            expected.__name__, lambda: self._cluster.ask_any(request, expected)
        )

    async def _ask_coordinator(
        self,
        group_id: str,
        request: Request,
        expected: type[R],
        check: Callable[[R], None],
    ) -> R:
        """`check` raises what the answer says is wrong, so that it is asked again where that
        helps."""

        async def attempt() -> R:
            node = await self._cluster.coordinator(KeyType.GROUP, group_id)
            with offsets.minding(self._cluster, group_id):
                response = await self._cluster.peer(node).ask(request, expected)
                check(response)
                return response

        return await self._patiently(f"group {group_id!r}", attempt)

    async def _by_leader(self, keys: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        found: dict[int, list[TopicPartition]] = {}
        for key in keys:
            view = await self._cluster.topic(key.topic, self.settings.request_timeout_ms)
            if key.partition >= len(view.partitions):
                raise ClientError(f"{key} does not exist")
            leader = view.partitions[key.partition].leader
            if leader < 0:
                raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE)
            found.setdefault(leader, []).append(key)
        return found

    async def _metadata(self, names: list[str] | None) -> MetadataResponse:
        rows = None if names is None else [MetadataRequestTopic(name=name) for name in names]
        request = MetadataRequest(topics=rows, allow_auto_topic_creation=False)
        return await self._patiently(
            "metadata", lambda: self._cluster.ask_any(request, MetadataResponse)
        )


def raise_named(number: int, message: str | None, name: str) -> None:
    """KafkaError where `number` is an error, with the name of what it is about."""
    if number:
        code = code_of(number)
        raise KafkaError(code, f"{name}: {message or code.name}")

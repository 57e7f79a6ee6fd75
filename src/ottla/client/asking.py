"""How an admin opens, asks, and closes.

What is asked for is sent on an errand (`errand`) by a route (`routes`), again and again with
back-off, until it is settled or `default_api_timeout_ms` is over. The rooms `admin_...` say what is
asked.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack

from ottla.base.errors import KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import World
from ottla.client import offsets
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errand import Ask, Errand
from ottla.client.errors import RefusedError, TimedOutError, code_of, raise_for
from ottla.client.life import Life
from ottla.client.options import AdminOptions
from ottla.client.routes import (
    Anyone,
    Controller,
    Coordinators,
    Leaders,
    Nodes,
    Route,
    metadata_of,
)
from ottla.client.settings import ClientSettings, at_least
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound=Response)
Key = TopicPartition | tuple[str, int]
"""A partition: topic and index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings(ClientSettings):
    default_api_timeout_ms: int = 60_000
    """How long a call may take, all of its tries together."""

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        at_least("default_api_timeout_ms", self.default_api_timeout_ms, 1)


class Asking(Life):
    _kind = "admin"

    def __init__(self, *, world: World | None = None, **options: Unpack[AdminOptions]) -> None:
        super().__init__(world)
        self.settings = AdminSettings(**options)

    def _build(self, world: World) -> Cluster:
        return Cluster(world, self.settings, creates_topics=False)

    async def close(self) -> None:
        """Close the connections. A call that is under way raises ClientClosedError."""
        if self._is_open:
            await self._end()
        self._is_ended = True

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def _all_nodes(self, what: str) -> list[int]:
        """Ids of the nodes that there are now."""
        await self._patiently(what, lambda: metadata_of(self._cluster, ()))
        return sorted(self._cluster.nodes)

    # ---- errands

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[V]]) -> V:
        async def checked() -> V:
            self._require_open()
            return await attempt()

        timeout_ms = self.settings.default_api_timeout_ms
        self._require_open()
        return await offsets.patiently(self._cluster, what, timeout_ms, checked)

    async def _each(
        self, what: str, items: Iterable[K], route: Route[K], ask: Ask[K, V]
    ) -> dict[K, V]:
        """What came of each item. RefusedError where some are refused; TimedOutError where none
        was settled in time."""
        errand = Errand(items, route, ask)
        try:
            await self._patiently(what, errand.attempt)
        except TimedOutError as late:
            errand.give_up(late)
        return errand.outcome()

    async def _one(
        self,
        route: Route[str],
        request: Request | Callable[[int], Request],
        expected: type[R],
        check: Callable[[R], object] = lambda _: None,
    ) -> R:
        """The answer to one request. `check` raises the KafkaError that stands in its rows."""
        what = _name_of(expected)

        async def ask(node_id: int, _: object) -> dict[str, R]:
            response = await self._send(node_id, request, expected)
            check(response)
            return {what: response}

        return (await self._each(what, [what], route, ask))[what]

    async def _send(
        self,
        node_id: int,
        request: Request | Callable[[int], Request],
        expected: type[R],
        *,
        last: int | None = None,
    ) -> R:
        """The answer of a node. `request` may be made of the version that it will be sent in.
        KafkaError where the answer says that all of it is refused."""
        channel = await self._cluster.peer(node_id).connected()
        if not isinstance(request, Request):
            request = request(channel.versions.pick(int(expected.__api__ or 0), last))
        response = await channel.ask(request, expected, last=last)
        raise_for(getattr(response, "error_code", 0), getattr(response, "error_message", None))
        return response

    async def _has_api(self, node_id: int, key: ApiKey) -> bool:
        return (await self._cluster.peer(node_id).connected()).versions.has(key)

    # ---- routes

    def _controller(self) -> Controller:
        self._require_open()
        return Controller(self._cluster)

    def _anyone(self) -> Anyone:
        self._require_open()
        return Anyone(self._cluster)

    def _leaders(self) -> Leaders:
        self._require_open()
        return Leaders(self._cluster)

    def _coordinators(
        self, kind: KeyType, key_of: Callable[[Any], str] = lambda item: item
    ) -> Coordinators:
        self._require_open()
        return Coordinators(self._cluster, kind, key_of)

    def _nodes_of(self, node_of: Callable[[Any], int] = lambda item: item) -> Nodes:
        self._require_open()
        return Nodes(self._cluster, node_of)


def refusal(number: int, message: str | None, name: object) -> KafkaError | None:
    """The error of that number, with the name of what it is about; None where it is none."""
    if not number:
        return None
    code = code_of(number)
    return KafkaError(code, f"{name}: {message or code.name}")


def settled(found: Mapping[K, V | KafkaError]) -> dict[K, V]:
    """The results; RefusedError where there are errors."""
    errors = {key: each for key, each in found.items() if isinstance(each, KafkaError)}
    results = {key: each for key, each in found.items() if not isinstance(each, KafkaError)}
    if errors:
        raise RefusedError(errors, results)
    return results


def raise_named(number: int, message: str | None, name: object) -> None:
    error = refusal(number, message, name)
    if error is not None:
        raise error


def partition_of(key: Key) -> TopicPartition:
    return TopicPartition(key[0], PartitionIndex(key[1]))


def by_partition(values: Mapping[Key, V]) -> dict[TopicPartition, V]:
    return {partition_of(key): value for key, value in values.items()}


def by_topic(keys: Iterable[Key]) -> dict[str, list[int]]:
    """Indexes of partitions, by topic."""
    found: dict[str, list[int]] = {}
    for topic, index in keys:
        found.setdefault(topic, []).append(index)
    return found


def _name_of(expected: type[Response]) -> str:
    return ApiKey(expected.__api__ or 0).name.lower()

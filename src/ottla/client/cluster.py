"""The cluster as one client sees it: bootstrap, metadata, a peer for each node, coordinators.

Metadata is asked for the topics in use alone, when something is not known, when an answer says
that it is stale, and when it is `metadata_max_age_ms` old. All who need a refresh share one: it
runs as a task of its own, so that cancelling who waits does not end it. Refreshes keep
`retry_backoff_ms` apart, longer while they fail; what was never asked for is asked for at once.
Every known node is tried, the connected ones first, and the bootstrap servers after them: so a
cluster that moved is found again (KIP-899).

Coordinators are looked up when first asked for and forgotten when they refuse.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.base.world import World
from ottla.client.errors import (
    RETRIABLE,
    ClientClosedError,
    NoBrokersError,
    TimedOutError,
    code_of,
    nobody_of,
    raise_for,
)
from ottla.client.settings import Address, ClientSettings
from ottla.client.topology import KeyType as KeyType
from ottla.client.topology import NodeView, TopicView, node_views, topic_view
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from ottla.rpc.channel import Channel
from ottla.rpc.errors import AuthenticationError, ConnectError, RpcError
from ottla.rpc.peer import Peer

R = TypeVar("R", bound=Response)
_log = logging.getLogger(__name__)


class Cluster:
    def __init__(
        self, world: World, settings: ClientSettings, *, creates_topics: bool = True
    ) -> None:
        """`creates_topics`: asking for a topic may make it, where the broker allows that."""
        self.world = world
        self.settings = settings
        self.nodes: dict[int, NodeView] = {}
        self.topics: dict[str, TopicView] = {}
        self.topic_errors: dict[str, ErrorCode] = {}
        self.cluster_id: str | None = None
        self.controller_id = -1
        self.on_change: list[Callable[[], None]] = []
        """Called after each answer with metadata, and when `channel` has connected or failed."""
        self.on_refused: list[Callable[[int, AuthenticationError], None]] = []
        """Called with a node that does not have us, or -1: none that knows metadata has."""
        self._creates_topics = creates_topics
        self._wanted: dict[str, None] = {}
        self._awaited: Counter[str] = Counter()
        """Topics that were asked for and are not known yet: how many wait for each."""
        self.is_whole = False
        """Whether `topics` are all there are (`want_all`), as of the last answer."""
        self._wants_all = False
        self._has_new_wants = False
        """Whether more is wanted than the last answer can hold."""
        self._peers: dict[int, Peer] = {}
        self._peers_apart: dict[int, Peer] = {}
        self._seeds: dict[Address, Peer] = {}
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._coordinators: dict[tuple[KeyType, str], int] = {}
        self._names: dict[Uuid, str] = {}
        self._failures_count = 0
        self._refreshed_at = -1e9
        self._refreshing: asyncio.Task[Exception | None] | None = None
        self._ageing: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Find the cluster; AuthenticationError, or NoBrokersError with the reason of each."""
        await self.refresh()

    async def close(self) -> None:
        self._is_closed = True
        if self._ageing is not None:
            self._ageing.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        for task in list(self._connecting.values()):
            task.cancel()
        for peer in [*self._peers.values(), *self._peers_apart.values(), *self._seeds.values()]:
            peer.close()
        self._peers.clear()
        self._peers_apart.clear()
        self._seeds.clear()

    # ---- topics

    async def topic(self, name: str, timeout_ms: int) -> TopicView:
        """The topic, with at least one partition. KafkaError at once where the cluster refuses
        it, and UNKNOWN_TOPIC_OR_PARTITION where it does not come up in time."""
        view = self.topics.get(name)
        if view is not None:
            return view
        self._has_new_wants |= name not in self._wanted and not self._awaited[name]
        error: Exception = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        self._awaited[name] += 1
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while True:
                    try:
                        await self.refresh()
                    except NoBrokersError as failure:
                        error = failure
                    view = self.topics.get(name)
                    if view is not None:
                        self._wanted[name] = None
                        return view
                    code = self.topic_errors.get(name, ErrorCode.NONE)
                    if code:
                        error = KafkaError(code, f"topic {name!r}: {code.name}")
                        if code not in RETRIABLE:
                            raise error
        except TimeoutError:
            if isinstance(error, KafkaError):
                raise KafkaError(
                    error.code, f"topic {name!r} did not come up in {timeout_ms} ms: {error}"
                ) from None
            raise TimedOutError(f"topic {name!r}: no metadata in {timeout_ms} ms") from error
        finally:
            self._awaited[name] -= 1
            if not self._awaited[name]:
                del self._awaited[name]

    def want(self, names: Iterable[str]) -> None:
        """Keep what is known of these topics fresh, from the next refresh on."""
        for name in names:
            if name not in self._wanted:
                self._wanted[name] = None
                self._has_new_wants = True

    def want_all(self, wants_all: bool) -> None:
        """Ask for every topic of the cluster, from the next refresh on."""
        self._has_new_wants |= wants_all and not self._wants_all
        self._wants_all = wants_all

    def name_of(self, topic_id: Uuid) -> str | None:
        return self._names.get(topic_id)

    def leader_of(self, topic: str, index: int) -> int:
        """Node id of a partition's leader; -1 where none is known."""
        view = self.topics.get(topic)
        if view is None or index >= len(view.partitions):
            return -1
        return view.partitions[index].leader

    # ---- refreshing

    def refresh_soon(self) -> None:
        """Something is stale: ask, and tell `on_change`. Waits for nothing."""
        if self._refreshing is None and not self._is_closed:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def refresh(self) -> None:
        """A refresh that begins now or ran already; raises as `start` where nobody answers."""
        if self._is_closed:
            raise ClientClosedError("the client is closed")
        self.refresh_soon()
        refreshing = self._refreshing
        assert refreshing is not None
        await asyncio.wait([refreshing])
        if refreshing.cancelled():
            raise ClientClosedError("the client is closed")
        failure = refreshing.result()
        if failure is not None:
            raise failure.__class__(*failure.args) from failure.__cause__

    async def _refresh(self) -> Exception | None:
        try:
            if self._failures_count or not self._has_new_wants:
                await self._pause()
            failure = await self._ask_anyone()
            self._tell_refusal(-1, failure)
        finally:
            self._refreshed_at = self.world.clock.monotonic()
            self._refreshing = None
            self._grow_old()
            self._changed()
        if self._has_new_wants:
            self.refresh_soon()
        return failure

    async def _pause(self) -> None:
        failures_count = max(1, self._failures_count)
        pause_s = self.settings.retry_backoff.seconds(failures_count, self.world.rng)
        await asyncio.sleep(self._refreshed_at + pause_s - self.world.clock.monotonic())

    async def _ask_anyone(self) -> Exception | None:
        causes: list[Exception] = []
        for peer in self._candidates():
            self._has_new_wants = False
            wanted = [MetadataRequestTopic(name=name) for name in {**self._wanted, **self._awaited}]
            request = MetadataRequest(
                topics=None if self._wants_all else wanted,
                allow_auto_topic_creation=self._creates_topics,
            )
            try:
                response = await peer.ask(request, MetadataResponse)
                raise_for(response.error_code)
            except (RpcError, KafkaError) as failure:
                causes.append(failure)
                continue
            self._failures_count = 0
            self._take(response, is_whole=request.topics is None)
            return None
        self._failures_count += 1
        return nobody_of(causes)

    def _candidates(self) -> Iterator[Peer]:
        """Each known node once, in a drawn order, the connected ones first; then the seeds."""
        drawn = [(self.world.rng.random(), node_id) for node_id in self.nodes]
        ids = [node_id for _, node_id in sorted(drawn)]
        connected = [each for each in ids if (peer := self._peers.get(each)) and peer.channel]
        for node_id in [*connected, *(each for each in ids if each not in connected)]:
            if node_id in self.nodes:
                yield self.peer(node_id)
        for address in self.settings.addresses():
            if address not in self._seeds:
                self._seeds[address] = self._new_peer(*address)
            yield self._seeds[address]

    def _grow_old(self) -> None:
        if self._ageing is not None:
            self._ageing.cancel()
        if not self._is_closed:
            self._ageing = asyncio.get_running_loop().call_later(
                self.settings.metadata_max_age_ms / 1_000, self.refresh_soon
            )

    def _take(self, response: MetadataResponse, *, is_whole: bool) -> None:
        self.is_whole = is_whole
        self.cluster_id = response.cluster_id
        self.controller_id = response.controller_id
        self.take_nodes(node_views(response.brokers))
        if is_whole:
            there = {row.name for row in response.topics}
            self.topics = {name: view for name, view in self.topics.items() if name in there}
        for row in response.topics:
            name = row.name or ""
            code = code_of(row.error_code)
            if code:
                self.topic_errors[name] = code
                if code not in RETRIABLE or code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                    self.topics.pop(name, None)
                continue
            self.topic_errors.pop(name, None)
            view = topic_view(row, self.topics.get(name), self.nodes)
            if view.partitions:
                self.topics[name] = view
                if row.topic_id != ZERO_UUID:
                    self._names[row.topic_id] = name

    # ---- nodes

    def take_nodes(self, nodes: dict[int, NodeView]) -> None:
        self.nodes = nodes
        for peers in (self._peers, self._peers_apart):
            for node_id, peer in list(peers.items()):
                node = nodes.get(node_id)
                if node is None or (node.host, node.port) != (peer.host, peer.port):
                    del peers[node_id]
                    peer.close()
        if nodes and self._peers:
            for peer in self._seeds.values():
                peer.close()
            self._seeds.clear()

    def peer(self, node_id: int, *, apart: bool = False) -> Peer:
        """The peer of a node; ConnectError for one that is not known. `apart`: over a connection
        of its own, for what may not wait behind a fetch, or is answered late as a join is: a
        broker answers the requests of a connection in order."""
        peers = self._peers_apart if apart else self._peers
        peer = peers.get(node_id)
        if peer is None:
            node = self.nodes.get(node_id)
            if node is None:
                raise ConnectError(f"node {node_id} is not known")
            peer = peers[node_id] = self._new_peer(node.host, node.port)
        return peer

    def channel(self, node_id: int) -> Channel | None:
        """The open channel to a node. Where there is none it connects beside, and `on_change`
        tells when that is done; where the node is not known, metadata are asked for."""
        try:
            peer = self.peer(node_id)
        except ConnectError:
            self.refresh_soon()
            return None
        channel = peer.channel
        if channel is None and node_id not in self._connecting:
            connecting = asyncio.get_running_loop().create_task(self._connect(node_id, peer))
            self._connecting[node_id] = connecting
        return channel

    async def _connect(self, node_id: int, peer: Peer) -> None:
        try:
            await peer.connected()
        except (RpcError, KafkaError) as failure:
            _log.info("node %d: %s", node_id, failure)
            self._tell_refusal(node_id, failure)
            if not self._is_closed:
                self.refresh_soon()
        finally:
            del self._connecting[node_id]
        self._changed()

    def _changed(self) -> None:
        for call in list(self.on_change):
            call()

    def _tell_refusal(self, node_id: int, failure: Exception | None) -> None:
        if isinstance(failure, AuthenticationError):
            for call in list(self.on_refused):
                call(node_id, failure)

    def _new_peer(self, host: str, port: int) -> Peer:
        if self._is_closed:
            raise ConnectError("the client is closed")
        settings = self.settings
        return Peer(self.world, host, port, settings.channel, settings.reconnect_backoff)

    def hang_up_apart(self) -> None:
        """Close the connections that are apart: what waits for an answer there is given up."""
        for peer in self._peers_apart.values():
            peer.close()
        self._peers_apart.clear()

    async def ask_any(self, request: Request, expected: type[R]) -> R:
        """Ask whichever node is there; the RpcError of the last where none answers."""
        failure: RpcError = ConnectError("no node is known")
        for peer in self._candidates():
            try:
                return await peer.ask(request, expected)
            except RpcError as error:
                failure = error
        raise failure

    # ---- coordinators

    async def coordinator(self, key_type: KeyType, key: str) -> int:
        """Node id of the coordinator of a group or a transactional id. KafkaError (retriable
        while it is being made) or RpcError."""
        known = self._coordinators.get((key_type, key))
        if known is not None:
            return known
        failure: Exception = ConnectError("no node is known")
        for peer in self._candidates():
            try:
                node = await _find(peer, key_type, key)
            except RpcError as error:
                failure = error
                continue
            if node.id not in self.nodes:
                self.take_nodes({**self.nodes, node.id: node})
            self._coordinators[key_type, key] = node.id
            return node.id
        raise failure

    def forget_coordinator(self, key_type: KeyType, key: str) -> None:
        self._coordinators.pop((key_type, key), None)


async def _find(peer: Peer, key_type: KeyType, key: str) -> NodeView:
    channel = await peer.connected()
    if channel.versions.pick(ApiKey.FIND_COORDINATOR) >= 4:
        request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key])
        response = await channel.ask(request, FindCoordinatorResponse)
        for row in response.coordinators:
            raise_for(row.error_code, row.error_message)
            return NodeView(row.node_id, row.host, row.port)
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    request = FindCoordinatorRequest(key=key, key_type=key_type)
    response = await channel.ask(request, FindCoordinatorResponse)
    raise_for(response.error_code, response.error_message)
    return NodeView(response.node_id, response.host, response.port)

"""Whom an admin asks about each thing: the controller, a leader, a coordinator, a certain node, or
whichever has least to do.

A route finds the node of each item, or says why there is none now. `missed` tells it that the node
was the wrong one or could not be reached: it looks again before the next try. `again` are the codes
after which another try may do better; each other is final.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errors import STALE_COORDINATOR, STALE_METADATA, code_of, raise_for
from ottla.client.topology import node_views
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from ottla.rpc.errors import RpcError

K = TypeVar("K")
Place = int | KafkaError | RpcError
"""A node id, or why there is none."""


class Route(Protocol[K]):
    @property
    def again(self) -> frozenset[ErrorCode]: ...

    async def find(self, items: Sequence[K]) -> Mapping[K, Place]:
        """The place of each; KafkaError, RpcError or NoBrokersError where none can be found."""

    def missed(self, item: K, node_id: int) -> None: ...


class Controller:
    """The controller, for all items."""

    again: Final = frozenset({ErrorCode.NOT_CONTROLLER, ErrorCode.THROTTLING_QUOTA_EXCEEDED})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._is_stale = False

    async def find(self, items: Sequence[Any]) -> dict[Any, Place]:
        if self._is_stale or self._cluster.controller_id < 0:
            await self._cluster.refresh()
            self._is_stale = False
        return dict.fromkeys(items, self._cluster.controller_id)

    def missed(self, item: Any, node_id: int) -> None:
        self._is_stale = True


class Anyone:
    """The node with the fewest requests under way, a connected one if there is any; if it fails,
    another."""

    again: Final = Controller.again | {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tried: set[int] = set()

    async def find(self, items: Sequence[Any]) -> dict[Any, Place]:
        if not self._cluster.nodes.keys() - self._tried:
            await self._cluster.refresh()
            self._tried.clear()
        nodes = sorted(self._cluster.nodes.keys() - self._tried)
        return dict.fromkeys(items, min(nodes, key=self._load, default=-1))

    def _load(self, node_id: int) -> tuple[bool, int, float]:
        channel = self._cluster.peer(node_id).channel
        count = 0 if channel is None else channel.in_flight_count
        return channel is None, count, self._cluster.world.rng.random()

    def missed(self, item: Any, node_id: int) -> None:
        self._tried.add(node_id)


class Nodes:
    """The node that an item names."""

    again: Final = frozenset(
        {
            ErrorCode.BROKER_NOT_AVAILABLE,
            ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode.COORDINATOR_NOT_AVAILABLE,
        }
    )

    def __init__(self, cluster: Cluster, node_of: Callable[[Any], int]) -> None:
        self._cluster = cluster
        self._node_of = node_of

    async def find(self, items: Sequence[Any]) -> dict[Any, Place]:
        return {item: self._place(self._node_of(item)) for item in items}

    def _place(self, node_id: int) -> Place:
        if node_id in self._cluster.nodes:
            return node_id
        self._cluster.refresh_soon()
        return KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, f"there is no node {node_id}")

    def missed(self, item: Any, node_id: int) -> None:
        return


class Coordinators:
    """The coordinator of the group or the transactional id that `key_of` tells of an item."""

    again: Final = STALE_COORDINATOR | {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
    }

    def __init__(
        self, cluster: Cluster, kind: KeyType, key_of: Callable[[Any], str] = lambda item: item
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._key_of = key_of

    async def find(self, items: Sequence[Any]) -> dict[Any, Place]:
        keys = list(dict.fromkeys(self._key_of(item) for item in items))
        places = dict(zip(keys, await asyncio.gather(*map(self._place, keys)), strict=True))
        return {item: places[self._key_of(item)] for item in items}

    async def _place(self, key: str) -> Place:
        try:
            return await self._cluster.coordinator(self._kind, key)
        except (KafkaError, RpcError) as failure:
            return failure

    def missed(self, item: Any, node_id: int) -> None:
        self._cluster.forget_coordinator(self._kind, self._key_of(item))


class Leaders:
    """The leader of each partition, as metadata tell it that are asked for anew at each try."""

    again: Final = STALE_METADATA | {ErrorCode.OFFSET_NOT_AVAILABLE, ErrorCode.REQUEST_TIMED_OUT}

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def find(self, items: Sequence[TopicPartition]) -> dict[TopicPartition, Place]:
        names = dict.fromkeys(key.topic for key in items)
        response = await metadata_of(self._cluster, names)
        places: dict[TopicPartition, Place] = {}
        for topic in response.topics:
            name, code = topic.name or "", code_of(topic.error_code)
            if code:
                failure = KafkaError(code, f"topic {name!r}: {code.name}")
                places.update((key, failure) for key in items if key.topic == name)
                continue
            for row in topic.partitions:
                key = TopicPartition(name, PartitionIndex(row.partition_index))
                leads = row.leader_id >= 0
                places[key] = (
                    row.leader_id if leads else _error(key, ErrorCode.LEADER_NOT_AVAILABLE)
                )
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return {key: places.get(key, _error(key, unknown)) for key in items}

    def missed(self, item: TopicPartition, node_id: int) -> None:
        return


async def metadata_of(cluster: Cluster, names: Iterable[str]) -> MetadataResponse:
    """What a node knows now of these topics; the cluster takes the nodes that it names."""
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in names],
        allow_auto_topic_creation=False,
    )
    response = await cluster.ask_any(request, MetadataResponse)
    raise_for(response.error_code)
    if response.brokers:
        cluster.take_nodes(node_views(response.brokers))
    return response


def _error(key: TopicPartition, code: ErrorCode) -> KafkaError:
    return KafkaError(code, f"{key}: {code.name}")

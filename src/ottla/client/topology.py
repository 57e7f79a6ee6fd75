"""What a client knows of a cluster: nodes, topics, partitions and who leads them.

Values only; `cluster` asks for them and keeps them fresh. A partition's leader epoch never goes
back: an answer of a broker that lags behind is not believed about partitions whose newer leader
is known already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.client.errors import code_of
from ottla.protocol.messages.metadata import MetadataResponseBroker, MetadataResponseTopic

PARTITIONS_MAX: Final = 1 << 18
"""Of a topic, whose numbers have no gap. Kafka has far fewer; a view has room for each up to the
last, so a broker that tells of one behind these is not believed."""


class KeyType(IntEnum):
    """What a coordinator coordinates."""

    GROUP = 0
    TRANSACTION = 1
    SHARE = 2


@dataclass(frozen=True, slots=True)
class NodeView:
    id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionView:
    index: int
    leader: int
    """Node id; -1 where there is none."""
    leader_epoch: int = -1
    replicas: tuple[int, ...] = ()
    in_sync: tuple[int, ...] = ()
    offline: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicView:
    name: str
    id: Uuid
    partitions: tuple[PartitionView, ...]
    """By index: `partitions[i].index == i`."""
    is_internal: bool = False
    nodes: Mapping[int, NodeView] = field(default_factory=dict)
    """All nodes of the cluster, as they were known when the topic was."""
    available: tuple[int, ...] = ()
    """Indexes of the partitions that have a leader."""

    def __len__(self) -> int:
        return len(self.partitions)


def node_views(rows: Iterable[MetadataResponseBroker]) -> dict[int, NodeView]:
    return {row.node_id: NodeView(row.node_id, row.host, row.port, row.rack) for row in rows}


def topic_view(
    row: MetadataResponseTopic, before: TopicView | None, nodes: Mapping[int, NodeView]
) -> TopicView:
    """The topic of an answer, with what is newer in `before` kept."""
    same_topic = before is not None and (before.id in (row.topic_id, ZERO_UUID))
    known = before.partitions if before is not None and same_topic else ()
    found = {}
    for each in row.partitions:
        if not 0 <= each.partition_index < PARTITIONS_MAX:
            continue
        code = code_of(each.error_code)
        view = PartitionView(
            each.partition_index,
            -1 if code is ErrorCode.LEADER_NOT_AVAILABLE else each.leader_id,
            each.leader_epoch,
            tuple(each.replica_nodes),
            tuple(each.isr_nodes),
            tuple(each.offline_replicas),
        )
        older = known[view.index] if view.index < len(known) else None
        is_stale = older is not None and 0 <= view.leader_epoch < older.leader_epoch
        found[view.index] = older if is_stale and older is not None else view
    partitions = tuple(
        found.get(index) or PartitionView(index, -1) for index in range(max(found, default=-1) + 1)
    )
    available = tuple(each.index for each in partitions if each.leader >= 0)
    return TopicView(row.name or "", row.topic_id, partitions, row.is_internal, nodes, available)

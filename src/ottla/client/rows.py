"""What an admin is told: rows with a type, one for each thing that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ottla.base.ids import TopicPartition, Uuid
from ottla.client.topology import NodeView


class Resource(IntEnum):
    """What has configs, by Kafka's numbers."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


@dataclass(frozen=True, slots=True)
class NewTopic:
    name: str
    num_partitions: int = -1
    """-1: the broker's `num.partitions`."""
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)
    replica_assignment: Mapping[int, list[int]] = field(default_factory=dict)
    """Partition to broker ids: instead of the two counts."""


class CreatedTopic(NamedTuple):
    name: str
    id: Uuid
    num_partitions: int
    """-1 where the broker does not tell (before 2.4)."""
    replication_factor: int


class ClusterRow(NamedTuple):
    id: str | None
    controller_id: int
    nodes: tuple[NodeView, ...]


class ConfigEntry(NamedTuple):
    name: str
    value: str | None
    """None where it is sensitive."""
    source: int
    """Kafka's: 1 topic, 2 and 3 broker at run time, 4 broker's file, 5 default, 8 group."""
    is_read_only: bool
    is_sensitive: bool


class LogDir(NamedTuple):
    broker_id: int
    path: str
    error: str | None
    total_bytes: int
    """-1 where the broker does not tell (before 3.3)."""
    usable_bytes: int
    partition_bytes: dict[TopicPartition, int]


class GroupListing(NamedTuple):
    group_id: str
    protocol_type: str
    state: str
    type: str


class GroupMember(NamedTuple):
    member_id: str
    client_id: str
    host: str
    group_instance_id: str | None


class GroupDescription(NamedTuple):
    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: tuple[GroupMember, ...]

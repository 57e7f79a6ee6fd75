"""What an admin is told and tells: rows with a type, one for each thing that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple

from ottla.base.ids import TopicPartition, Uuid
from ottla.client.offsets import OffsetAndMetadata as OffsetAndMetadata
from ottla.client.offsets import OffsetAndTimestamp as OffsetAndTimestamp
from ottla.client.topology import NodeView
from ottla.security.acl import Acl as Acl
from ottla.security.acl import AclFilter as AclFilter
from ottla.security.acl import Operation as Operation
from ottla.security.acl import PatternType as PatternType
from ottla.security.acl import Permission as Permission
from ottla.security.acl import ResourceType as ResourceType

# ---- topics and configs


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
    """-1: the broker's `num.partitions` (brokers from 2.4)."""
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


class ConfigEntry(NamedTuple):
    name: str
    value: str | None
    """None where it is sensitive."""
    source: int
    """Kafka's: 1 topic, 2 and 3 broker at run time, 4 broker's file, 5 default, 8 group."""
    is_read_only: bool
    is_sensitive: bool


# ---- the cluster, and where its partitions are


class ClusterRow(NamedTuple):
    id: str | None
    controller_id: int
    nodes: tuple[NodeView, ...]


class Features(NamedTuple):
    """Levels of the cluster's features (KIP-584); empty where the broker has none."""

    supported: dict[str, tuple[int, int]]
    """Lowest and highest level."""
    finalized: dict[str, int]
    epoch: int
    """-1 where nothing is finalised."""


class FeatureChange(IntEnum):
    """How a feature's level may change, by Kafka's numbers."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class QuorumReplica(NamedTuple):
    id: int
    log_end_offset: int
    last_fetch_ms: int
    """-1 where the broker does not tell, as the two after it."""
    last_caught_up_ms: int
    directory_id: Uuid


class Quorum(NamedTuple):
    """Who keeps the metadata (KIP-595)."""

    leader_id: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[QuorumReplica, ...]
    observers: tuple[QuorumReplica, ...]


class FutureReplica(NamedTuple):
    """A partition that is being copied into a log directory."""

    bytes: int
    offset_lag: int
    """How many offsets it is behind."""


class LogDir(NamedTuple):
    broker_id: int
    path: str
    error: str | None
    total_bytes: int
    """-1 where the broker does not tell (before 3.3)."""
    usable_bytes: int
    partition_bytes: dict[TopicPartition, int]
    moving_here: dict[TopicPartition, FutureReplica]


class Reassignment(NamedTuple):
    """A partition on its way to other replicas."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


# ---- groups


class GroupListing(NamedTuple):
    group_id: str
    protocol_type: str
    state: str
    """Empty where the broker does not tell (before 2.6)."""
    type: str
    """"classic", "consumer" ...; empty where the broker does not tell."""


class GroupMember(NamedTuple):
    member_id: str
    client_id: str
    host: str
    group_instance_id: str | None
    partitions: tuple[TopicPartition, ...] = ()
    """What it reads; nothing where it is no consumer."""
    epoch: int = -1
    """-1 in a classic group."""


class GroupDescription(NamedTuple):
    group_id: str
    type: str
    """"classic" or "consumer" (KIP-848)."""
    state: str
    protocol_type: str
    assignor: str
    """In a classic group: the protocol that its members agreed on."""
    members: tuple[GroupMember, ...]
    epoch: int = -1


# ---- transactions


class TransactionListing(NamedTuple):
    transactional_id: str
    producer_id: int
    state: str


class TransactionDescription(NamedTuple):
    transactional_id: str
    state: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    started_ms: int
    """-1 where none is open."""
    partitions: tuple[TopicPartition, ...]


class ProducerState(NamedTuple):
    """A producer that a partition remembers."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    """-1 where no transaction of it ended."""
    transaction_start_offset: int
    """-1 where none is open."""


class FencedProducer(NamedTuple):
    producer_id: int
    producer_epoch: int


# ---- users and quotas


@dataclass(frozen=True, slots=True)
class NewScramCredential:
    """What a user may log in with from now on. Only a salted hash of the password is sent."""

    user: str
    password: str = field(repr=False)
    mechanism: str = "SCRAM-SHA-512"
    iterations: int = 8_192


class ScramDeletion(NamedTuple):
    user: str
    mechanism: str = "SCRAM-SHA-512"


class Match(Enum):
    ANY = "any"
    """Any name, and the default."""


class QuotaRow(NamedTuple):
    entity: dict[str, str | None]
    """Names by type ("user", "client-id", "ip"); None is the default of the type."""
    values: dict[str, float]

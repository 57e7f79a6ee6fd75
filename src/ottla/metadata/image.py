"""The image: what the cluster has agreed on, at one revision, as objects that never change.

A new image shares with the old one whatever did not change, so that `is` tells that something
is the same, and taking in one change costs that change and a copy of the mapping it is in
(topics by name and by id; the partitions of its topic), never a walk over the cluster.
Nobody writes to a mapping of an image.

`Edit` makes an image from another one and changes of the store. It also notes which topics and
partitions it touched: `delta` compares just these. A topic's partitions are counted in its own
value: a topic with more or fewer is corrupt content, and said so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import LeaderEpoch, NodeId, PartitionIndex, Uuid
from ottla.metadata import keys
from ottla.metadata.store import NO_REVISION, Changes, Entry, Event, Revision
from ottla.security.acl import Acl

NO_NODE: Final = NodeId(-1)


@dataclass(frozen=True, slots=True)
class BrokerImage:
    node_id: NodeId
    host: str
    port: int
    rack: str | None
    epoch: Revision
    """Revision of its registration: what Kafka calls the broker epoch."""


@dataclass(frozen=True, slots=True)
class PartitionImage:
    index: PartitionIndex
    leader: NodeId
    """NO_NODE where there is none."""
    leader_epoch: LeaderEpoch
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    elr: tuple[NodeId, ...]
    """Eligible leader replicas (KIP-966): out of the in-sync set, and yet known complete."""
    partition_epoch: int
    adding: tuple[NodeId, ...]
    removing: tuple[NodeId, ...]
    mod_revision: Revision = field(compare=False)

    def value(self) -> bytes:
        return keys.value_of(
            {
                "replicas": self.replicas,
                "leader": self.leader,
                "leader_epoch": self.leader_epoch,
                "isr": self.isr,
                "elr": self.elr,
                "partition_epoch": self.partition_epoch,
                "adding": self.adding,
                "removing": self.removing,
            }
        )


@dataclass(frozen=True, slots=True)
class TopicImage:
    name: str
    id: Uuid
    partitions: tuple[PartitionImage, ...]
    """By index, without a gap."""
    configs: Mapping[str, str]
    mod_revision: Revision = field(compare=False)

    def value(self) -> bytes:
        return keys.value_of(
            {"id": self.id.hex(), "partitions": len(self.partitions), "configs": self.configs}
        )


@dataclass(frozen=True, slots=True)
class ClusterImage:
    revision: Revision
    cluster_id: str
    controller_id: NodeId
    """NO_NODE while there is none."""
    brokers: Mapping[NodeId, BrokerImage]
    topics: Mapping[str, TopicImage]
    topics_by_id: Mapping[Uuid, TopicImage]
    broker_configs: Mapping[str, Mapping[str, str]]
    """By Kafka's resource name: '' for all brokers, else a node id."""
    group_configs: Mapping[str, Mapping[str, str]]
    """By group id. A group that is not there may have configs."""
    features: Mapping[str, int]
    """Levels that were set, by feature."""
    acls: Mapping[str, Acl]
    """Access control entries, by their keys in the store."""


EMPTY: Final = ClusterImage(NO_REVISION, "", NO_NODE, {}, {}, {}, {}, {}, {}, {})


def topic_called(image: ClusterImage, name: str) -> TopicImage:
    """KafkaError UNKNOWN_TOPIC_OR_PARTITION where there is none."""
    topic = image.topics.get(name)
    if topic is None:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no topic called {name!r}."
        )
    return topic


class Edit:
    def __init__(self, image: ClusterImage) -> None:
        self._revision = image.revision
        self._cluster_id = image.cluster_id
        self._controller_id = image.controller_id
        self._brokers = dict(image.brokers)
        self._topics = image.topics
        self._topics_by_id = image.topics_by_id
        self._topics_changed: dict[str, TopicImage | None] = {}
        self._names_changed: dict[Uuid, str] = {}
        self._counts: dict[Uuid, int] = {}
        self._broker_configs = dict(image.broker_configs)
        self._group_configs = image.group_configs
        self._features = image.features
        self._acls = image.acls
        self._acls_changed: dict[str, Acl | None] = {}
        self.touched_topics: dict[Uuid, None] = {}
        self.touched_partitions: dict[Uuid, dict[PartitionIndex, PartitionImage]] = {}

    def take(self, changes: Changes) -> None:
        for event in changes.events:
            self._take_event(event, changes.revision)
        self._revision = changes.revision

    def load(self, entries: Mapping[str, Entry], revision: Revision) -> None:
        """All of a store, into an empty image."""
        for key, entry in entries.items():
            self._take_event(Event(key, entry.value), entry.mod_revision)
        self._revision = revision

    def image(self) -> ClusterImage:
        """Topics get their partitions only now: a transaction writes them in any order."""
        topics, topics_by_id = self._topics, self._topics_by_id
        for topic_id in self.touched_partitions:
            self._put_partitions(topic_id)
        for topic in self._topics_changed.values():
            if topic is not None:
                self._check_count(topic)
        if self._topics_changed:
            topics, topics_by_id = self._merged()
        return ClusterImage(
            self._revision,
            self._cluster_id,
            self._controller_id,
            self._brokers,
            topics,
            topics_by_id,
            self._broker_configs,
            self._group_configs,
            self._features,
            self._acls_now(),
        )

    def _take_event(self, event: Event, revision: Revision) -> None:
        key = event.key
        try:
            for kind, take in _TAKERS:
                if key == kind or (kind[-1] == "/" and key.startswith(kind)):
                    take(self, key, event.value, revision)
                    return
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptionError(f"content that is not understood: {error!r}", path=key) from error

    def _take_cluster(self, key: str, value: bytes | None, revision: Revision) -> None:
        self._cluster_id = "" if value is None else str(keys.content_of(value)["id"])

    def _take_controller(self, key: str, value: bytes | None, revision: Revision) -> None:
        content = {"node": NO_NODE} if value is None else keys.content_of(value)
        self._controller_id = NodeId(int(content["node"]))

    def _take_broker(self, key: str, value: bytes | None, revision: Revision) -> None:
        node = keys.broker_of(key)
        self._brokers.pop(node, None)
        if value is not None:
            content = keys.content_of(value)
            rack = content["rack"]
            self._brokers[node] = BrokerImage(
                node, content["host"], content["port"], rack, revision
            )

    def _take_broker_configs(self, key: str, value: bytes | None, revision: Revision) -> None:
        resource = keys.broker_configs_of(key)
        self._broker_configs.pop(resource, None)
        if value is not None:
            self._broker_configs[resource] = keys.content_of(value)

    def _take_group_configs(self, key: str, value: bytes | None, revision: Revision) -> None:
        configs = dict(self._group_configs)
        configs.pop(keys.group_configs_of(key), None)
        if value is not None:
            configs[keys.group_configs_of(key)] = keys.content_of(value)
        self._group_configs = configs

    def _take_features(self, key: str, value: bytes | None, revision: Revision) -> None:
        content = {} if value is None else keys.content_of(value)
        self._features = {name: int(level) for name, level in content.items()}

    def _take_acl(self, key: str, value: bytes | None, revision: Revision) -> None:
        self._acls_changed[key] = None if value is None else keys.acl_of(value)

    def _acls_now(self) -> Mapping[str, Acl]:
        if not self._acls_changed:
            return self._acls
        acls = {**self._acls, **self._acls_changed}
        return {key: acl for key, acl in acls.items() if acl is not None}

    def _take_topic(self, key: str, value: bytes | None, revision: Revision) -> None:
        name = keys.topic_of(key)
        old = self._topic(name)
        if old is not None:
            self.touched_topics[old.id] = None
        if value is None:
            self._topics_changed[name] = None
            return
        content = keys.content_of(value)
        topic_id = Uuid(bytes.fromhex(content["id"]))
        self.touched_topics[topic_id] = None
        self._names_changed[topic_id] = name
        self._counts[topic_id] = content["partitions"]
        same = old is not None and old.id == topic_id
        partitions = old.partitions if old is not None and same else ()
        self._topics_changed[name] = TopicImage(
            name, topic_id, partitions, dict(content["configs"]), revision
        )

    def _take_partition(self, key: str, value: bytes | None, revision: Revision) -> None:
        """Partitions go with their topic alone, so a deletion says nothing new."""
        topic_id, index = keys.partition_of(key)
        if value is None:
            self.touched_partitions.pop(topic_id, None)
            return
        partition = PartitionImage(index, *_partition_state(value), revision)
        self.touched_partitions.setdefault(topic_id, {})[index] = partition

    def _topic(self, name: str) -> TopicImage | None:
        if name in self._topics_changed:
            return self._topics_changed[name]
        return self._topics.get(name)

    def _put_partitions(self, topic_id: Uuid) -> None:
        topic = self._topic_of_id(topic_id)
        if topic is None:
            return
        touched = self.touched_partitions[topic_id]
        partitions = list(topic.partitions)
        for index in sorted(touched):
            if index < len(partitions):
                partitions[index] = touched[index]
            elif index == len(partitions):
                partitions.append(touched[index])
            else:
                raise CorruptionError(
                    f"{len(partitions)} partitions before it",
                    path=keys.partition_key(topic_id, index),
                )
        self._topics_changed[topic.name] = replace(topic, partitions=tuple(partitions))

    def _topic_of_id(self, topic_id: Uuid) -> TopicImage | None:
        before = self._topics_by_id.get(topic_id)
        name = self._names_changed.get(topic_id, before.name if before else "")
        topic = self._topic(name)
        return topic if topic is not None and topic.id == topic_id else None

    def _check_count(self, topic: TopicImage) -> None:
        count = self._counts.get(topic.id, len(topic.partitions))
        if count != len(topic.partitions):
            raise CorruptionError(
                f"{len(topic.partitions)} partitions where {count} belong",
                path=keys.topic_key(topic.name),
            )

    def _merged(self) -> tuple[dict[str, TopicImage], dict[Uuid, TopicImage]]:
        topics, topics_by_id = dict(self._topics), dict(self._topics_by_id)
        for name, topic in self._topics_changed.items():
            old = topics.get(name)
            if old is not None and (topic is None or topic.id != old.id):
                del topics[name], topics_by_id[old.id]
            if topic is not None:
                topics[name] = topics_by_id[topic.id] = topic
        return topics, topics_by_id


@lru_cache(maxsize=4_096)
def _partition_state(
    value: bytes,
) -> tuple[
    NodeId,
    LeaderEpoch,
    tuple[NodeId, ...],
    tuple[NodeId, ...],
    tuple[NodeId, ...],
    int,
    tuple[NodeId, ...],
    tuple[NodeId, ...],
]:
    """The fields of an image from leader to removing. Most partitions of a cluster say the same
    as some other one: remembering them makes a start three times as fast, and saves memory."""
    content = keys.content_of(value)
    return (
        NodeId(content["leader"]),
        LeaderEpoch(content["leader_epoch"]),
        tuple(content["replicas"]),
        tuple(content["isr"]),
        tuple(content["elr"]),
        content["partition_epoch"],
        tuple(content["adding"]),
        tuple(content["removing"]),
    )


_TAKERS: Final[tuple[tuple[str, Callable[[Edit, str, bytes | None, Revision], None]], ...]] = (
    (keys.PARTITIONS, Edit._take_partition),
    (keys.TOPICS, Edit._take_topic),
    (keys.BROKERS, Edit._take_broker),
    (keys.BROKER_CONFIGS, Edit._take_broker_configs),
    (keys.GROUP_CONFIGS, Edit._take_group_configs),
    (keys.FEATURES, Edit._take_features),
    (keys.ACLS, Edit._take_acl),
    (keys.CONTROLLER, Edit._take_controller),
    (keys.CLUSTER, Edit._take_cluster),
)

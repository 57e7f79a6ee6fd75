"""The controller: the one node that changes what the cluster has agreed on.

A node becomes it by taking the key `controller` under its own lease; every write compares that
key, so that a node which lost it cannot write any more, whatever it believes (NOT_CONTROLLER).
Each change is planned on the image, and is one transaction which also compares what the plan
was made on. Where that has moved meanwhile, the plan is made again on the newer image, so every
error a client gets is true of some moment after it asked. When a call returns, the image of
this node has the change.

Names in the making are remembered here, for a store cannot compare "no name like this one".
Leaders change their own in-sync sets; the controller places replicas (`placement`) and names
leaders. Configs are changed by `config_changes`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError, check
from ottla.base.ids import LeaderEpoch, NodeId, PartitionIndex, ProducerId, Uuid, id_text
from ottla.base.world import Rng
from ottla.metadata import config_ops, keys
from ottla.metadata.acl_control import AclControl
from ottla.metadata.cluster import Metadata, random_id
from ottla.metadata.config_changes import ConfigChanges
from ottla.metadata.config_ops import ResourceType
from ottla.metadata.features import FeatureUpdate, updated
from ottla.metadata.image import PartitionImage, TopicImage, topic_called
from ottla.metadata.placement import Assignments, Replicas, place_more, place_new
from ottla.metadata.replica_control import ReplicaControl
from ottla.metadata.store import (
    NO_REVISION,
    Compare,
    Delete,
    DeletePrefix,
    LeaseId,
    Put,
    Revision,
    StoreBusyError,
    Write,
)
from ottla.metadata.topic_names import check_no_collision, check_topic_name

PRODUCER_ID_BLOCK: Final = 1_000
"""Producer ids that a broker takes at once, as in Kafka."""


class Controller:
    def __init__(self, metadata: Metadata, node_id: NodeId, rng: Rng) -> None:
        self._metadata = metadata
        self._node_id = node_id
        self._rng = rng
        self._elected: Compare | None = None
        self._making: dict[str, int] = {}
        self.configs = ConfigChanges(metadata, self._commit)
        self.acls = AclControl(metadata, self._commit)
        self.replicas = ReplicaControl(metadata, self._commit)

    @property
    def is_active(self) -> bool:
        """As far as this node knows."""
        return self._elected is not None

    async def maybe_become(self, lease: LeaseId) -> bool:
        """Stand for election; whether this node is the controller now."""
        value = keys.value_of({"node": self._node_id})
        result = await self._metadata.store.txn(
            [Compare(keys.CONTROLLER, NO_REVISION)], [Put(keys.CONTROLLER, value, lease)]
        )
        if result.committed:
            self._elected = Compare(keys.CONTROLLER, result.revision)
        await self._metadata.wait_revision(result.revision)
        return self.is_active

    async def register_broker(
        self, node_id: NodeId, *, host: str, port: int, rack: str | None, lease: LeaseId
    ) -> Revision:
        """Enter a broker for as long as its lease lives; its epoch. Every node does this for
        itself, controller or not. KafkaError DUPLICATE_BROKER_REGISTRATION while another one
        of that id, or a former life of this one, is there."""
        key = keys.broker_key(node_id)
        value = keys.value_of({"host": host, "port": port, "rack": rack})
        result = await self._metadata.store.txn(
            [Compare(key, NO_REVISION)], [Put(key, value, lease)]
        )
        if not result.committed:
            raise KafkaError(
                ErrorCode.DUPLICATE_BROKER_REGISTRATION,
                f"Another broker is registered with id {node_id}.",
            )
        await self._metadata.wait_revision(result.revision)
        return result.revision

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        assignments: Assignments | None = None,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
        also: Callable[[Mapping[str, str]], None] | None = None,
    ) -> TopicImage:
        """Make a topic: `partitions` and `replication_factor` (what -1 stands for is the
        caller's to know), or `assignments` {partition: replicas} and both -1. Returns the
        topic; with `validate_only` the one that would have been. KafkaErrors as Kafka has them;
        `also` may refuse the configs by another.
        """
        check_topic_name(name)
        configs = dict(configs or {})
        self._making[name] = self._making.get(name, 0) + 1
        try:
            while True:
                self._check_free(name)
                brokers = self._metadata.image.brokers
                placed = place_new(
                    brokers, partitions, replication_factor, assignments, rng=self._rng
                )
                config_ops.validate(ResourceType.TOPIC, name, {}, configs)
                if also is not None:
                    also(configs)
                topic = TopicImage(
                    name,
                    random_id(self._rng),
                    _new_partitions(placed, 0),
                    configs,
                    NO_REVISION,
                )
                if validate_only:
                    return topic
                compare = Compare(keys.topic_key(name), NO_REVISION)
                if await self._commit([compare], _puts(topic, 0)):
                    return topic
        finally:
            self._making[name] -= 1
            if not self._making[name]:
                del self._making[name]

    async def delete_topic(self, topic_id: Uuid) -> TopicImage:
        """Delete a topic; returns it as it was. KafkaError UNKNOWN_TOPIC_ID."""
        while True:
            topic = self._metadata.image.topics_by_id.get(topic_id)
            if topic is None:
                raise KafkaError(
                    ErrorCode.UNKNOWN_TOPIC_ID, f"There is no topic of id {id_text(topic_id)}."
                )
            writes: list[Write] = [
                Delete(keys.topic_key(topic.name)),
                DeletePrefix(keys.partitions_prefix(topic_id)),
            ]
            if await self._commit([_compare(topic)], writes):
                return topic

    async def create_partitions(
        self,
        name: str,
        count: int,
        assignments: Sequence[Sequence[int]] | None = None,
        *,
        validate_only: bool = False,
    ) -> TopicImage:
        """Let a topic have `count` partitions in all; `assignments` are the replicas of the new
        ones, in order. Returns the topic as it becomes."""
        while True:
            topic = topic_called(self._metadata.image, name)
            before = len(topic.partitions)
            placed = place_more(
                self._metadata.image.brokers, topic, count, assignments, rng=self._rng
            )
            grown = TopicImage(
                name,
                topic.id,
                topic.partitions + _new_partitions(placed, before),
                topic.configs,
                topic.mod_revision,
            )
            if validate_only or await self._commit([_compare(topic)], _puts(grown, before)):
                return grown

    async def allocate_producer_ids(self, count: int = PRODUCER_ID_BLOCK) -> ProducerId:
        """The first of `count` ids that nobody else ever gets."""
        check(count > 0, "a block of producer ids has at least one")
        while True:
            _, entries = await self._metadata.store.read(keys.PRODUCER_IDS)
            entry = entries.get(keys.PRODUCER_IDS)
            first = keys.content_of(entry.value)["next"] if entry else 0
            compare = Compare(keys.PRODUCER_IDS, entry.mod_revision if entry else NO_REVISION)
            put = Put(keys.PRODUCER_IDS, keys.value_of({"next": first + count}))
            if await self._commit([compare], [put]):
                return ProducerId(first)

    # -- logs that were there before the store

    async def is_adoption_due(self) -> bool:
        """Whether this node is the controller of a store that has never asked for topics in the
        log directories."""
        _, entries = await self._metadata.store.read(keys.ADOPTED)
        return self.is_active and keys.ADOPTED not in entries

    async def adopt_topic(
        self,
        name: str,
        topic_id: Uuid,
        leader_epochs: Sequence[int],
        configs: Mapping[str, str],
    ) -> None:
        """Enter a topic whose logs this node has: its id, and a partition for each leader epoch
        that was found. One that is there already stays as it is."""
        new = _new_partitions([(self._node_id,)] * len(leader_epochs), 0)
        partitions = tuple(
            replace(partition, leader_epoch=LeaderEpoch(epoch))
            for partition, epoch in zip(new, leader_epochs, strict=True)
        )
        topic = TopicImage(name, topic_id, partitions, configs, NO_REVISION)
        await self._commit([Compare(keys.topic_key(name), NO_REVISION)], _puts(topic, 0))

    async def raise_leader_epoch(self, topic_id: Uuid, index: int, epoch: int) -> None:
        """A partition's log was written under a later epoch than the store knows of: take that."""
        key = keys.partition_key(topic_id, index)
        while True:
            partition = self._metadata.image.topics_by_id[topic_id].partitions[index]
            if partition.leader_epoch >= epoch:
                return
            raised = replace(
                partition,
                leader_epoch=LeaderEpoch(epoch),
                partition_epoch=partition.partition_epoch + 1,
            )
            if await self._commit(
                [Compare(key, partition.mod_revision)], [Put(key, raised.value())]
            ):
                return

    async def finish_adoption(self, next_producer_id: int) -> None:
        """No topic is adopted after this; producer ids start at `next_producer_id`."""
        compares = [Compare(key, NO_REVISION) for key in (keys.ADOPTED, keys.PRODUCER_IDS)]
        writes = [
            Put(keys.ADOPTED, keys.value_of({})),
            Put(keys.PRODUCER_IDS, keys.value_of({"next": next_producer_id})),
        ]
        await self._commit(compares, writes)

    async def _commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> bool:
        """False: what was compared has changed, and the image knows how. Plan again."""
        elected = self._elected
        if elected is None:
            raise KafkaError(ErrorCode.NOT_CONTROLLER, "This node is not the controller.")
        try:
            result = await self._metadata.store.txn([elected, *compares], writes)
        except StoreBusyError as error:  # nothing was written: it is locked, or there is no room
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error)) from error
        if not result.committed:
            entry = result.current[keys.CONTROLLER]
            if entry is None or entry.mod_revision != elected.mod_revision:
                self._elected = None
        await self._metadata.wait_revision(result.revision)
        return result.committed

    def _check_free(self, name: str) -> None:
        topics = self._metadata.image.topics
        if name in topics:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        check_no_collision(name, topics)
        check_no_collision(name, self._making)

    async def update_features(
        self, updates: Sequence[FeatureUpdate], *, validate_only: bool = False
    ) -> None:
        """All of these, or none. KafkaError says which one cannot be."""
        while True:
            before = self._metadata.image.features
            after = dict(before)
            for update in updates:
                after = updated(after, update)
            if validate_only or after == before:
                return
            _, entries = await self._metadata.store.read(keys.FEATURES)
            entry = entries.get(keys.FEATURES)
            if entry is not None and keys.content_of(entry.value) != before:
                await self._metadata.wait_revision(entry.mod_revision)
                continue
            compare = Compare(keys.FEATURES, entry.mod_revision if entry else NO_REVISION)
            if await self._commit([compare], [Put(keys.FEATURES, keys.value_of(after))]):
                return


def _compare(topic: TopicImage) -> Compare:
    return Compare(keys.topic_key(topic.name), topic.mod_revision)


def _new_partitions(placed: Sequence[Replicas], first: int) -> tuple[PartitionImage, ...]:
    return tuple(
        PartitionImage(
            index=PartitionIndex(index),
            leader=replicas[0],
            leader_epoch=LeaderEpoch(0),
            replicas=replicas,
            isr=replicas,
            elr=(),
            partition_epoch=0,
            adding=(),
            removing=(),
            mod_revision=NO_REVISION,
        )
        for index, replicas in enumerate(placed, start=first)
    )


def _puts(topic: TopicImage, first: int) -> list[Write]:
    """The topic, and its partitions from `first` on."""
    return [
        Put(keys.topic_key(topic.name), topic.value()),
        *(
            Put(keys.partition_key(topic.id, partition.index), partition.value())
            for partition in topic.partitions[first:]
        ),
    ]

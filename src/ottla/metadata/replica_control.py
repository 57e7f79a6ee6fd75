"""Who leads partitions and who has replicas of them, as administrators ask for it.

Elections. The preferred leader is the first replica; it is elected where it is in the in-sync set
and alive. An unclean election makes any living replica the leader of a partition that has none,
whatever it has missed.

Reassignments. A new list of replicas takes effect at once where the in-sync set has all of them:
the order of the same ones, or fewer. Replicas that a partition does not have yet cannot be added
here: there is no replication yet, and no other broker that they could be on (KIP-455).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import LeaderEpoch, NodeId
from ottla.metadata import keys
from ottla.metadata.cluster import Metadata
from ottla.metadata.image import ClusterImage, PartitionImage, TopicImage
from ottla.metadata.placement import check_assignments
from ottla.metadata.store import Commit, Compare, Put, Write

Place = tuple[str, int]
"""A partition: the name of its topic, and its index."""
Plan = Callable[[ClusterImage, PartitionImage], PartitionImage]
"""The partition as it is to be; KafkaError where it cannot be, itself where nothing is to do."""


class Election(IntEnum):
    """Kafka's kinds of elections (KIP-460)."""

    PREFERRED = 0
    UNCLEAN = 1


class ReplicaControl:
    """The part of the controller that elects leaders and reassigns replicas."""

    def __init__(self, metadata: Metadata, commit: Commit) -> None:
        self._metadata = metadata
        self._commit = commit

    async def elect(
        self, kind: Election, places: Sequence[Place]
    ) -> dict[Place, KafkaError | None]:
        """Elect leaders in one transaction; of each partition why it has no other one now."""

        def plan(image: ClusterImage, partition: PartitionImage) -> PartitionImage:
            return _elected(image, partition, kind)

        return await self._change(dict.fromkeys(places, plan))

    async def reassign(
        self, wanted: Mapping[Place, Sequence[int] | None], *, may_resize: bool
    ) -> dict[Place, KafkaError | None]:
        """Give partitions the replicas that are wanted, None to take back what is on its way; of
        each what is in the way."""

        def plan_of(replicas: Sequence[int] | None) -> Plan:
            return lambda image, partition: _reassigned(
                image, partition, replicas, may_resize=may_resize
            )

        return await self._change({place: plan_of(each) for place, each in wanted.items()})

    async def _change(self, plans: Mapping[Place, Plan]) -> dict[Place, KafkaError | None]:
        while True:
            image = self._metadata.image
            outcomes: dict[Place, KafkaError | None] = {}
            compares: list[Compare] = []
            writes: list[Write] = []
            for place, plan in plans.items():
                try:
                    topic, old = _find(image, place)
                    new = plan(image, old)
                except KafkaError as error:
                    outcomes[place] = error
                    continue
                outcomes[place] = None
                if new is not old:
                    key = keys.partition_key(topic.id, old.index)
                    compares.append(Compare(key, old.mod_revision))
                    writes.append(Put(key, new.value()))
            if not writes or await self._commit(compares, writes):
                return outcomes


def _find(image: ClusterImage, place: Place) -> tuple[TopicImage, PartitionImage]:
    name, index = place
    topic = image.topics.get(name)
    if topic is None or not 0 <= index < len(topic.partitions):
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"There is no partition {name[:249]}-{index}."
        )
    return topic, topic.partitions[index]


def _elected(image: ClusterImage, old: PartitionImage, kind: Election) -> PartitionImage:
    if kind is Election.PREFERRED:
        chosen = old.replicas[0]
        if old.leader == chosen:
            raise KafkaError(ErrorCode.ELECTION_NOT_NEEDED)
        if chosen not in old.isr or chosen not in image.brokers:
            raise KafkaError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE)
        return _led_by(old, chosen, old.isr)
    if old.leader in image.brokers:
        raise KafkaError(ErrorCode.ELECTION_NOT_NEEDED)
    alive = [node for node in old.replicas if node in image.brokers]
    in_sync = [node for node in (*old.isr, *old.elr) if node in alive]
    if not alive:
        raise KafkaError(ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE)
    if in_sync:
        return _led_by(old, in_sync[0], tuple(node for node in old.isr if node in alive))
    return _led_by(old, alive[0], (alive[0],))


def _led_by(old: PartitionImage, leader: NodeId, isr: tuple[NodeId, ...]) -> PartitionImage:
    isr = isr if leader in isr else (leader, *isr)
    return replace(
        old,
        leader=leader,
        leader_epoch=LeaderEpoch(old.leader_epoch + 1),
        isr=isr,
        elr=tuple(node for node in old.elr if node not in isr),
        partition_epoch=old.partition_epoch + 1,
    )


def _reassigned(
    image: ClusterImage,
    old: PartitionImage,
    wanted: Sequence[int] | None,
    *,
    may_resize: bool,
) -> PartitionImage:
    if wanted is None:
        raise KafkaError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)
    (replicas,) = check_assignments([wanted], image.brokers)
    if len(replicas) != len(old.replicas) and not may_resize:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The partition has {len(old.replicas)} replica(s), and {len(replicas)} are wanted.",
        )
    if replicas == old.replicas:
        return old
    if any(node not in old.isr for node in replicas):
        raise KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "Replicas cannot be added here yet.")
    isr = tuple(node for node in old.isr if node in replicas)
    moved = replace(
        old,
        replicas=replicas,
        isr=isr,
        elr=tuple(node for node in old.elr if node in replicas),
        partition_epoch=old.partition_epoch + 1,
    )
    if old.leader in replicas:
        return moved
    return replace(moved, leader=replicas[0], leader_epoch=LeaderEpoch(old.leader_epoch + 1))

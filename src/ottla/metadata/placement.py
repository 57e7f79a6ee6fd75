"""Where the replicas of new partitions go, and whether a hand-made choice can stand.

Brokers stand in a ring that takes one of each rack in turn. Partition p leads at position
start + p, so leaders spread evenly; its followers are the next ones of the ring, seen from a
place that moves on by one whenever the leaders have been once around, so that the partitions
of one leader do not all have the same followers. Racks first: a broker is passed over while
its rack already has a replica and another rack has none. Brokers without a rack share one.

Where a topic starts is drawn: else every small one would begin at the same broker.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.base.world import Rng
from ottla.metadata.image import BrokerImage, TopicImage

REPLICATION_FACTOR_MAX: Final = 32_767

Replicas = tuple[NodeId, ...]
Assignments = Mapping[int, Sequence[int]]
Brokers = Mapping[NodeId, BrokerImage]


def place_new(
    brokers: Brokers,
    partitions: int,
    replication_factor: int,
    assignments: Assignments | None,
    *,
    rng: Rng,
) -> list[Replicas]:
    """Replicas of a new topic's partitions: so many of them, or `assignments` {partition:
    replicas} and both -1. KafkaError where that cannot be."""
    if assignments:
        if partitions != -1 or replication_factor != -1:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST,
                "With a manual partition assignment, the number of partitions and the "
                "replication factor must both be -1.",
            )
        return _assigned(brokers, assignments)
    if partitions <= 0:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS, "The number of partitions must be larger than 0."
        )
    if not 0 < replication_factor <= REPLICATION_FACTOR_MAX:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor must be larger than 0, and at most {REPLICATION_FACTOR_MAX}.",
        )
    _check_count(partitions)
    return place(
        brokers,
        first=0,
        count=partitions,
        replication_factor=replication_factor,
        start=_start(brokers, rng),
    )


def place_more(
    brokers: Brokers,
    topic: TopicImage,
    count: int,
    assignments: Sequence[Sequence[int]] | None,
    *,
    rng: Rng,
) -> list[Replicas]:
    """Replicas of the partitions that a topic of `count` has more than it has now. KafkaError
    where that cannot be."""
    before = len(topic.partitions)
    if count <= before:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"Topic '{topic.name}' has {before} partition(s); {count} is not more.",
        )
    _check_count(count - before)
    factor = len(topic.partitions[0].replicas)
    if assignments is None:
        return place(
            brokers,
            first=before,
            count=count - before,
            replication_factor=factor,
            start=_start(brokers, rng),
        )
    if len(assignments) != count - before:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"{count - before} partition(s) are to be added, but {len(assignments)} "
            "assignment(s) were given.",
        )
    return check_assignments(assignments, brokers, replication_factor=factor)


def _assigned(brokers: Brokers, assignments: Assignments) -> list[Replicas]:
    if sorted(assignments) != list(range(len(assignments))):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The partitions of a manual assignment must be numbered from 0 on.",
        )
    _check_count(len(assignments))
    return check_assignments([assignments[each] for each in sorted(assignments)], brokers)


def _start(brokers: Brokers, rng: Rng) -> int:
    return rng.randrange(0, max(len(brokers), 1))


def _check_count(partitions: int) -> None:
    if partitions > PARTITIONS_PER_REQUEST:
        raise KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"{partitions} partitions at once are too many; at most {PARTITIONS_PER_REQUEST}.",
        )


def place(
    brokers: Brokers,
    *,
    first: int,
    count: int,
    replication_factor: int,
    start: int,
) -> list[Replicas]:
    """Replicas of partitions `first` to `first + count - 1`, the leader first in each.
    KafkaError INVALID_REPLICATION_FACTOR where there are too few brokers."""
    if replication_factor > len(brokers) or not brokers:
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor {replication_factor} cannot be reached: "
            f"{len(brokers)} broker(s) are registered.",
        )
    ring = _ring(brokers)
    racks_count = len({broker.rack for broker in ring})
    return [
        _replicas(ring, racks_count, replication_factor, start + index)
        for index in range(first, first + count)
    ]


def _ring(brokers: Brokers) -> list[BrokerImage]:
    racks: dict[str | None, list[BrokerImage]] = {}
    for node in sorted(brokers):
        racks.setdefault(brokers[node].rack, []).append(brokers[node])
    in_order = [racks[rack] for rack in sorted(racks, key=lambda rack: (rack is None, rack or ""))]
    rounds = zip_longest(*in_order)
    return [broker for turn in rounds for broker in turn if broker is not None]


def _replicas(
    ring: Sequence[BrokerImage], racks_count: int, replication_factor: int, position: int
) -> Replicas:
    rounds, at = divmod(position, len(ring))
    leader = ring[at]
    others = [*ring[at + 1 :], *ring[:at]]
    if others:
        shift = rounds % len(others)
        others = others[shift:] + others[:shift]
    chosen = [leader]
    while len(chosen) < replication_factor:
        used = {broker.rack for broker in chosen} if len(chosen) < racks_count else set()
        follower = next(broker for broker in others if broker.rack not in used)
        others.remove(follower)
        chosen.append(follower)
    return tuple(broker.node_id for broker in chosen)


def check_assignments(
    assignments: Iterable[Sequence[int]],
    brokers: Brokers,
    *,
    replication_factor: int | None = None,
) -> list[Replicas]:
    """Hand-made replica lists as placements; KafkaError INVALID_REPLICA_ASSIGNMENT where one is
    empty, names a broker twice or one that is not there, or is not as long as the others (or
    as `replication_factor`)."""
    checked = []
    for replicas in assignments:
        if not replicas:
            raise _invalid("has an empty list of replicas")
        if len(set(replicas)) != len(replicas):
            raise _invalid(f"names a broker more than once: {list(replicas)}")
        for node in replicas:
            if node not in brokers:
                raise _invalid(f"names broker {node}, which is not registered")
        if replication_factor is None:
            replication_factor = len(replicas)
        if len(replicas) != replication_factor:
            raise _invalid(
                f"has a partition with {len(replicas)} replica(s) where others have "
                f"{replication_factor}"
            )
        checked.append(tuple(NodeId(node) for node in replicas))
    return checked


def _invalid(what: str) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The manual partition assignment {what}."
    )

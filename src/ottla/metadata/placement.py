"""Where the replicas of new partitions go, and whether a hand-made choice can stand.

Brokers stand in a ring that takes one of each rack in turn. Partition p leads at position
start + p, so leaders spread evenly; its followers are the next ones of the ring, seen from a
place that moves on by one whenever the leaders have been once around, so that the partitions
of one leader do not all have the same followers. Racks first: a broker is passed over while
its rack already has a replica and another rack has none. Brokers without a rack share one.

`start` comes from the caller's random numbers: else every small topic would begin at the same
broker.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import NodeId
from ottla.metadata.image import BrokerImage

Replicas = tuple[NodeId, ...]


def place(
    brokers: Mapping[NodeId, BrokerImage],
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


def _ring(brokers: Mapping[NodeId, BrokerImage]) -> list[BrokerImage]:
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
    brokers: Mapping[NodeId, BrokerImage],
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

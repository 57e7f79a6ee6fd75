"""The range assignor: of each topic, a run of partitions to each member that reads it.

The members are in one order for all topics, static ones first, by instance id. So of topics with
as many partitions, which the same members read, each member has the same partitions: what is
keyed alike is read together. If the partitions do not divide evenly, the first members have one
more of each topic. What members have now is not looked at: a member more may move everything.
"""

from ottla.base.ids import Uuid
from ottla.coordinator.group.assignors.model import GroupSpec, Shares
from ottla.coordinator.group.consumer_records import Partitions


def assign_range(spec: GroupSpec) -> Shares:
    order = sorted(spec.members, key=lambda member_id: _rank(spec, member_id))
    shares: dict[str, dict[Uuid, frozenset[int]]] = {member_id: {} for member_id in order}
    readers: dict[Uuid, list[str]] = {}
    for member_id in order:
        for topic in spec.members[member_id].topics:
            readers.setdefault(topic, []).append(member_id)
    for topic in sorted(readers):
        each, more = divmod(spec.partition_counts.get(topic, 0), len(readers[topic]))
        start = 0
        for rank, member_id in enumerate(readers[topic]):
            end = start + each + (rank < more)
            if start < end:
                shares[member_id][topic] = frozenset(range(start, end))
            start = end
    result: dict[str, Partitions] = {**shares}
    return result


def _rank(spec: GroupSpec, member_id: str) -> tuple[bool, str]:
    instance_id = spec.members[member_id].instance_id
    return (True, member_id) if instance_id is None else (False, instance_id)

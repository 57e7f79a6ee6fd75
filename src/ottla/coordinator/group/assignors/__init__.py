"""How the partitions of a consumer group are shared among its members: pure functions.

    uniform   everybody as many as everybody else, and moves as few as it can (the default)
    range     of each topic a run to each member, so that topics read together stay together

Each is a function of a `GroupSpec`, which holds what the members have now, and gives each member
its share. The same spec leads to the same shares: nothing depends on the order of a mapping.
Racks are looked at by none of them, as in Kafka since 4.0.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ottla.coordinator.group.assignors.model import GroupSpec, Shares
from ottla.coordinator.group.assignors.range import assign_range
from ottla.coordinator.group.assignors.uniform import assign_uniform

ASSIGNORS: Final[Mapping[str, Callable[[GroupSpec], Shares]]] = {
    "uniform": assign_uniform,
    "range": assign_range,
}

"""What the groups of a node are up to: how many in which state, and how far each is behind.

Worked out when it is asked for, a shard in each turn of the loop, so that nothing is counted while
nobody looks. As Kafka's gauges of groups by state, and the LAG of its kafka-consumer-groups.
"""

import asyncio
from collections import Counter

from ottla.base.errors import KafkaError
from ottla.broker.context import Services
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.records import OffsetValue
from ottla.coordinator.machine import Outcome

Counts = dict[tuple[str, str], int]
"""By type (classic, consumer) and state (Stable, Empty ...), as ListGroups tells them."""
Lags = dict[str, dict[tuple[str, int], int]]
"""By group, topic and partition: records between what was committed and the high watermark."""


async def group_counts(services: Services) -> Counts:
    """KafkaError COORDINATOR_LOAD_IN_PROGRESS while a part of the groups loads."""

    def count(machine: GroupMachine, now_ms: int) -> Outcome:
        rows = machine.admin.listed((), ())
        return Outcome(response=Counter((row.group_type, row.group_state) for row in rows))

    counts: Counter[tuple[str, str]] = Counter()
    for found in await services.groups.ask_all(count):
        counts.update(found)
        await asyncio.sleep(0)
    return dict(counts)


async def consumer_lags(services: Services) -> Lags:
    """Without partitions that are not served here, and topics that are gone or were made anew.
    KafkaError as `group_counts`."""

    def committed(machine: GroupMachine, now_ms: int) -> Outcome:
        groups = machine.groups
        return Outcome(response={each: dict(groups.offsets(each)) for each in groups.ids()})

    lags: Lags = {}
    for found in await services.groups.ask_all(committed):
        for group_id, offsets in found.items():
            lags[group_id] = {
                place: lag
                for place, value in offsets.items()
                if (lag := _lag(services, place, value)) is not None
            }
        await asyncio.sleep(0)
    return lags


def _lag(services: Services, place: tuple[str, int], value: OffsetValue) -> int | None:
    topic, index = place
    known = services.cluster.image.topics.get(topic)
    if known is None or not value.is_of(known.id):
        return None
    try:
        partition = services.replicas.leader_of(topic, index)
    except KafkaError:
        return None
    return max(partition.high_watermark - value.offset, 0)

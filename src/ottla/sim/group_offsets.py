"""Asking for the offsets that a group has committed, as a note in the history."""

import asyncio
from collections.abc import Callable
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from ottla.sim.history import History, Key, Reading, Span, Topic
from ottla.sim.stubborn import Stubborn

GROUP: Final = 0
"""The key type of a coordinator of groups."""
VERSION: Final = 9


async def find_group(stubborn: Stubborn, group: str) -> bool:
    """Whether its coordinator was told."""
    request = FindCoordinatorRequest(key_type=GROUP, coordinator_keys=[group])
    found = await stubborn.ask(
        request, 4, FindCoordinatorResponse, lambda answer: answer.coordinators[0].error_code
    )
    return found.code is ErrorCode.NONE


async def fetch_offsets(
    stubborn: Stubborn, history: History, group: str, topic: Topic, boot: Callable[[], int]
) -> dict[Key, int] | None:
    """The stable offset of each partition, -1 where there is none; None where nobody says."""
    indexes = [index for _, index in topic.partitions]
    wanted = OffsetFetchRequestTopics(name=topic.name, partition_indexes=indexes)
    request = OffsetFetchRequest(
        groups=[OffsetFetchRequestGroup(group_id=group, topics=[wanted])], require_stable=True
    )
    loop, asked_boot = asyncio.get_running_loop(), boot()
    asked_at = loop.time()
    told = await stubborn.ask(request, VERSION, OffsetFetchResponse, _worst_of)
    if told.code is not ErrorCode.NONE or told.response is None:
        if told.response is not None:
            history.surprises.append(f"OffsetFetch of {group}: {told.code}")
        return None
    span = Span(asked_at, loop.time(), (asked_boot, boot()))
    offsets: dict[Key, int] = {}
    for row in told.response.groups[0].topics[0].partitions:
        key = topic.id, row.partition_index
        offsets[key] = row.committed_offset
        history.readings.append(Reading(group, key, row.committed_offset, span))
    return offsets


def _worst_of(answer: OffsetFetchResponse) -> int:
    told = answer.groups[0]
    codes = [row.error_code for topic in told.topics for row in topic.partitions if row.error_code]
    return told.error_code or (codes[0] if codes else 0)

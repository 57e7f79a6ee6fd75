"""OffsetFetch (key 9): how far groups have read.

Behaviour. Answered out of memory, when all that was committed before is in the log for good.
A partition of which nothing was committed has offset -1 and no error, and so has every partition
of a group that is not there. Who wants stable offsets is told UNSTABLE_OFFSET_COMMIT of a partition
whose offset a transaction has yet to commit (KIP-447). No topics (null) means all that the group
committed.
Authorised by: Describe on the group, and on each topic; of all only those are told.
Versions. 2 has an error for the whole, 5 leader epochs, 6 is flexible, 8 asks for many groups,
9 has the epoch of a member of a consumer group (STALE_MEMBER_EPOCH), 10 names topics by id
(UNKNOWN_TOPIC_ID).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import offset_fetch_error
from ottla.broker.rows import side_by_side
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.records import OffsetValue
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ottla.security.acl import Operation, ResourceType

ERROR_VERSION = 2
MANY_VERSION = 8
IDS_VERSION = 10

P = TypeVar("P", OffsetFetchResponsePartition, OffsetFetchResponsePartitions)
Unstable = Callable[[int], ErrorCode]
"""Of a partition of some topic: what is said instead of its offset; NONE where nothing is."""
NOTHING = OffsetValue(offset=-1, leader_epoch=-1, metadata="", commit_timestamp=-1)


def _none(partition: int) -> ErrorCode:
    return ErrorCode.NONE


def _unstable(machine: GroupMachine, group_id: str, topic: str) -> Unstable:
    pending = machine.groups.pending

    def code(partition: int) -> ErrorCode:
        is_pending = pending.has(group_id, topic, partition)
        return ErrorCode.UNSTABLE_OFFSET_COMMIT if is_pending else ErrorCode.NONE

    return code


def offset_fetch(context: RequestContext, request: OffsetFetchRequest) -> Any:
    if context.api_version >= MANY_VERSION:
        return _many(context, request)
    return _one(context, request)


# --- one group, up to version 7


def _one(context: RequestContext, request: OffsetFetchRequest) -> Any:
    image = context.services.cluster.image

    def refuse(code: ErrorCode) -> OffsetFetchResponse:
        told = offset_fetch_error(code)
        if context.api_version >= ERROR_VERSION:
            return OffsetFetchResponse(error_code=told)
        return OffsetFetchResponse(topics=[_refused(each, told) for each in request.topics or ()])

    stable = request.require_stable
    if not context.may(Operation.DESCRIBE, ResourceType.GROUP, request.group_id):
        return refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    shown: list[OffsetFetchRequestTopic] = []
    hidden: list[OffsetFetchRequestTopic] = []
    for each in request.topics or ():
        is_shown = context.may(Operation.DESCRIBE, ResourceType.TOPIC, each.name)
        (shown if is_shown else hidden).append(each)

    def fetch(machine: GroupMachine, now_ms: int) -> Outcome:
        rows = []
        asked = [(each.name, each.partition_indexes) for each in shown]
        if request.topics is None:
            asked = _seen(context, machine, request.group_id)
        for name, partitions in asked:
            topic_id = _id_of(image, name)
            found = machine.offsets.fetch(request.group_id, name, topic_id, partitions)
            unstable = _unstable(machine, request.group_id, name) if stable else _none
            rows.append(_row(name, found, unstable))
        rows += [_refused(each, ErrorCode.TOPIC_AUTHORIZATION_FAILED) for each in hidden]
        return Outcome(response=OffsetFetchResponse(topics=rows))

    pending = Pending(refuse)
    context.services.groups.perform(request.group_id, fetch, pending)
    return pending.outcome


def _refused(asked: OffsetFetchRequestTopic, code: ErrorCode) -> OffsetFetchResponseTopic:
    rows = [
        OffsetFetchResponsePartition(
            partition_index=each, committed_offset=-1, metadata="", error_code=code
        )
        for each in asked.partition_indexes
    ]
    return OffsetFetchResponseTopic(name=asked.name, partitions=rows)


def _row(
    name: str, found: Sequence[tuple[int, OffsetValue | None]], unstable: Unstable
) -> OffsetFetchResponseTopic:
    rows = _partitions(OffsetFetchResponsePartition, found, unstable)
    return OffsetFetchResponseTopic(name=name, partitions=rows)


def _partitions(
    kind: type[P], found: Sequence[tuple[int, OffsetValue | None]], unstable: Unstable
) -> list[P]:
    rows = []
    for partition, committed in found:
        code = unstable(partition)
        value = NOTHING if code else committed or NOTHING
        rows.append(
            kind(
                partition_index=partition,
                committed_offset=value.offset,
                committed_leader_epoch=value.leader_epoch,
                metadata=value.metadata,
                error_code=code,
            )
        )
    return rows


def _id_of(image: ClusterImage, name: str) -> Uuid:
    topic = image.topics.get(name)
    return ZERO_UUID if topic is None else topic.id


# --- many groups, from version 8


async def _many(context: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse:
    by_id = context.api_version >= IDS_VERSION
    stable = request.require_stable
    rows = [_group(context, each, stable, by_id=by_id) for each in request.groups]
    return OffsetFetchResponse(groups=await side_by_side(rows))


async def _group(
    context: RequestContext, asked: OffsetFetchRequestGroup, stable: bool, *, by_id: bool
) -> OffsetFetchResponseGroup:
    services = context.services
    image = services.cluster.image

    def fetch(machine: GroupMachine, now_ms: int) -> Outcome:
        group_id = asked.group_id
        machine.offsets.check_fetch(group_id, asked.member_id, asked.member_epoch)
        if asked.topics is None:
            rows = _all(context, machine, group_id, stable, by_id=by_id)
        else:
            rows = []
            for each in asked.topics:
                name, topic_id = each.name, each.topic_id
                if by_id:
                    topic = image.topics_by_id.get(topic_id)
                    if topic is None:
                        rows.append(_refusal(each, ErrorCode.UNKNOWN_TOPIC_ID))
                        continue
                    name = topic.name
                else:
                    topic_id = _id_of(image, name)
                if not context.may(Operation.DESCRIBE, ResourceType.TOPIC, name):
                    rows.append(_refusal(each, ErrorCode.TOPIC_AUTHORIZATION_FAILED))
                    continue
                found = machine.offsets.fetch(group_id, name, topic_id, each.partition_indexes)
                unstable = _unstable(machine, group_id, name) if stable else _none
                rows.append(_group_row(name, topic_id, found, unstable))
        return Outcome(response=OffsetFetchResponseGroup(group_id=group_id, topics=rows))

    try:
        context.require(Operation.DESCRIBE, ResourceType.GROUP, asked.group_id)
        row: OffsetFetchResponseGroup = await services.groups.ask(asked.group_id, fetch)
    except KafkaError as error:
        code = offset_fetch_error(error.code)
        return OffsetFetchResponseGroup(group_id=asked.group_id, error_code=code)
    return row


def _all(
    context: RequestContext, machine: GroupMachine, group_id: str, stable: bool, *, by_id: bool
) -> list[OffsetFetchResponseTopics]:
    """Of topics that are not there nothing can be said by id."""
    image = context.services.cluster.image
    rows = []
    for name, partitions in _seen(context, machine, group_id):
        topic_id = _id_of(image, name)
        if by_id and topic_id == ZERO_UUID:
            continue
        found = machine.offsets.fetch(group_id, name, topic_id, partitions)
        unstable = _unstable(machine, group_id, name) if stable else _none
        rows.append(_group_row(name, topic_id, found, unstable))
    return rows


def _group_row(
    name: str,
    topic_id: Uuid,
    found: Sequence[tuple[int, OffsetValue | None]],
    unstable: Unstable,
) -> OffsetFetchResponseTopics:
    rows = _partitions(OffsetFetchResponsePartitions, found, unstable)
    return OffsetFetchResponseTopics(name=name, topic_id=topic_id, partitions=rows)


def _refusal(asked: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics:
    rows = [
        OffsetFetchResponsePartitions(
            partition_index=each, committed_offset=-1, metadata="", error_code=code
        )
        for each in asked.partition_indexes
    ]
    return OffsetFetchResponseTopics(name=asked.name, topic_id=asked.topic_id, partitions=rows)


# --- what the client may see


def _seen(
    context: RequestContext, machine: GroupMachine, group_id: str
) -> list[tuple[str, list[int]]]:
    """What the group committed, of topics that the client may describe."""
    return [
        (name, partitions)
        for name, partitions in machine.offsets.topics(group_id).items()
        if context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True)
    ]

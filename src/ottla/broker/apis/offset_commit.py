"""OffsetCommit (key 8): keep how far a group has read.

Behaviour. Answered when the offsets are committed in the log of the group. A partition that does
not exist is UNKNOWN_TOPIC_OR_PARTITION (UNKNOWN_TOPIC_ID by id), a text longer than
`offset.metadata.max.bytes` OFFSET_METADATA_TOO_LARGE; the others of the request are kept. Without
a generation (-1) anybody may commit for a group that has no members.
Authorised by: Read on the group, and on each topic.
Versions. 2 to 4 set a retention time, 6 has leader epochs, 7 static members, 8 is flexible, 9 says
GROUP_ID_NOT_FOUND, 10 names topics by id.
"""

from typing import Any

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.offsets import Commit
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.metadata.image import TopicImage
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.security.acl import Operation, ResourceType

IDS_VERSION = 10


def offset_commit(context: RequestContext, request: OffsetCommitRequest) -> Any:
    version = context.api_version
    may_read = context.may(Operation.READ, ResourceType.GROUP, request.group_id)
    group_fault = ErrorCode.NONE if may_read else ErrorCode.GROUP_AUTHORIZATION_FAILED
    commits: list[Commit] = []
    rows = [
        _row(context, each, commits, group_fault, by_id=version >= IDS_VERSION)
        for each in request.topics
    ]
    response = OffsetCommitResponse(topics=rows)
    if not commits:
        return response

    def refuse(code: ErrorCode) -> OffsetCommitResponse:
        for commit in commits:
            commit.row.error_code = coordinator_error(code)
        return response

    def commit(machine: GroupMachine, now_ms: int) -> Outcome:
        return Outcome(machine.offsets.commit(request, commits, version, now_ms), response)

    pending = Pending(refuse)
    context.services.groups.perform(request.group_id, commit, pending)
    return pending.outcome


def _row(
    context: RequestContext,
    asked: OffsetCommitRequestTopic,
    commits: list[Commit],
    fault: ErrorCode,
    *,
    by_id: bool,
) -> OffsetCommitResponseTopic:
    """The topic's place in the response; what can be committed of it goes to `commits`."""
    image = context.services.cluster.image
    topic: TopicImage | None
    topic = image.topics_by_id.get(asked.topic_id) if by_id else image.topics.get(asked.name)
    missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if topic is None and by_id:
        missing = ErrorCode.UNKNOWN_TOPIC_ID
    name = asked.name if topic is None else topic.name
    if not fault and name and not context.may(Operation.READ, ResourceType.TOPIC, name):
        fault = ErrorCode.TOPIC_AUTHORIZATION_FAILED
    count = 0 if topic is None else len(topic.partitions)
    rows = []
    for each in asked.partitions:
        row = OffsetCommitResponsePartition(partition_index=each.partition_index)
        rows.append(row)
        if fault:
            row.error_code = fault
        elif topic is not None and 0 <= each.partition_index < count:
            commits.append(Commit(topic.name, topic.id, each, row))
        else:
            row.error_code = missing
    return OffsetCommitResponseTopic(name=asked.name, topic_id=asked.topic_id, partitions=rows)

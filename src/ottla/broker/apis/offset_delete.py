"""OffsetDelete (key 47): forget how far a group has read some partitions.

Behaviour. A topic that a member of the group reads is GROUP_SUBSCRIBED_TO_TOPIC; a group with
members that are no consumers is NON_EMPTY_GROUP as a whole. A partition that does not exist is
UNKNOWN_TOPIC_OR_PARTITION; one of which nothing was committed is no error. One version.
Authorised by: Delete on the group, and Read on each topic.
"""

from typing import Any

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.group_errors import coordinator_error
from ottla.coordinator.group.machine import GroupMachine
from ottla.coordinator.group.records import OffsetRecord
from ottla.coordinator.machine import Outcome
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.security.acl import Operation, ResourceType


def offset_delete(context: RequestContext, request: OffsetDeleteRequest) -> Any:
    topics = context.services.cluster.image.topics

    def delete(machine: GroupMachine, now_ms: int) -> Outcome:
        group = machine.offsets.deletable(request.group_id)
        records: list[OffsetRecord] = []
        rows = []
        for asked in request.topics:
            topic = topics.get(asked.name)
            count = 0 if topic is None else len(topic.partitions)
            may_read = context.may(Operation.READ, ResourceType.TOPIC, asked.name)
            partitions = []
            for each in asked.partitions:
                row = OffsetDeleteResponsePartition(partition_index=each.partition_index)
                partitions.append(row)
                try:
                    if not may_read:
                        raise KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
                    if not 0 <= each.partition_index < count:
                        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                    records += machine.offsets.delete(group, asked.name, each.partition_index)
                except KafkaError as error:
                    row.error_code = error.code
            rows.append(OffsetDeleteResponseTopic(name=asked.name, partitions=partitions))
        return Outcome(records, OffsetDeleteResponse(topics=rows))

    if not request.group_id:
        return _refuse(ErrorCode.INVALID_GROUP_ID)
    if not context.may(Operation.DELETE, ResourceType.GROUP, request.group_id):
        return _refuse(ErrorCode.GROUP_AUTHORIZATION_FAILED)
    pending = Pending(_refuse)
    context.services.groups.perform(request.group_id, delete, pending)
    return pending.outcome


def _refuse(code: ErrorCode) -> OffsetDeleteResponse:
    return OffsetDeleteResponse(error_code=coordinator_error(code))

"""OffsetForLeaderEpoch (key 23): where a leader epoch ends.

Behaviour. Answered with the largest epoch of the log that is not past the one asked for, and the
offset at which the next one starts (the log end for the latest); -1 and -1 where that is not
known. So a reader finds out that the log was cut below where it stands, and where to go on. A
reader that knows an older leader is FENCED_LEADER_EPOCH, a newer one UNKNOWN_LEADER_EPOCH.
Authorised by: Describe on each topic, or Cluster Action.
Versions. 3 has the replica id (-2 a consumer, -1 a debugging tool); 4 is flexible.
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from ottla.security.acl import Operation, ResourceType


def offset_for_leader_epoch(
    context: RequestContext, request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[_answer(context, topic.topic, each) for each in topic.partitions],
            )
            for topic in request.topics
        ]
    )


def _answer(context: RequestContext, topic: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    row = EpochEndOffset(partition=asked.partition)
    try:
        if not context.may(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, quiet=True):
            context.require(Operation.DESCRIBE, ResourceType.TOPIC, topic)
        partition = context.services.replicas.leader_of(topic, asked.partition)
        partition.check_leader_epoch(asked.current_leader_epoch)
        row.leader_epoch, row.end_offset = partition.log.epoch_end(asked.leader_epoch)
    except KafkaError as error:
        row.error_code = error.code
    return row

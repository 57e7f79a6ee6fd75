"""AlterReplicaLogDirs (key 34): move partitions to other log directories of this node.

Behaviour. Each partition is answered on its own, at once: the move goes on in the background, and
DescribeLogDirs tells of it (`is_future_key`, `offset_lag`). Where a request names a partition twice
the last directory counts. A partition that is where it is asked to be stays, and a move of it to
elsewhere ends. LOG_DIR_NOT_FOUND: the path is not one of `log.dirs`; KAFKA_STORAGE_ERROR: it is
offline, the partition is, or, for a move, any directory is; REPLICA_NOT_AVAILABLE: its log is not
open yet; UNKNOWN_TOPIC_OR_PARTITION: it is not here, and goes there when it is made;
INVALID_TOPIC_EXCEPTION: the name is too long for a directory with `-future` behind it.
Versions. 2 is flexible. Nothing else changed.
Authorised by: Alter on the cluster.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.broker.context import RequestContext, Services
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from ottla.security.acl import Operation, ResourceType


def alter_replica_log_dirs(
    context: RequestContext, request: AlterReplicaLogDirsRequest
) -> AlterReplicaLogDirsResponse:
    wanted = {
        TopicPartition(topic.name, PartitionIndex(index)): each.path
        for each in request.dirs
        for topic in each.topics
        for index in topic.partitions
    }
    is_allowed = context.may(Operation.ALTER, ResourceType.CLUSTER)
    by_topic: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for (topic, index), path in wanted.items():
        code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        if is_allowed:
            code = _move(context.services, topic, index, path)
        row = AlterReplicaLogDirPartitionResult(partition_index=index, error_code=code)
        by_topic.setdefault(topic, []).append(row)
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirTopicResult(topic_name=name, partitions=rows)
            for name, rows in by_topic.items()
        ]
    )


def _move(services: Services, topic: str, index: int, path: str) -> ErrorCode:
    try:
        services.replicas.move(topic, index, path)
    except KafkaError as error:
        return error.code
    return ErrorCode.NONE

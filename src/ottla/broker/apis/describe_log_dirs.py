"""DescribeLogDirs (key 35): sizes of log directories and of the partitions in them.

Behaviour. Every directory of `log.dirs` is answered, one that failed with KAFKA_STORAGE_ERROR.
`topics` None lists all partitions; else the ones named, where they are here. A partition that is
on its way to another directory is listed there as well, with `is_future_key` and how many offsets
its copy is behind; the lag of any other is 0.
Authorised by: Describe on the cluster.
Versions. 2 is flexible; 3 has an error of its own; 4 has the size of the volume; 5 says whether
a directory is cordoned, which none is.
"""

from collections.abc import Container, Iterator

from ottla.base.errors import ErrorCode
from ottla.base.ids import TopicPartition
from ottla.base.world import Disk
from ottla.broker.context import RequestContext
from ottla.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from ottla.replica.directory import Directory
from ottla.replica.mover import Mover
from ottla.security.acl import Operation, ResourceType

ERROR_VERSION = 3


def describe_log_dirs(
    context: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    if not context.may(Operation.DESCRIBE, ResourceType.CLUSTER):
        response = DescribeLogDirsResponse(results=[])
        if context.api_version >= ERROR_VERSION:
            response.error_code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        return response
    services = context.services
    asked = None
    if request.topics is not None:
        asked = {(each.topic, index) for each in request.topics for index in each.partitions}
    return DescribeLogDirsResponse(
        results=[
            _result(services.world.disk, services.replicas.mover, directory, asked)
            for directory in services.replicas.directories
        ]
    )


def _result(
    disk: Disk, mover: Mover, directory: Directory, asked: Container[tuple[str, int]] | None
) -> DescribeLogDirsResult:
    log_dir = directory.log_dir
    result = DescribeLogDirsResult(log_dir=log_dir.path, topics=[])
    try:
        if log_dir.is_offline:
            raise OSError
        result.total_bytes, result.usable_bytes = disk.usage(log_dir.path)
    except OSError:
        result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return result
    by_topic: dict[str, list[DescribeLogDirsPartition]] = {}
    for topic_partition, size_bytes, lag in _rows(mover, directory):
        if asked is None or topic_partition in asked:
            by_topic.setdefault(topic_partition.topic, []).append(
                DescribeLogDirsPartition(
                    partition_index=topic_partition.partition,
                    partition_size=size_bytes,
                    offset_lag=max(lag, 0),
                    is_future_key=lag >= 0,
                )
            )
    result.topics = [
        DescribeLogDirsTopic(name=name, partitions=rows) for name, rows in by_topic.items()
    ]
    return result


def _rows(mover: Mover, directory: Directory) -> Iterator[tuple[TopicPartition, int, int]]:
    """(partition, bytes, lag) of what is there and, with a lag that is not -1, on its way."""
    for topic_partition, log in directory.log_dir.logs.items():
        if not mover.has_left(topic_partition, directory):
            yield topic_partition, log.size_bytes, -1
    for topic_partition, move in mover.moves.items():
        if move.home is directory and move.future is not None:
            yield topic_partition, move.future.copied_bytes, move.future.lag

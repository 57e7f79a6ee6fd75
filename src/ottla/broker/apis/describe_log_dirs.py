"""DescribeLogDirs (key 35): sizes of log directories and of the partitions in them.

Behaviour. Every directory of `log.dirs` is answered, one that failed with KAFKA_STORAGE_ERROR.
`topics` None lists all partitions; else the ones named, where they are here. No log is on its
way to another directory: `is_future_key` is false and the lag 0.
Versions. 2 is flexible; 3 has an error of its own; 4 has the size of the volume; 5 says whether
a directory is cordoned, which none is.
"""

from collections.abc import Container

from ottla.base.errors import ErrorCode
from ottla.base.world import Disk
from ottla.broker.context import RequestContext
from ottla.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)
from ottla.storage.log_dir import LogDir


def describe_log_dirs(
    context: RequestContext, request: DescribeLogDirsRequest
) -> DescribeLogDirsResponse:
    services = context.services
    asked = None
    if request.topics is not None:
        asked = {(each.topic, index) for each in request.topics for index in each.partitions}
    return DescribeLogDirsResponse(
        results=[
            _result(services.world.disk, directory.log_dir, asked)
            for directory in services.replicas.directories
        ]
    )


def _result(
    disk: Disk, log_dir: LogDir, asked: Container[tuple[str, int]] | None
) -> DescribeLogDirsResult:
    result = DescribeLogDirsResult(log_dir=log_dir.path, topics=[])
    try:
        if log_dir.is_offline:
            raise OSError
        result.total_bytes, result.usable_bytes = disk.usage(log_dir.path)
    except OSError:
        result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return result
    by_topic: dict[str, list[DescribeLogDirsPartition]] = {}
    for topic_partition, log in log_dir.logs.items():
        if asked is None or topic_partition in asked:
            by_topic.setdefault(topic_partition.topic, []).append(
                DescribeLogDirsPartition(
                    partition_index=topic_partition.partition,
                    partition_size=log.size_bytes,
                    offset_lag=0,
                    is_future_key=False,
                )
            )
    result.topics = [
        DescribeLogDirsTopic(name=name, partitions=rows) for name, rows in by_topic.items()
    ]
    return result

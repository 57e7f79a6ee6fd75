"""AlterReplicaLogDirs (key 34): move partitions to other log directories of the broker asked.

Versions. 2 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class AlterReplicaLogDirTopic(Struct):
    name: str = field()
    partitions: list[int] = field(int32)


class AlterReplicaLogDir(Struct):
    path: str = field()
    topics: list[AlterReplicaLogDirTopic] = field()


class AlterReplicaLogDirsRequest(
    Request, api=ApiKey.ALTER_REPLICA_LOG_DIRS, versions="1-2", flexible="2+"
):
    dirs: list[AlterReplicaLogDir] = field()


class AlterReplicaLogDirPartitionResult(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16)


class AlterReplicaLogDirTopicResult(Struct):
    topic_name: str = field()
    partitions: list[AlterReplicaLogDirPartitionResult] = field()


class AlterReplicaLogDirsResponse(
    Response, api=ApiKey.ALTER_REPLICA_LOG_DIRS, versions="1-2", flexible="2+"
):
    throttle_time_ms: int = field(int32, default=0)
    results: list[AlterReplicaLogDirTopicResult] = field()

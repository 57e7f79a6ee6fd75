"""DescribeLogDirs (key 35): sizes of log directories and of the partitions in them.

`topics` None asks for all.
Versions. 2 is flexible; 3 has an error of its own; 4 has the size of the volume; 5 says whether
a directory is cordoned.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class DescribableLogDirTopic(Struct):
    topic: str = field()
    partitions: list[int] = field(int32)


class DescribeLogDirsRequest(Request, api=ApiKey.DESCRIBE_LOG_DIRS, versions="1-5", flexible="2+"):
    topics: list[DescribableLogDirTopic] | None = field(nullable="0+")


class DescribeLogDirsPartition(Struct):
    partition_index: int = field(int32)
    partition_size: int = field(int64)
    offset_lag: int = field(int64)
    is_future_key: bool = field()


class DescribeLogDirsTopic(Struct):
    name: str = field()
    partitions: list[DescribeLogDirsPartition] = field()


class DescribeLogDirsResult(Struct):
    error_code: int = field(int16, default=0)
    log_dir: str = field()
    topics: list[DescribeLogDirsTopic] = field()
    total_bytes: int = field(int64, versions="4+", default=-1, ignorable=True)
    usable_bytes: int = field(int64, versions="4+", default=-1, ignorable=True)
    is_cordoned: bool = field(versions="5+", default=False, ignorable=True)


class DescribeLogDirsResponse(
    Response, api=ApiKey.DESCRIBE_LOG_DIRS, versions="1-5", flexible="2+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, versions="3+", default=0, ignorable=True)
    results: list[DescribeLogDirsResult] = field()

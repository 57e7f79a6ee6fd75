"""DeleteRecords (key 21): move a partition's log start offset forward; -1 means the high watermark.

Versions. 2 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class DeleteRecordsPartition(Struct):
    partition_index: int = field(int32)
    offset: int = field(int64)


class DeleteRecordsTopic(Struct):
    name: str = field()
    partitions: list[DeleteRecordsPartition] = field()


class DeleteRecordsRequest(Request, api=ApiKey.DELETE_RECORDS, versions="0-2", flexible="2+"):
    topics: list[DeleteRecordsTopic] = field()
    timeout_ms: int = field(int32)


class DeleteRecordsPartitionResult(Struct):
    partition_index: int = field(int32)
    low_watermark: int = field(int64)
    error_code: int = field(int16, default=0)


class DeleteRecordsTopicResult(Struct):
    name: str = field()
    partitions: list[DeleteRecordsPartitionResult] = field()


class DeleteRecordsResponse(Response, api=ApiKey.DELETE_RECORDS, versions="0-2", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    topics: list[DeleteRecordsTopicResult] = field()

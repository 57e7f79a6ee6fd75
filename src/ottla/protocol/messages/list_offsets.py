"""ListOffsets (key 2): offsets of a partition by time, or by a special timestamp below zero.

-1 latest, -2 earliest; -3 the one with the highest timestamp (from 7), -4 earliest that is
local (8), -5 last tiered (9), -6 earliest to be uploaded (11).
Versions. 1 answers one offset; 2 has an isolation level, 4 leader epochs, 10 a timeout. 6 is
flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32, int64


class ListOffsetsPartition(Struct):
    partition_index: int = field(int32)
    current_leader_epoch: int = field(int32, versions="4+", default=-1, ignorable=True)
    timestamp: int = field(int64)


class ListOffsetsTopic(Struct):
    name: str = field()
    partitions: list[ListOffsetsPartition] = field()


class ListOffsetsRequest(Request, api=ApiKey.LIST_OFFSETS, versions="1-11", flexible="6+"):
    replica_id: int = field(int32)
    isolation_level: int = field(int8, versions="2+", default=0)
    topics: list[ListOffsetsTopic] = field()
    timeout_ms: int = field(int32, versions="10+", default=0, ignorable=True)


class ListOffsetsPartitionResponse(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)
    timestamp: int = field(int64, default=-1)
    offset: int = field(int64, default=-1)
    leader_epoch: int = field(int32, versions="4+", default=-1)


class ListOffsetsTopicResponse(Struct):
    name: str = field()
    partitions: list[ListOffsetsPartitionResponse] = field()


class ListOffsetsResponse(Response, api=ApiKey.LIST_OFFSETS, versions="1-11", flexible="6+"):
    throttle_time_ms: int = field(int32, versions="2+", default=0, ignorable=True)
    topics: list[ListOffsetsTopicResponse] = field()

"""Produce (key 0): append record batches to partitions.

Each partition of the answer has its own error. With acks=0 there is no answer at all. The
records of a decoded request are a view into the frame.
Versions. 3 is the first that carries batches of format 2, the only one written since Kafka 4.
5 answers the log start offset; 7 allows zstd; 8 names the records that were refused; 9 is
flexible; 10 answers the current leader to those who asked a wrong node; 11 and 12 change what
a transactional producer must do first, not the fields; 13 has topic ids instead of names.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import Records, int16, int32, int64, records


class PartitionProduceData(Struct):
    index: int = field(int32)
    records: Records | None = field(records, nullable="0+", default=None)


class TopicProduceData(Struct):
    name: str = field(versions="0-12", default="", ignorable=True)
    topic_id: Uuid = field(versions="13+", default=ZERO_UUID, ignorable=True)
    partition_data: list[PartitionProduceData] = field()


class ProduceRequest(Request, api=ApiKey.PRODUCE, versions="3-13", flexible="9+"):
    transactional_id: str | None = field(nullable="0+", default=None)
    acks: int = field(int16)
    timeout_ms: int = field(int32)
    topic_data: list[TopicProduceData] = field()


class BatchIndexAndErrorMessage(Struct):
    batch_index: int = field(int32)
    batch_index_error_message: str | None = field(nullable="0+", default=None)


class LeaderIdAndEpoch(Struct):
    leader_id: int = field(int32, default=-1)
    leader_epoch: int = field(int32, default=-1)


class PartitionProduceResponse(Struct):
    index: int = field(int32)
    error_code: int = field(int16, default=0)
    base_offset: int = field(int64)
    log_append_time_ms: int = field(int64, default=-1, ignorable=True)
    log_start_offset: int = field(int64, versions="5+", default=-1, ignorable=True)
    record_errors: list[BatchIndexAndErrorMessage] = field(
        versions="8+", default_factory=list, ignorable=True
    )
    error_message: str | None = field(versions="8+", nullable="0+", default=None, ignorable=True)
    current_leader: LeaderIdAndEpoch | None = field(versions="10+", tag=0, default=None)


class TopicProduceResponse(Struct):
    name: str = field(versions="0-12", default="", ignorable=True)
    topic_id: Uuid = field(versions="13+", default=ZERO_UUID, ignorable=True)
    partition_responses: list[PartitionProduceResponse] = field()


class NodeEndpoint(Struct):
    node_id: int = field(int32)
    host: str = field()
    port: int = field(int32)
    rack: str | None = field(nullable="0+", default=None)


class ProduceResponse(Response, api=ApiKey.PRODUCE, versions="3-13", flexible="9+"):
    responses: list[TopicProduceResponse] = field()
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    node_endpoints: list[NodeEndpoint] = field(versions="10+", tag=0, default_factory=list)

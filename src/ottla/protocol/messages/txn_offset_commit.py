"""TxnOffsetCommit (key 28): keep how far a group has read, once a transaction has committed.

Versions. 2 has leader epochs, 3 the member that commits, and is flexible, 4 allows
TRANSACTION_ABORTABLE, 5 adds the group to the transaction by itself (KIP-890), 6 names topics by
id.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class TxnOffsetCommitRequestPartition(Struct):
    partition_index: int = field(int32)
    committed_offset: int = field(int64)
    committed_leader_epoch: int = field(int32, versions="2+", default=-1, ignorable=True)
    committed_metadata: str | None = field(nullable="0+", default=None)


class TxnOffsetCommitRequestTopic(Struct):
    name: str = field(versions="0-5", default="", ignorable=True)
    topic_id: Uuid = field(versions="6+", default=ZERO_UUID, ignorable=True)
    partitions: list[TxnOffsetCommitRequestPartition] = field()


class TxnOffsetCommitRequest(Request, api=ApiKey.TXN_OFFSET_COMMIT, versions="0-6", flexible="3+"):
    transactional_id: str = field()
    group_id: str = field()
    producer_id: int = field(int64)
    producer_epoch: int = field(int16)
    generation_id_or_member_epoch: int = field(int32, versions="3+", default=-1)
    member_id: str = field(versions="3+", default="")
    group_instance_id: str | None = field(versions="3+", nullable="3+", default=None)
    topics: list[TxnOffsetCommitRequestTopic] = field()


class TxnOffsetCommitResponsePartition(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)


class TxnOffsetCommitResponseTopic(Struct):
    name: str = field(versions="0-5", default="", ignorable=True)
    topic_id: Uuid = field(versions="6+", default=ZERO_UUID, ignorable=True)
    partitions: list[TxnOffsetCommitResponsePartition] = field()


class TxnOffsetCommitResponse(
    Response, api=ApiKey.TXN_OFFSET_COMMIT, versions="0-6", flexible="3+"
):
    throttle_time_ms: int = field(int32, default=0)
    topics: list[TxnOffsetCommitResponseTopic] = field()

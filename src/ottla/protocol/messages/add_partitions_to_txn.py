"""AddPartitionsToTxn (key 24): a transaction is about to write to these partitions.

Clients send one transaction, in versions up to 3; brokers many, which may also only ask whether
the partitions are in the transaction (KIP-890).
Versions. 2 allows PRODUCER_FENCED, 3 is flexible, 4 is the batched form, 5 allows
TRANSACTION_ABORTABLE.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class AddPartitionsToTxnTopic(Struct):
    name: str = field()
    partitions: list[int] = field(int32)


class AddPartitionsToTxnTransaction(Struct):
    transactional_id: str = field(versions="4+")
    producer_id: int = field(int64, versions="4+")
    producer_epoch: int = field(int16, versions="4+")
    verify_only: bool = field(versions="4+", default=False)
    topics: list[AddPartitionsToTxnTopic] = field(versions="4+")


class AddPartitionsToTxnRequest(
    Request, api=ApiKey.ADD_PARTITIONS_TO_TXN, versions="0-5", flexible="3+"
):
    transactions: list[AddPartitionsToTxnTransaction] = field(versions="4+", default_factory=list)
    v3_and_below_transactional_id: str = field(versions="0-3", default="")
    v3_and_below_producer_id: int = field(int64, versions="0-3", default=0)
    v3_and_below_producer_epoch: int = field(int16, versions="0-3", default=0)
    v3_and_below_topics: list[AddPartitionsToTxnTopic] = field(versions="0-3", default_factory=list)


class AddPartitionsToTxnPartitionResult(Struct):
    partition_index: int = field(int32)
    partition_error_code: int = field(int16)


class AddPartitionsToTxnTopicResult(Struct):
    name: str = field()
    results_by_partition: list[AddPartitionsToTxnPartitionResult] = field()


class AddPartitionsToTxnResult(Struct):
    transactional_id: str = field(versions="4+")
    topic_results: list[AddPartitionsToTxnTopicResult] = field(versions="4+")


class AddPartitionsToTxnResponse(
    Response, api=ApiKey.ADD_PARTITIONS_TO_TXN, versions="0-5", flexible="3+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, versions="4+", default=0, ignorable=True)
    results_by_transaction: list[AddPartitionsToTxnResult] = field(
        versions="4+", default_factory=list
    )
    results_by_topic_v3_and_below: list[AddPartitionsToTxnTopicResult] = field(
        versions="0-3", default_factory=list
    )

"""DescribeTransactions (key 65): how transactional ids stand.

For tools that look for what hangs: state, producer, and the partitions of an open transaction.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class DescribeTransactionsRequest(
    Request, api=ApiKey.DESCRIBE_TRANSACTIONS, versions="0", flexible="0+"
):
    transactional_ids: list[str] = field()


class TopicData(Struct):
    topic: str = field()
    partitions: list[int] = field(int32)


class TransactionState(Struct):
    error_code: int = field(int16, default=0)
    transactional_id: str = field()
    transaction_state: str = field(default="")
    transaction_timeout_ms: int = field(int32, default=0)
    transaction_start_time_ms: int = field(int64, default=0)
    producer_id: int = field(int64, default=0)
    producer_epoch: int = field(int16, default=0)
    topics: list[TopicData] = field(default_factory=list)


class DescribeTransactionsResponse(
    Response, api=ApiKey.DESCRIBE_TRANSACTIONS, versions="0", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    transaction_states: list[TransactionState] = field()

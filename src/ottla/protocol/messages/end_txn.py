"""EndTxn (key 26): commit or abort a transaction.

Versions. 2 allows PRODUCER_FENCED, 3 is flexible, 4 allows TRANSACTION_ABORTABLE, 5 is for
transactions that each have an epoch of their own (KIP-890), and answers the next.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16, int32, int64


class EndTxnRequest(Request, api=ApiKey.END_TXN, versions="0-5", flexible="3+"):
    transactional_id: str = field()
    producer_id: int = field(int64)
    producer_epoch: int = field(int16)
    committed: bool = field()


class EndTxnResponse(Response, api=ApiKey.END_TXN, versions="0-5", flexible="3+"):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    producer_id: int = field(int64, versions="5+", default=-1, ignorable=True)
    producer_epoch: int = field(int16, versions="5+", default=-1, ignorable=True)

"""AddOffsetsToTxn (key 25): a transaction is about to commit offsets of this group.

Versions. 2 allows PRODUCER_FENCED, 3 is flexible, 4 allows TRANSACTION_ABORTABLE (KIP-890).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16, int32, int64


class AddOffsetsToTxnRequest(Request, api=ApiKey.ADD_OFFSETS_TO_TXN, versions="0-4", flexible="3+"):
    transactional_id: str = field()
    producer_id: int = field(int64)
    producer_epoch: int = field(int16)
    group_id: str = field()


class AddOffsetsToTxnResponse(
    Response, api=ApiKey.ADD_OFFSETS_TO_TXN, versions="0-4", flexible="3+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)

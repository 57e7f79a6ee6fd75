"""InitProducerId (key 22): a producer id and epoch, for idempotent and transactional producers.

Versions. 2 is flexible; 3 sends the id and epoch that a producer had before; 4 and 5 allow new
errors; 6 is for two-phase commit, unstable in Kafka and not offered.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16, int32, int64


class InitProducerIdRequest(Request, api=ApiKey.INIT_PRODUCER_ID, versions="0-6", flexible="2+"):
    transactional_id: str | None = field(nullable="0+", default=None)
    transaction_timeout_ms: int = field(int32)
    producer_id: int = field(int64, versions="3+", default=-1)
    producer_epoch: int = field(int16, versions="3+", default=-1)
    enable2_pc: bool = field(versions="6+", default=False)
    keep_prepared_txn: bool = field(versions="6+", default=False)


class InitProducerIdResponse(Response, api=ApiKey.INIT_PRODUCER_ID, versions="0-6", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    error_code: int = field(int16, default=0)
    producer_id: int = field(int64, default=-1)
    producer_epoch: int = field(int16)
    ongoing_txn_producer_id: int = field(int64, versions="6+", default=-1)
    ongoing_txn_producer_epoch: int = field(int16, versions="6+", default=-1)

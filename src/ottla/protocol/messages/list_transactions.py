"""ListTransactions (key 66): the transactional ids that a node coordinates.

Versions. 1 filters by how long a transaction runs (KIP-994), 2 by a pattern of ids (KIP-1152).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class ListTransactionsRequest(Request, api=ApiKey.LIST_TRANSACTIONS, versions="0-2", flexible="0+"):
    state_filters: list[str] = field()
    producer_id_filters: list[int] = field(int64)
    duration_filter: int = field(int64, versions="1+", default=-1)
    transactional_id_pattern: str | None = field(versions="2+", nullable="2+", default=None)


class TransactionState(Struct):
    transactional_id: str = field()
    producer_id: int = field(int64)
    transaction_state: str = field()


class ListTransactionsResponse(
    Response, api=ApiKey.LIST_TRANSACTIONS, versions="0-2", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    unknown_state_filters: list[str] = field(default_factory=list)
    transaction_states: list[TransactionState] = field(default_factory=list)

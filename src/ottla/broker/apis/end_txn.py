"""EndTxn (key 26): commit or abort a transaction.

Behaviour. Answered when the decision is in the coordinator's log for good; markers go to the
partitions then, and until all have theirs the next transaction is CONCURRENT_TRANSACTIONS. An end
that is asked for again is answered again; another end than the one that was decided is
INVALID_TXN_STATE (see `coordinator/transaction/endings`).
Authorised by: Write on the transactional id.
Versions. 2 knows PRODUCER_FENCED, 3 is flexible, 4 allows TRANSACTION_ABORTABLE, 5 is of the second
protocol: the epoch is bumped, and the answer names the producer as it goes on.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.transaction_errors import BUMPING_END, transaction_error
from ottla.coordinator.transaction.state import Producer
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.security.acl import Operation, ResourceType

FENCED_SINCE = 2


async def end_txn(context: RequestContext, request: EndTxnRequest) -> EndTxnResponse:
    version = context.api_version
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        context.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
        producer = await context.services.transactions.end(
            request.transactional_id,
            Producer(request.producer_id, request.producer_epoch),
            commit=request.committed,
            is_bumping=version >= BUMPING_END,
        )
    except KafkaError as error:
        return EndTxnResponse(error_code=transaction_error(error.code, version, FENCED_SINCE))
    return EndTxnResponse(producer_id=producer.id, producer_epoch=producer.epoch)

"""AddOffsetsToTxn (key 25): a transaction is about to commit offsets of this group.

Behaviour. What is added is the partition of `__consumer_offsets` that holds the group, which is
made for the first who asks. Clients of the second protocol leave it to TxnOffsetCommit.
Authorised by: Write on the transactional id, and Read on the group.
Versions. 2 knows PRODUCER_FENCED, 3 is flexible, 4 allows TRANSACTION_ABORTABLE.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.transaction_errors import transaction_error
from ottla.coordinator.transaction.state import Producer
from ottla.metadata.topic_names import CONSUMER_OFFSETS
from ottla.protocol.messages.add_offsets_to_txn import (
    AddOffsetsToTxnRequest,
    AddOffsetsToTxnResponse,
)
from ottla.security.acl import Operation, ResourceType

FENCED_SINCE = 2


async def add_offsets_to_txn(
    context: RequestContext, request: AddOffsetsToTxnRequest
) -> AddOffsetsToTxnResponse:
    services = context.services
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        context.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
        context.require(Operation.READ, ResourceType.GROUP, request.group_id)
        await services.groups.node_of(request.group_id)
        place = (CONSUMER_OFFSETS, services.groups.shard_of(request.group_id))
        producer = Producer(request.producer_id, request.producer_epoch)
        code = await services.transactions.add(
            request.transactional_id, producer, [place], is_bumping=False
        )
    except KafkaError as error:
        code = error.code
    return AddOffsetsToTxnResponse(
        error_code=transaction_error(code, context.api_version, FENCED_SINCE)
    )

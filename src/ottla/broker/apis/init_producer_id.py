"""InitProducerId (key 22): a producer id and epoch, for idempotent and transactional producers.

Behaviour. Without a transactional id: a new producer id with epoch 0, whatever id and epoch the
producer had before (KIP-360 is for transactional ones; an idempotent one starts afresh). With one:
the id's producer, whose epoch is bumped so that all who had it before are fenced; a transaction
that is open is aborted first, and CONCURRENT_TRANSACTIONS says to ask again. A producer that names
its id and epoch is bumped only if nobody else came since (KIP-360), else PRODUCER_FENCED. An id
without its epoch, or the other way round, is INVALID_REQUEST, as is an empty transactional id.
Authorised by: Write on the transactional id; without one Idempotent Write on the cluster, or Write
on some topic.
Versions. 2 is flexible; 3 sends the id and epoch that a producer had; 4 knows PRODUCER_FENCED; 5
allows TRANSACTION_ABORTABLE; 6 is for two-phase commit and not offered.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.transaction_errors import transaction_error
from ottla.coordinator.transaction.state import Producer
from ottla.protocol.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from ottla.security.acl import Operation, ResourceType

FENCED_SINCE = 4


async def init_producer_id(
    context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse:
    try:
        producer = await _init(context, request)
    except KafkaError as error:
        code = transaction_error(error.code, context.api_version, FENCED_SINCE)
        return InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)
    return InitProducerIdResponse(producer_id=producer.id, producer_epoch=producer.epoch)


def _may_be_idempotent(context: RequestContext) -> bool:
    """Whoever may write to some topic may do so idempotently (KIP-679)."""
    authorizer = context.services.authorizer
    return (
        authorizer is None
        or context.may(Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER, quiet=True)
        or authorizer.allows_some(context.requester, Operation.WRITE, ResourceType.TOPIC)
    )


async def _init(context: RequestContext, request: InitProducerIdRequest) -> Producer:
    services = context.services
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if request.transactional_id is None:
        if not _may_be_idempotent(context):
            raise KafkaError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        return Producer(await services.producer_ids.take(), 0)
    if request.transactional_id == "":
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    context.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
    expected = None
    if request.producer_id != -1:
        expected = Producer(request.producer_id, request.producer_epoch)
    return await services.transactions.init(
        request.transactional_id, request.transaction_timeout_ms, expected
    )

"""InitProducerId (key 22): a producer id and epoch, for idempotent and transactional producers.

Behaviour. Without a transactional id: a new producer id with epoch 0, whatever id and epoch the
producer had before (KIP-360 is for transactional ones; an idempotent one starts afresh). An id
without its epoch, or the other way round, is INVALID_REQUEST, as is an empty transactional id.
A transactional id is answered COORDINATOR_NOT_AVAILABLE: no coordinator runs yet.
Versions. 2 is flexible; 3 sends the id and epoch that a producer had; 4 and 5 allow new errors;
6 is for two-phase commit and not offered.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.protocol.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)


async def init_producer_id(
    context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse:
    try:
        _check(request)
        producer_id = await context.services.producer_ids.take()
    except KafkaError as error:
        return InitProducerIdResponse(error_code=error.code, producer_id=-1, producer_epoch=-1)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def _check(request: InitProducerIdRequest) -> None:
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if request.transactional_id == "":
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if request.transactional_id is not None:
        raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

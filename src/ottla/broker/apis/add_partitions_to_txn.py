"""AddPartitionsToTxn (key 24): a transaction is about to write to these partitions.

Behaviour. Up to version 3 one transaction, of a client of the first protocol. A partition that does
not exist is UNKNOWN_TOPIC_OR_PARTITION, one that the client may not write to, an internal topic's
too, TOPIC_AUTHORIZATION_FAILED, and then nothing is added: the others are OPERATION_NOT_ATTEMPTED.
From 4 on many, each answered on its own, of brokers that ask for a Produce: to add, or only to
verify.
Authorised by: Write on the transactional id and on each topic; from 4 on Cluster Action.
Versions. 2 knows PRODUCER_FENCED, 3 is flexible, 4 is the batched form, 5 knows
TRANSACTION_ABORTABLE.
"""

from collections.abc import Iterable, Mapping

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.broker.rows import side_by_side
from ottla.broker.transaction_errors import transaction_error
from ottla.coordinator.transaction.state import Place, Producer
from ottla.metadata.topic_names import INTERNAL_TOPICS
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)
from ottla.security.acl import Operation, ResourceType

FENCED_SINCE = 2
MANY_VERSION = 4
ABORTABLE_SINCE = 5


async def add_partitions_to_txn(
    context: RequestContext, request: AddPartitionsToTxnRequest
) -> AddPartitionsToTxnResponse:
    if context.api_version >= MANY_VERSION:
        if not context.may(Operation.CLUSTER_ACTION, ResourceType.CLUSTER):
            return AddPartitionsToTxnResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        rows = await side_by_side(_one(context, each) for each in request.transactions)
        return AddPartitionsToTxnResponse(results_by_transaction=rows)
    topics = request.v3_and_below_topics
    producer = Producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
    codes = await _add(
        context,
        request.v3_and_below_transactional_id,
        producer,
        _places(topics),
        is_bumping=False,
    )
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=_rows(topics, codes))


async def _one(
    context: RequestContext, asked: AddPartitionsToTxnTransaction
) -> AddPartitionsToTxnResult:
    producer = Producer(asked.producer_id, asked.producer_epoch)
    codes = await _add(
        context,
        asked.transactional_id,
        producer,
        _places(asked.topics),
        is_bumping=True,
        verify_only=asked.verify_only,
    )
    return AddPartitionsToTxnResult(
        transactional_id=asked.transactional_id, topic_results=_rows(asked.topics, codes)
    )


async def _add(
    context: RequestContext,
    transactional_id: str,
    producer: Producer,
    places: list[Place],
    *,
    is_bumping: bool,
    verify_only: bool = False,
) -> Mapping[Place, ErrorCode]:
    image, transactions = context.services.cluster.image, context.services.transactions
    if not transactional_id:
        return dict.fromkeys(places, ErrorCode.INVALID_REQUEST)
    is_client = context.api_version < MANY_VERSION
    if is_client and not context.may(
        Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id
    ):
        return dict.fromkeys(places, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    refused = {}
    for name, index in places:
        topic = image.topics.get(name)
        if is_client and not _may_write(context, name):
            refused[name, index] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        elif topic is None or not 0 <= index < len(topic.partitions):
            refused[name, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if refused:
        return {each: refused.get(each, ErrorCode.OPERATION_NOT_ATTEMPTED) for each in places}
    if verify_only:
        codes = await transactions.verify(transactional_id, producer, places)
    else:
        code = await transactions.add(transactional_id, producer, places, is_bumping=is_bumping)
        codes = dict.fromkeys(places, code)
    return {place: _told(code, context.api_version) for place, code in codes.items()}


def _told(code: ErrorCode, version: int) -> ErrorCode:
    """What the coordinator's answer is for a client of that version."""
    code = transaction_error(code, version, FENCED_SINCE)
    is_unheard_of = code is ErrorCode.TRANSACTION_ABORTABLE and version < ABORTABLE_SINCE
    return ErrorCode.INVALID_TXN_STATE if is_unheard_of else code


def _may_write(context: RequestContext, topic: str) -> bool:
    """Nobody may write to what is the coordinators' own."""
    return topic not in INTERNAL_TOPICS and context.may(Operation.WRITE, ResourceType.TOPIC, topic)


def _places(topics: Iterable[AddPartitionsToTxnTopic]) -> list[Place]:
    return [(topic.name, index) for topic in topics for index in topic.partitions]


def _rows(
    topics: Iterable[AddPartitionsToTxnTopic], codes: Mapping[Place, ErrorCode]
) -> list[AddPartitionsToTxnTopicResult]:
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=index, partition_error_code=codes[topic.name, index]
                )
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]

"""DescribeProducers (key 61): the active producers of partitions.

Behaviour. For tools that look for hanging transactions: idempotent producers are listed too,
with -1 for the start of a transaction they have not. Partitions are answered by their leader,
and once however often they are named.
Versions. 0 alone.
Authorised by: Read on each topic.
"""

from ottla.base.errors import KafkaError
from ottla.broker.context import RequestContext
from ottla.metadata.topic_names import check_topic_name
from ottla.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from ottla.security.acl import Operation, ResourceType


def describe_producers(
    context: RequestContext, request: DescribeProducersRequest
) -> DescribeProducersResponse:
    asked: dict[str, dict[int, None]] = {}
    for topic in request.topics:
        asked.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=name, partitions=[_answer(context, name, index) for index in indexes]
            )
            for name, indexes in asked.items()
        ]
    )


def _answer(context: RequestContext, topic: str, index: int) -> PartitionResponse:
    row = PartitionResponse(partition_index=index, active_producers=[])
    try:
        check_topic_name(topic)
        context.require(Operation.READ, ResourceType.TOPIC, topic)
        producers = context.services.replicas.leader_of(topic, index).log.producers()
    except KafkaError as error:
        row.error_code, row.error_message = error.code, error.message
        return row
    row.active_producers = [
        ProducerState(
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            last_sequence=producer.last_sequence,
            last_timestamp=producer.last_timestamp,
            coordinator_epoch=producer.coordinator_epoch,
            current_txn_start_offset=producer.transaction_start,
        )
        for producer in producers
    ]
    return row

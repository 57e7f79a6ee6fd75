"""CreatePartitions (key 37): raise the number of partitions of topics.

Behaviour. `count` is the new total: one that is not larger is INVALID_PARTITIONS. `assignments`
holds the replicas of the new partitions in order, as many in each as the topic has; without it
they are placed. A topic that is named twice is INVALID_REQUEST and answered once. More new
partitions in all than one request may ask for: POLICY_VIOLATION for every topic.
Versions. 2 is flexible, 3 may be throttled.
"""

from collections import Counter
from collections.abc import Iterable

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.broker.context import RequestContext
from ottla.metadata.controller import Controller
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


async def create_partitions(
    context: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    services = context.services
    counts = Counter(topic.name for topic in request.topics)
    topics = {topic.name: topic for topic in request.topics}
    is_too_much = _new_count(services.cluster.image, topics.values()) > PARTITIONS_PER_REQUEST
    rows = []
    for name, topic in topics.items():
        row = CreatePartitionsTopicResult(name=name)
        try:
            if counts[name] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "The topic is named more than once.")
            if is_too_much:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    f"More than {PARTITIONS_PER_REQUEST} new partitions in one request.",
                )
            await _grow(services.controller, topic, validate_only=request.validate_only)
        except KafkaError as error:
            row.error_code, row.error_message = error.code, error.message
        rows.append(row)
    return CreatePartitionsResponse(results=rows)


def _new_count(image: ClusterImage, asked: Iterable[CreatePartitionsTopic]) -> int:
    return sum(
        max(each.count - len(topic.partitions), 0)
        for each in asked
        if (topic := image.topics.get(each.name)) is not None
    )


async def _grow(
    controller: Controller, topic: CreatePartitionsTopic, *, validate_only: bool
) -> None:
    assignments = None
    if topic.assignments is not None:
        assignments = [each.broker_ids for each in topic.assignments]
    await controller.create_partitions(
        topic.name, topic.count, assignments, validate_only=validate_only
    )

"""CreatePartitions (key 37): raise the number of partitions of topics.

Behaviour. `count` is the new total: one that is not larger is INVALID_PARTITIONS. `assignments`
holds the replicas of the new partitions in order, as many in each as the topic has; without it
they are placed. A topic that is named twice is INVALID_REQUEST and answered once. More new
partitions in all than one request may ask for: POLICY_VIOLATION for every topic.
Authorised by: Alter on each topic.
Versions. 2 is flexible, 3 may be throttled.
"""

from collections import Counter
from collections.abc import Iterable

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.broker.context import RequestContext
from ottla.broker.rows import side_by_side
from ottla.metadata.controller import Controller
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from ottla.security.acl import Operation, ResourceType


async def create_partitions(
    context: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    services = context.services
    counts = Counter(topic.name for topic in request.topics)
    topics = {topic.name: topic for topic in request.topics}
    fault = None
    if _new_count(services.cluster.image, topics.values()) > PARTITIONS_PER_REQUEST:
        fault = KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"More than {PARTITIONS_PER_REQUEST} new partitions in one request.",
        )
    duplicate = KafkaError(ErrorCode.INVALID_REQUEST, "The topic is named more than once.")
    rows = (
        _answer(
            context,
            topic,
            duplicate if counts[name] > 1 else fault,
            validate_only=request.validate_only,
        )
        for name, topic in topics.items()
    )
    return CreatePartitionsResponse(results=await side_by_side(rows))


async def _answer(
    context: RequestContext,
    topic: CreatePartitionsTopic,
    fault: KafkaError | None,
    *,
    validate_only: bool,
) -> CreatePartitionsTopicResult:
    if fault is None:
        try:
            context.require(Operation.ALTER, ResourceType.TOPIC, topic.name)
            await _grow(context.services.controller, topic, validate_only=validate_only)
            return CreatePartitionsTopicResult(name=topic.name)
        except KafkaError as error:
            fault = error
    return CreatePartitionsTopicResult(
        name=topic.name, error_code=fault.code, error_message=fault.message
    )


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

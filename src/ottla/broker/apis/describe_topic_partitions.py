"""DescribeTopicPartitions (key 75): topics page by page, with eligible leaders (KIP-966).

Behaviour. Topics come in the order of their names: the ones asked for, or all of them. A page
holds at most `response_partition_limit` partitions, `max.request.partition.size.limit` at the
most, and one at the least, since an empty page would lead nowhere. The cursor of a page that is
not the last goes into the next request; a cursor whose topic is not among the ones asked for is
INVALID_REQUEST. A topic of all that is gone by then is passed over, one that was asked for is
UNKNOWN_TOPIC_OR_PARTITION or INVALID_TOPIC_EXCEPTION; neither counts as a partition.
Versions. 0 alone.
Authorised by: Describe on each topic; without it one of all is left out.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.broker.operations import authorized_operations
from ottla.metadata.image import NO_NODE, ClusterImage, PartitionImage, TopicImage
from ottla.metadata.topic_names import INTERNAL_TOPICS, check_topic_name
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from ottla.security.acl import Operation, ResourceType


def describe_topic_partitions(
    context: RequestContext, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    image = context.services.cluster.image
    cursor = request.cursor or Cursor(topic_name="", partition_index=0)
    asked = sorted({topic.name for topic in request.topics})
    if cursor.partition_index < 0 or (request.cursor and asked and cursor.topic_name not in asked):
        return DescribeTopicPartitionsResponse(topics=_refusals(asked, ErrorCode.INVALID_REQUEST))
    room = context.services.settings.max_request_partition_size_limit
    room = max(min(request.response_partition_limit, room), 1)
    response = DescribeTopicPartitionsResponse(topics=[])
    refused = []
    for name in asked or sorted(image.topics):
        if name < cursor.topic_name:
            continue
        if not context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=not asked):
            refused.append(name)
            continue
        topic = image.topics.get(name)
        if topic is None:
            response.topics.append(_missing_row(context, name))
            continue
        first = cursor.partition_index if name == cursor.topic_name else 0
        if room > 0:
            row = _row(context, topic, first, room)
            response.topics.append(row)
            first += len(row.partitions)
            room -= len(row.partitions)
            if first >= len(topic.partitions):
                continue
        response.next_cursor = Cursor(topic_name=name, partition_index=first)
        break
    if asked:
        response.topics += _refusals(refused, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    return response


def _refusals(names: list[str], code: ErrorCode) -> list[DescribeTopicPartitionsResponseTopic]:
    return [
        DescribeTopicPartitionsResponseTopic(error_code=code, name=name, partitions=[])
        for name in names
    ]


def _missing_row(context: RequestContext, name: str) -> DescribeTopicPartitionsResponseTopic:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    try:
        check_topic_name(name)
    except KafkaError as error:
        code = error.code
    return DescribeTopicPartitionsResponseTopic(
        error_code=code,
        name=name,
        is_internal=name in INTERNAL_TOPICS,
        partitions=[],
        topic_authorized_operations=authorized_operations(context, ResourceType.TOPIC, name),
    )


def _row(
    context: RequestContext, topic: TopicImage, first: int, room: int
) -> DescribeTopicPartitionsResponseTopic:
    image = context.services.cluster.image
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[
            _partition_row(image, partition) for partition in topic.partitions[first : first + room]
        ],
        topic_authorized_operations=authorized_operations(context, ResourceType.TOPIC, topic.name),
    )


def _partition_row(
    image: ClusterImage, partition: PartitionImage
) -> DescribeTopicPartitionsResponsePartition:
    return DescribeTopicPartitionsResponsePartition(
        partition_index=partition.index,
        leader_id=partition.leader if partition.leader in image.brokers else NO_NODE,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        eligible_leader_replicas=list(partition.elr),
        last_known_elr=[],
        offline_replicas=[node for node in partition.replicas if node not in image.brokers],
    )

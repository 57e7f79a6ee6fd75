"""Metadata (key 3): who the brokers are, and which topics and partitions they lead.

Behaviour. Topics are asked for by name, from version 12 by id, or all at once. One that is not
there is made on the spot where the client and `auto.create.topics.enable` allow it, and answered
with its leaders: Kafka says LEADER_NOT_AVAILABLE first, and lets the client ask again. A broker
that listens on all addresses and advertises none is shown at the address by which this client
reached it.
Authorised by: Describe on each topic, without which it is left out of all and refused by name;
Create on the cluster or the topic to make one.
Versions. See the message. 10 and 11 have ids in the request, but may not use them.
"""

from collections.abc import Iterable

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.broker.context import RequestContext
from ottla.broker.operations import NOT_ASKED, authorized_operations, cluster_operations
from ottla.broker.rows import side_by_side
from ottla.metadata.image import ClusterImage, PartitionImage, TopicImage
from ottla.metadata.topic_names import CONSUMER_OFFSETS, INTERNAL_TOPICS, check_topic_name
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.security.acl import Operation, ResourceType

WILDCARD_HOSTS = ("", "0.0.0.0", "::")


async def metadata(context: RequestContext, request: MetadataRequest) -> MetadataResponse:
    cluster = context.services.cluster
    asked = request.topics
    if asked is None or (context.api_version == 0 and not asked):
        topics = [
            topic_row(cluster.image, topic)
            for topic in cluster.image.topics.values()
            if context.may(Operation.DESCRIBE, ResourceType.TOPIC, topic.name, quiet=True)
        ]
    elif context.api_version < 12 and not all(_is_by_name(topic) for topic in asked):
        topics = [_invalid_row(topic) for topic in asked]
    else:
        # A repeat is answered once: a short request must not ask for an endless answer.
        distinct = list({(topic.topic_id, topic.name): topic for topic in asked}.values())
        refused = await _create_missing(context, request, distinct)
        topics = [_asked_row(context, topic, refused) for topic in distinct]
    if request.include_topic_authorized_operations:
        for topic in topics:
            if topic.error_code != ErrorCode.TOPIC_AUTHORIZATION_FAILED:
                topic.topic_authorized_operations = authorized_operations(
                    context, ResourceType.TOPIC, topic.name or ""
                )
    image = cluster.image
    _mark_offline(context, topics)
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=node, host=host, port=port, rack=rack)
            for node, host, port, rack in broker_rows(context, image)
        ],
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
        topics=topics,
        cluster_authorized_operations=cluster_operations(context)
        if request.include_cluster_authorized_operations
        else NOT_ASKED,
    )


def _mark_offline(context: RequestContext, topics: Iterable[MetadataResponseTopic]) -> None:
    """Replicas of this node whose log directory is offline."""
    replicas, node_id = context.services.replicas, context.services.node_id
    if not replicas.has_offline:
        return
    for topic in topics:
        for row in topic.partitions:
            is_ours = node_id in row.replica_nodes and node_id not in row.offline_replicas
            if is_ours and replicas.is_offline(topic.name or "", row.partition_index):
                row.offline_replicas.append(node_id)


def broker_rows(
    context: RequestContext, image: ClusterImage
) -> Iterable[tuple[int, str, int, str | None]]:
    """(node id, host, port, rack) of every broker, as this client can reach it."""
    for broker in image.brokers.values():
        host = broker.host
        if host in WILDCARD_HOSTS:
            host = context.connection.local.rpartition(":")[0].strip("[]")
        yield broker.node_id, host, broker.port, broker.rack


async def _create_missing(
    context: RequestContext, request: MetadataRequest, asked: list[MetadataRequestTopic]
) -> dict[str, ErrorCode]:
    """Make the topics that may be made by asking; what could not be, and why."""
    services = context.services
    settings = services.settings
    refused: dict[str, ErrorCode] = {}
    if not (request.allow_auto_topic_creation and settings.auto_create_topics_enable):
        return refused
    known = services.cluster.image.topics
    may_create_any = context.may(Operation.CREATE, ResourceType.CLUSTER, quiet=True)
    missing = [
        topic.name
        for topic in asked
        if topic.name is not None
        and topic.topic_id == ZERO_UUID
        and topic.name not in known
        and context.may(Operation.DESCRIBE, ResourceType.TOPIC, topic.name)
    ]

    async def create(name: str) -> None:
        try:
            if not may_create_any:
                context.require(Operation.CREATE, ResourceType.TOPIC, name)
            if name == CONSUMER_OFFSETS:
                await services.groups.make_topic()
                return
            await services.controller.create_topic(
                name,
                partitions=settings.num_partitions,
                replication_factor=settings.default_replication_factor,
            )
        except KafkaError as error:
            if error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                refused[name] = error.code

    # As many as CreateTopics would make at once; the client asks again for the others.
    count = PARTITIONS_PER_REQUEST // settings.num_partitions
    await side_by_side([create(name) for name in missing[:count]])
    return refused


def _asked_row(
    context: RequestContext, asked: MetadataRequestTopic, refused: dict[str, ErrorCode]
) -> MetadataResponseTopic:
    """Of a topic that the client may not describe not even that it is there."""
    image = context.services.cluster.image
    if asked.topic_id != ZERO_UUID:
        topic = image.topics_by_id.get(asked.topic_id)
        code = ErrorCode.UNKNOWN_TOPIC_ID
        if topic is not None:
            if context.may(Operation.DESCRIBE, ResourceType.TOPIC, topic.name):
                return topic_row(image, topic)
            code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        return MetadataResponseTopic(error_code=code, topic_id=asked.topic_id, partitions=[])
    name = asked.name or ""
    if not context.may(Operation.DESCRIBE, ResourceType.TOPIC, name):
        return MetadataResponseTopic(
            error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED, name=name, partitions=[]
        )
    topic = image.topics.get(name)
    if topic is not None:
        return topic_row(image, topic)
    return MetadataResponseTopic(
        error_code=refused.get(name) or _missing(name), name=name, partitions=[]
    )


def _is_by_name(asked: MetadataRequestTopic) -> bool:
    return asked.name is not None and asked.topic_id == ZERO_UUID


def _invalid_row(asked: MetadataRequestTopic) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=ErrorCode.INVALID_REQUEST,
        name=asked.name or "",
        topic_id=asked.topic_id,
        partitions=[],
    )


def _missing(name: str) -> ErrorCode:
    try:
        check_topic_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def topic_row(image: ClusterImage, topic: TopicImage) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[_partition_row(image, partition) for partition in topic.partitions],
    )


def _partition_row(image: ClusterImage, partition: PartitionImage) -> MetadataResponsePartition:
    has_leader = partition.leader in image.brokers
    return MetadataResponsePartition(
        error_code=ErrorCode.NONE if has_leader else ErrorCode.LEADER_NOT_AVAILABLE,
        partition_index=partition.index,
        leader_id=partition.leader if has_leader else -1,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        offline_replicas=[node for node in partition.replicas if node not in image.brokers],
    )

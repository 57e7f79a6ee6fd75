"""CreateTopics (key 19): make topics, with a number of partitions or an assignment of replicas.

Behaviour. Each topic is answered on its own, and is there on this node when the answer leaves.
-1 partitions or replicas are the broker's `num.partitions` and `default.replication.factor`.
A name that comes twice is INVALID_REQUEST and answered once. More partitions in all than one
request may ask for: POLICY_VIOLATION for every topic, and none is made. `validate_only` answers
as if it had been done.
Authorised by: Create on the cluster or the topic; Describe Configs to be told what was made.
Versions. 4 allows -1 for the broker's defaults (taken from any version, as in Kafka); 5 is
flexible and answers what was made, with the configs as they take effect; 7 answers the topic id.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.limits import PARTITIONS_PER_REQUEST
from ottla.base.options import BrokerSettings, check_topic_bounds, describe_topic
from ottla.broker.context import RequestContext
from ottla.broker.rows import side_by_side
from ottla.metadata.image import TopicImage
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.security.acl import Operation, ResourceType

CLUSTER_METADATA: Final = "__cluster_metadata"
"""Kafka's log of metadata. No client may make a topic of that name there, nor here."""


async def create_topics(
    context: RequestContext, request: CreateTopicsRequest
) -> CreateTopicsResponse:
    services = context.services
    counts = Counter(topic.name for topic in request.topics)
    topics = {topic.name: topic for topic in request.topics}
    fault = None
    if _partition_count(topics.values(), services.settings) > PARTITIONS_PER_REQUEST:
        fault = KafkaError(
            ErrorCode.POLICY_VIOLATION,
            f"More than {PARTITIONS_PER_REQUEST} partitions in one request.",
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
    return CreateTopicsResponse(topics=await side_by_side(rows))


async def _answer(
    context: RequestContext, topic: CreatableTopic, fault: KafkaError | None, *, validate_only: bool
) -> CreatableTopicResult:
    if fault is None:
        try:
            return _row(context, await _create(context, topic, validate_only=validate_only))
        except KafkaError as error:
            fault = error
    return CreatableTopicResult(name=topic.name, error_code=fault.code, error_message=fault.message)


def _partition_count(topics: Iterable[CreatableTopic], settings: BrokerSettings) -> int:
    return sum(
        len(topic.assignments) or max(_or_default(topic.num_partitions, settings.num_partitions), 0)
        for topic in topics
    )


def _or_default(asked: int, default: int) -> int:
    return default if asked == -1 else asked


async def _create(
    context: RequestContext, topic: CreatableTopic, *, validate_only: bool
) -> TopicImage:
    if topic.name == CLUSTER_METADATA:
        raise KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    if not context.may(Operation.CREATE, ResourceType.CLUSTER, quiet=True):
        context.require(Operation.CREATE, ResourceType.TOPIC, topic.name)
    services = context.services
    settings = services.settings
    assignments = _assignments(topic)
    partitions, replication_factor = topic.num_partitions, topic.replication_factor
    if assignments is None:
        partitions = _or_default(partitions, settings.num_partitions)
        replication_factor = _or_default(replication_factor, settings.default_replication_factor)
    return await services.controller.create_topic(
        topic.name,
        partitions=partitions,
        replication_factor=replication_factor,
        assignments=assignments,
        configs=_configs(topic),
        validate_only=validate_only,
        also=partial(check_topic_bounds, broker=settings),
    )


def _assignments(topic: CreatableTopic) -> dict[int, list[int]] | None:
    if not topic.assignments:
        return None
    assignments = {each.partition_index: each.broker_ids for each in topic.assignments}
    if len(assignments) != len(topic.assignments):
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment names a partition more than once.",
        )
    return assignments


def _configs(topic: CreatableTopic) -> dict[str, str]:
    configs = {}
    for config in topic.configs:
        if config.value is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{config.name}: the value may not be null.")
        configs[config.name] = config.value
    return configs


def _row(context: RequestContext, topic: TopicImage) -> CreatableTopicResult:
    if not context.may(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, topic.name, quiet=True):
        return CreatableTopicResult(
            name=topic.name,
            topic_id=topic.id,
            topic_config_error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        )
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic.id,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=entry.read_only,
                config_source=entry.source,
                is_sensitive=entry.is_sensitive,
            )
            for entry in describe_topic(topic.configs, context.services.layers)
        ],
    )

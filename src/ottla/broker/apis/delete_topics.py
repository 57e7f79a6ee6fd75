"""DeleteTopics (key 20): delete topics by name or, from version 6, by id.

Behaviour. Each topic is answered on its own, and is gone from this node's metadata when the
answer leaves; its files are renamed first and removed later. A topic that is asked for twice, by
name, by id or by one of each, is INVALID_REQUEST and stays. With `delete.topic.enable=false`
every topic is refused: TOPIC_DELETION_DISABLED, before version 3 INVALID_REQUEST.
Versions. 4 is flexible, 5 answers error messages, 6 replaces the list of names by a list of
(name, id) of which one is given.
"""

from collections import Counter
from typing import NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.broker.context import RequestContext
from ottla.metadata.controller import Controller
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)


class Asked(NamedTuple):
    """A topic as the request names it: by name or by id."""

    name: str | None
    topic_id: Uuid


async def delete_topics(
    context: RequestContext, request: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    services = context.services
    asked = [Asked(name, ZERO_UUID) for name in request.topic_names]
    asked += [Asked(topic.name, topic.topic_id) for topic in request.topics]
    found = [_find(services.cluster.image, each) for each in asked]
    # Whoever stands here twice is asked for twice.
    counts = Counter(topic.id for topic in found if isinstance(topic, TopicImage))
    counts_asked = Counter(asked)
    is_enabled = services.settings.delete_topic_enable
    rows = []
    for each, topic in dict(zip(asked, found, strict=True)).items():
        try:
            if not is_enabled:
                raise _disabled(context.api_version)
            if counts_asked[each] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "The topic is named more than once.")
            if isinstance(topic, KafkaError):
                raise topic
            if counts[topic.id] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "The topic is named by its id as well.")
            await _delete(services.controller, each, topic)
            row = DeletableTopicResult(name=topic.name, topic_id=topic.id)
        except KafkaError as error:
            row = DeletableTopicResult(
                name=each.name,
                topic_id=each.topic_id,
                error_code=error.code,
                error_message=error.message,
            )
        rows.append(row)
    return DeleteTopicsResponse(responses=rows)


def _find(image: ClusterImage, asked: Asked) -> TopicImage | KafkaError:
    name, topic_id = asked
    if topic_id == ZERO_UUID:
        if not name:
            return KafkaError(ErrorCode.INVALID_REQUEST, "Neither a topic's name nor its id.")
        return image.topics.get(name) or KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if name is not None:
        return KafkaError(ErrorCode.INVALID_REQUEST, "Both a topic's name and an id.")
    return image.topics_by_id.get(topic_id) or KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)


def _disabled(api_version: int) -> KafkaError:
    """The error has a code of its own since version 3."""
    is_known = api_version >= 3
    return KafkaError(
        ErrorCode.TOPIC_DELETION_DISABLED if is_known else ErrorCode.INVALID_REQUEST,
        "Topics are not deleted here: delete.topic.enable is false.",
    )


async def _delete(controller: Controller, asked: Asked, topic: TopicImage) -> None:
    try:
        await controller.delete_topic(topic.id)
    except KafkaError as error:
        if error.code == ErrorCode.UNKNOWN_TOPIC_ID and asked.name is not None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) from error
        raise

"""DeleteTopics (key 20): delete topics by name or, from version 6, by id.

Behaviour. Each topic is answered on its own, and is gone from this node's metadata when the
answer leaves; its files are renamed first and removed later. A topic that is asked for twice, by
name, by id or by one of each, is INVALID_REQUEST and stays. With `delete.topic.enable=false`
every topic is refused: TOPIC_DELETION_DISABLED, before version 3 INVALID_REQUEST.
Authorised by: Delete on the cluster or the topic.
Versions. 4 is flexible, 5 answers error messages, 6 replaces the list of names by a list of
(name, id) of which one is given.
"""

from collections import Counter
from typing import NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.broker.context import RequestContext
from ottla.broker.rows import side_by_side
from ottla.metadata.controller import Controller
from ottla.metadata.image import ClusterImage, TopicImage
from ottla.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
)
from ottla.security.acl import Operation, ResourceType


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
    if services.settings.delete_topic_enable:
        found = _found(context, asked)
    else:
        found = dict.fromkeys(asked, _disabled(context.api_version))
    rows = (_answer(services.controller, each, topic) for each, topic in found.items())
    return DeleteTopicsResponse(responses=await side_by_side(rows))


def _found(context: RequestContext, asked: list[Asked]) -> dict[Asked, TopicImage | KafkaError]:
    """The topics that are to be deleted, and why the others are not."""
    image = context.services.cluster.image
    found = {each: _find(image, each) for each in asked}
    if not context.may(Operation.DELETE, ResourceType.CLUSTER, quiet=True):
        for each, topic in found.items():
            name = topic.name if isinstance(topic, TopicImage) else each.name
            if name and not _may_delete(context, name, is_there=isinstance(topic, TopicImage)):
                found[each] = KafkaError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    counts = Counter(asked)
    id_counts = Counter(topic.id for topic in found.values() if isinstance(topic, TopicImage))
    for each, topic in found.items():
        if counts[each] > 1 or (isinstance(topic, TopicImage) and id_counts[topic.id] > 1):
            found[each] = _refused("The topic is named more than once.")
    return found


def _may_delete(context: RequestContext, name: str, *, is_there: bool) -> bool:
    """Who may not describe a topic is not told that it is not there."""
    needed = Operation.DELETE if is_there else Operation.DESCRIBE
    return context.may(needed, ResourceType.TOPIC, name)


def _find(image: ClusterImage, asked: Asked) -> TopicImage | KafkaError:
    name, topic_id = asked
    if topic_id == ZERO_UUID:
        if not name:
            return _refused("Neither a topic's name nor its id.")
        return image.topics.get(name) or KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if name is not None:
        return _refused("Both a topic's name and an id.")
    return image.topics_by_id.get(topic_id) or KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)


def _refused(why: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, why)


def _disabled(api_version: int) -> KafkaError:
    """The error has a code of its own since version 3."""
    message = "Topics are not deleted here: delete.topic.enable is false."
    if api_version < 3:
        return _refused(message)
    return KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, message)


async def _answer(
    controller: Controller, asked: Asked, found: TopicImage | KafkaError
) -> DeletableTopicResult:
    if isinstance(found, TopicImage):
        try:
            await controller.delete_topic(found.id)
            return DeletableTopicResult(name=found.name, topic_id=found.id)
        except KafkaError as error:
            found = error
            if error.code == ErrorCode.UNKNOWN_TOPIC_ID and asked.name is not None:
                found = KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return DeletableTopicResult(
        name=asked.name,
        topic_id=asked.topic_id,
        error_code=found.code,
        error_message=found.message,
    )

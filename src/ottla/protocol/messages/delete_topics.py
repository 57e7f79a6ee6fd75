"""DeleteTopics (key 20): delete topics by name or, from version 6, by id.

Versions. 4 is flexible, 5 answers error messages, 6 replaces the list of names by a list of
(name, id) of which one is given.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class DeleteTopicState(Struct):
    name: str | None = field(nullable="0+", default=None)
    topic_id: Uuid = field()


class DeleteTopicsRequest(Request, api=ApiKey.DELETE_TOPICS, versions="1-6", flexible="4+"):
    topics: list[DeleteTopicState] = field(versions="6+", default_factory=list)
    topic_names: list[str] = field(versions="0-5", default_factory=list, ignorable=True)
    timeout_ms: int = field(int32)


class DeletableTopicResult(Struct):
    name: str | None = field(nullable="6+", default=None)
    topic_id: Uuid = field(versions="6+", default=ZERO_UUID, ignorable=True)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(versions="5+", nullable="0+", default=None, ignorable=True)


class DeleteTopicsResponse(Response, api=ApiKey.DELETE_TOPICS, versions="1-6", flexible="4+"):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    responses: list[DeletableTopicResult] = field()

"""CreateTopics (key 19): make topics, with a number of partitions or an assignment of replicas.

Versions. 4 allows -1 for the broker's defaults; 5 is flexible and answers what was made,
configs included; 6 may be throttled; 7 answers the topic id.
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class CreatableReplicaAssignment(Struct):
    partition_index: int = field(int32)
    broker_ids: list[int] = field(int32)


class CreatableTopicConfig(Struct):
    name: str = field()
    value: str | None = field(nullable="0+", default=None)


class CreatableTopic(Struct):
    name: str = field()
    num_partitions: int = field(int32)
    replication_factor: int = field(int16)
    assignments: list[CreatableReplicaAssignment] = field()
    configs: list[CreatableTopicConfig] = field()


class CreateTopicsRequest(Request, api=ApiKey.CREATE_TOPICS, versions="2-7", flexible="5+"):
    topics: list[CreatableTopic] = field()
    timeout_ms: int = field(int32, default=60000)
    validate_only: bool = field(default=False)


class CreatableTopicConfigs(Struct):
    name: str = field()
    value: str | None = field(nullable="0+", default=None)
    read_only: bool = field()
    config_source: int = field(int8, default=-1, ignorable=True)
    is_sensitive: bool = field()


class CreatableTopicResult(Struct):
    name: str = field()
    topic_id: Uuid = field(versions="7+", default=ZERO_UUID, ignorable=True)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None, ignorable=True)
    topic_config_error_code: int = field(int16, versions="5+", tag=0, default=0, ignorable=True)
    num_partitions: int = field(int32, versions="5+", default=-1, ignorable=True)
    replication_factor: int = field(int16, versions="5+", default=-1, ignorable=True)
    configs: list[CreatableTopicConfigs] | None = field(
        versions="5+", nullable="0+", default=None, ignorable=True
    )


class CreateTopicsResponse(Response, api=ApiKey.CREATE_TOPICS, versions="2-7", flexible="5+"):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    topics: list[CreatableTopicResult] = field()

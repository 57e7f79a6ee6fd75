"""Valid requests of every served (API, version): what bad input is made from.

A request is filled by the names of its fields, so that an API that is added is fuzzed without
a line here; each array has one element. What is named (topics, partitions, configs) exists on
the node under fuzz, so that a request gets past its first check and deep into its handler.
"""

from typing import Any, Final

from ottla.base.world import FileRange
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.framing import encode_request
from ottla.protocol.message import Field, Struct
from ottla.protocol.registry import APIS, ApiKey, request_class

TOPIC: Final = "fuzzed"
COMPACTED: Final = "fuzzed-compact"
NEW_TOPIC: Final = "made-by-fuzz"

SERVED: Final[list[tuple[ApiKey, int]]] = [
    (ApiKey(key), version)
    for key in ENDPOINTS
    for version in range(APIS[key].first, APIS[key].last + 1)
]

COMMON: Final[dict[str, Any]] = {
    "name": TOPIC,
    "topic": TOPIC,
    "topic_name": TOPIC,
    "topic_names": TOPIC,
    "acks": -1,
    "timeout_ms": 50,
    "max_wait_ms": 0,
    "min_bytes": 1,
    "max_bytes": 1 << 20,
    "partition_max_bytes": 1 << 20,
    "replica_id": -1,
    "session_epoch": -1,
    "current_leader_epoch": -1,
    "last_fetched_epoch": -1,
    "timestamp": -1,
    "num_partitions": 1,
    "replication_factor": 1,
    "resource_type": 2,
    "resource_name": TOPIC,
    "broker_ids": 1,
    "count": 2,
    "producer_id": -1,
    "producer_epoch": -1,
    "transaction_timeout_ms": 60_000,
    "response_partition_limit": 10,
    "key": "group",
    "coordinator_keys": "group",
    "group_id": "group",
    "groups_names": "group",
    "generation_id_or_member_epoch": -1,
    "retention_time_ms": -1,
    "committed_offset": 1,
    "endpoint_type": 1,
    "validate_only": True,
    "client_software_name": "fuzz",
    "client_software_version": "1.0",
}
"""By the name of a field, whatever the API."""

ACL: Final[dict[str, Any]] = {
    "resource_type_filter": 2,
    "resource_name_filter": TOPIC,
    "operation": 3,
    "permission_type": 3,
}
"""What an access control entry speaks of, and a filter that finds it."""

OF_API: Final[dict[ApiKey, dict[str, Any]]] = {
    ApiKey.CREATE_TOPICS: {"name": NEW_TOPIC, "assignments": [], "configs": []},
    ApiKey.CREATE_PARTITIONS: {"assignments": None},
    ApiKey.ALTER_CONFIGS: {"name": "retention.ms", "value": "1000"},
    ApiKey.INCREMENTAL_ALTER_CONFIGS: {"name": "retention.ms", "value": "1000"},
    ApiKey.DESCRIBE_CONFIGS: {"configuration_keys": "retention.ms"},
    ApiKey.DELETE_TOPICS: {"name": NEW_TOPIC, "topic_names": NEW_TOPIC},
    ApiKey.DELETE_RECORDS: {"offset": -1},
    ApiKey.INIT_PRODUCER_ID: {"transactional_id": None},
    ApiKey.PRODUCE: {"transactional_id": None},
    ApiKey.CREATE_ACLS: {"principal": "User:fuzz", "host": "*", **ACL},
    ApiKey.DESCRIBE_ACLS: {"principal_filter": None, "host_filter": None, **ACL},
    ApiKey.DELETE_ACLS: {"principal_filter": None, "host_filter": None, **ACL},
    ApiKey.DESCRIBE_QUORUM: {"topic_name": "__cluster_metadata"},
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: {"replicas": 1},
    ApiKey.DESCRIBE_GROUPS: {"groups": "group"},
}


def request_of(
    key: ApiKey, version: int, *, topic_id: bytes, records: bytes, **values: Any
) -> Struct:
    """A request that the node answers without an error, but for `values`."""
    known = {**COMMON, **OF_API.get(key, {}), "topic_id": topic_id, "records": records, **values}
    if key is ApiKey.DELETE_TOPICS and version >= 6:
        known["topic_id"] = bytes(16)
    if key is ApiKey.METADATA:
        known["topic_id"] = bytes(16)
    return _filled(request_class(key), version, known)


def frame_of(
    key: ApiKey,
    version: int,
    *,
    correlation_id: int = 7,
    client_id: str | None = "fuzz",
    topic_id: bytes = bytes(16),
    records: bytes = b"",
    **values: Any,
) -> bytes:
    """The whole frame of `request_of`, its size in front."""
    request = request_of(key, version, topic_id=topic_id, records=records, **values)
    parts = encode_request(correlation_id, client_id, version, request)  # type: ignore[arg-type]
    return joined(parts)


def joined(parts: list[Any]) -> bytes:
    """The bytes of a message, file ranges read."""
    return b"".join(
        part.file.pread(part.length, part.position) if isinstance(part, FileRange) else bytes(part)
        for part in parts
    )


def sized(body: bytes) -> bytes:
    """A frame around a body."""
    return len(body).to_bytes(4, "big") + body


def _filled(cls: type[Struct], version: int, known: dict[str, Any]) -> Any:
    return cls(**{each.name: _value(each, version, known) for each in cls.__fields__})


def _value(field: Field, version: int, known: dict[str, Any]) -> Any:
    if version not in field.versions:
        return field.missing()
    if field.nested is None and field.name not in known and not field.is_required:
        return field.missing()
    if field.nested is not None and field.name not in known:
        single = _filled(field.nested, version, known)
        if field.tag is not None and not field.is_array:
            return None
    elif field.name in known:
        single = known[field.name]
        if single is None or isinstance(single, list):
            return single
    else:
        single = field.kind.zero
    return [single] if field.is_array else single

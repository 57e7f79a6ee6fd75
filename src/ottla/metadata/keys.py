"""The keys of the store and the values under them: the one place that knows how they look.

    cluster                    {"id"}                                   made once
    controller                 {"node"}                                 leased: the election
    brokers/NODE               {"host", "port", "rack"}                 leased: alive
    topics/NAME                {"id", "partitions", "configs"}          partitions: how many
    partitions/TOPIC-ID/INDEX  {"replicas", "leader", "leader_epoch", "isr", "elr",
                                "partition_epoch", "adding", "removing"}
    configs/brokers/NODE       {name: value}                            `default`: all brokers
    configs/groups/GROUP-ID    {name: value}                            the id as in a URL
    acls/DIGEST                {"type", "pattern", "name", "principal", "host",
                                "operation", "permission"}              the digest is of the value
    features                   {name: level}                            those that were set
    directories/NODE           {directory id: path}                     its log directories: where
                               each was at its last start
    producer-ids               {"next"}
    adopted                    {}                                       made once: logs that were
                               there before the store have their topics

Values are compact JSON. A topic's name is safe in a key as it is ([a-zA-Z0-9._-]); its id is 32
hex digits, so that a key never depends on upper and lower case. A key of a kind that is not
known is left alone: a later version may have written it.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote, unquote

from ottla.base.ids import NodeId, PartitionIndex, Uuid
from ottla.security.acl import Acl, Operation, PatternType, Permission, ResourceType

CLUSTER: Final = "cluster"
CONTROLLER: Final = "controller"
PRODUCER_IDS: Final = "producer-ids"
FEATURES: Final = "features"
ADOPTED: Final = "adopted"
BROKERS: Final = "brokers/"
DIRECTORIES: Final = "directories/"
TOPICS: Final = "topics/"
PARTITIONS: Final = "partitions/"
BROKER_CONFIGS: Final = "configs/brokers/"
GROUP_CONFIGS: Final = "configs/groups/"
ACLS: Final = "acls/"
_ALL_BROKERS: Final = "default"


def broker_key(node: NodeId) -> str:
    return f"{BROKERS}{node}"


def directories_key(node: NodeId) -> str:
    return f"{DIRECTORIES}{node}"


def topic_key(name: str) -> str:
    return TOPICS + name


def partitions_prefix(topic_id: Uuid) -> str:
    return f"{PARTITIONS}{topic_id.hex()}/"


def partition_key(topic_id: Uuid, index: int) -> str:
    return f"{PARTITIONS}{topic_id.hex()}/{index}"


def broker_configs_key(resource: str) -> str:
    """`resource` is Kafka's resource name: a node id, or '' for all brokers."""
    return BROKER_CONFIGS + (resource or _ALL_BROKERS)


def group_configs_key(group_id: str) -> str:
    return GROUP_CONFIGS + quote(group_id, safe="")


def acl_key(value: bytes) -> str:
    return ACLS + blake2b(value, digest_size=16).hexdigest()


def broker_of(key: str) -> NodeId:
    return NodeId(int(key.removeprefix(BROKERS)))


def topic_of(key: str) -> str:
    return key.removeprefix(TOPICS)


def partition_of(key: str) -> tuple[Uuid, PartitionIndex]:
    topic_id, _, index = key.removeprefix(PARTITIONS).partition("/")
    return Uuid(bytes.fromhex(topic_id)), PartitionIndex(int(index))


def broker_configs_of(key: str) -> str:
    resource = key.removeprefix(BROKER_CONFIGS)
    return "" if resource == _ALL_BROKERS else resource


def group_configs_of(key: str) -> str:
    return unquote(key.removeprefix(GROUP_CONFIGS))


def acl_value(acl: Acl) -> bytes:
    return value_of(
        {
            "type": acl.resource_type.name,
            "pattern": acl.pattern_type.name,
            "name": acl.name,
            "principal": acl.principal,
            "host": acl.host,
            "operation": acl.operation.name,
            "permission": acl.permission.name,
        }
    )


def acl_of(value: bytes) -> Acl:
    """KeyError or ValueError where it is no entry."""
    content = content_of(value)
    return Acl(
        ResourceType[content["type"]],
        PatternType[content["pattern"]],
        content["name"],
        content["principal"],
        content["host"],
        Operation[content["operation"]],
        Permission[content["permission"]],
    )


def value_of(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def content_of(value: bytes) -> dict[str, Any]:
    """ValueError where it is no JSON object."""
    content = json.loads(str(value, "utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content

"""The versions of each API that Ottla has messages for, and the way to their classes.

The module of a key is loaded when one of its classes is first asked for: a table of versions
costs nothing at start-up. The table and the classes are held together by a test.
"""

from importlib import import_module
from typing import Final, NamedTuple, TypeVar

from ottla.protocol.api_key import ApiKey as ApiKey
from ottla.protocol.message import Request, Response

C = TypeVar("C")


class Api(NamedTuple):
    """The versions that are served (both ends inclusive), and the first flexible one."""

    first: int
    last: int
    flexible: int


NEVER_FLEXIBLE: Final = 32_768

APIS: Final[dict[int, Api]] = {
    ApiKey.PRODUCE: Api(3, 13, flexible=9),
    ApiKey.FETCH: Api(4, 18, flexible=12),
    ApiKey.LIST_OFFSETS: Api(1, 11, flexible=6),
    ApiKey.METADATA: Api(0, 13, flexible=9),
    ApiKey.OFFSET_COMMIT: Api(2, 10, flexible=8),
    ApiKey.OFFSET_FETCH: Api(1, 10, flexible=6),
    ApiKey.FIND_COORDINATOR: Api(0, 6, flexible=3),
    ApiKey.JOIN_GROUP: Api(0, 9, flexible=6),
    ApiKey.HEARTBEAT: Api(0, 4, flexible=4),
    ApiKey.LEAVE_GROUP: Api(0, 5, flexible=4),
    ApiKey.SYNC_GROUP: Api(0, 5, flexible=4),
    ApiKey.DESCRIBE_GROUPS: Api(0, 6, flexible=5),
    ApiKey.LIST_GROUPS: Api(0, 5, flexible=3),
    ApiKey.SASL_HANDSHAKE: Api(0, 1, flexible=NEVER_FLEXIBLE),
    ApiKey.API_VERSIONS: Api(0, 5, flexible=3),
    ApiKey.CREATE_TOPICS: Api(2, 7, flexible=5),
    ApiKey.DELETE_TOPICS: Api(1, 6, flexible=4),
    ApiKey.DELETE_RECORDS: Api(0, 2, flexible=2),
    ApiKey.INIT_PRODUCER_ID: Api(0, 5, flexible=2),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: Api(2, 4, flexible=4),
    ApiKey.ADD_PARTITIONS_TO_TXN: Api(0, 5, flexible=3),
    ApiKey.ADD_OFFSETS_TO_TXN: Api(0, 4, flexible=3),
    ApiKey.END_TXN: Api(0, 5, flexible=3),
    ApiKey.WRITE_TXN_MARKERS: Api(1, 2, flexible=1),
    ApiKey.TXN_OFFSET_COMMIT: Api(0, 6, flexible=3),
    ApiKey.DESCRIBE_ACLS: Api(1, 3, flexible=2),
    ApiKey.CREATE_ACLS: Api(1, 3, flexible=2),
    ApiKey.DELETE_ACLS: Api(1, 3, flexible=2),
    ApiKey.DESCRIBE_CONFIGS: Api(1, 4, flexible=4),
    ApiKey.ALTER_CONFIGS: Api(0, 2, flexible=2),
    ApiKey.ALTER_REPLICA_LOG_DIRS: Api(1, 2, flexible=2),
    ApiKey.DESCRIBE_LOG_DIRS: Api(1, 5, flexible=2),
    ApiKey.SASL_AUTHENTICATE: Api(0, 2, flexible=2),
    ApiKey.CREATE_PARTITIONS: Api(0, 3, flexible=2),
    ApiKey.DELETE_GROUPS: Api(0, 3, flexible=2),
    ApiKey.ELECT_LEADERS: Api(0, 2, flexible=2),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: Api(0, 1, flexible=1),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: Api(0, 1, flexible=0),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: Api(0, 0, flexible=0),
    ApiKey.OFFSET_DELETE: Api(0, 0, flexible=NEVER_FLEXIBLE),
    ApiKey.DESCRIBE_CLIENT_QUOTAS: Api(0, 1, flexible=1),
    ApiKey.ALTER_CLIENT_QUOTAS: Api(0, 1, flexible=1),
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: Api(0, 0, flexible=0),
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: Api(0, 0, flexible=0),
    ApiKey.DESCRIBE_QUORUM: Api(0, 2, flexible=0),
    ApiKey.UPDATE_FEATURES: Api(0, 2, flexible=0),
    ApiKey.DESCRIBE_CLUSTER: Api(0, 2, flexible=0),
    ApiKey.DESCRIBE_PRODUCERS: Api(0, 0, flexible=0),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: Api(0, 1, flexible=0),
    ApiKey.CONSUMER_GROUP_DESCRIBE: Api(0, 1, flexible=0),
    ApiKey.DESCRIBE_TRANSACTIONS: Api(0, 0, flexible=0),
    ApiKey.LIST_TRANSACTIONS: Api(0, 2, flexible=0),
    ApiKey.LIST_CONFIG_RESOURCES: Api(0, 1, flexible=0),
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: Api(0, 0, flexible=0),
}
"""InitProducerId stops at 5: Kafka calls version 6 unstable, and clients use what they see."""


def advertised(api_key: ApiKey) -> tuple[int, int]:
    """The (lowest, highest) version that ApiVersions names.

    Produce says 0 though 3 is the lowest served: librdkafka before 2.11.1 takes a higher floor
    for a broker that cannot compress, and silently does not (KAFKA-18659).
    """
    first, last, _ = APIS[api_key]
    return (0 if api_key is ApiKey.PRODUCE else first), last


def request_class(api_key: int) -> type[Request]:
    return _class(api_key, Request)


def response_class(api_key: int) -> type[Response]:
    return _class(api_key, Response)


def _class(api_key: int, base: type[C]) -> type[C]:
    name = ApiKey(api_key).name.lower()
    module = import_module(f"ottla.protocol.messages.{name}")
    found: type[C] = getattr(module, name.title().replace("_", "") + base.__name__)
    return found

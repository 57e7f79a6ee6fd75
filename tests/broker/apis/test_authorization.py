"""Every API against an authorizer: denied it says so with Kafka's code, allowed it works.

The table has a row for each API: what is asked, the code of the denial, and what must be allowed,
one after another, until nothing is denied. The order is that of the handlers' checks.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.ids import ZERO_UUID
from ottla.broker.context import CloseConnection
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.message import Struct
from ottla.protocol.registry import ApiKey, request_class
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.security.acl import (
    CLUSTER_NAME,
    Acl,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from ottla.security.authorizer import Requester

ON = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}
ADMIN, ALICE = Requester("User:admin", "127.0.0.1"), Requester("User:alice", "127.0.0.1")
TOPIC, GROUP, CLUSTER, TXN = (
    ResourceType.TOPIC,
    ResourceType.GROUP,
    ResourceType.CLUSTER,
    ResourceType.TRANSACTIONAL_ID,
)
NAMES = {TOPIC: "t", GROUP: "g", CLUSTER: CLUSTER_NAME, TXN: "x"}
CODES = {
    TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    TXN: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
DENIALS = frozenset(CODES.values())


class Row(NamedTuple):
    key: ApiKey
    fields: Callable[[Any], dict[str, Any]]
    """Of the request, given the node."""
    needed: list[tuple[ResourceType, Operation]]
    version: int | None = None
    denial: ErrorCode | None = None
    """Where it is another one than of what is needed: something else would have done as well."""


def make(key: ApiKey, cls: str, **fields: Any) -> Any:
    """A struct of the key's module."""
    module = __import__(request_class(key).__module__, fromlist=[cls])
    return getattr(module, cls)(**fields)


def batch() -> memoryview:
    return memoryview(bytearray(build_batch([Record(0, 1, None, b"v")])))


def produce(node: Any, **fields: Any) -> dict[str, Any]:
    data = make(ApiKey.PRODUCE, "PartitionProduceData", index=0, records=batch())
    topic_id = node.image.topics["t"].id
    topic = make(
        ApiKey.PRODUCE, "TopicProduceData", name="t", topic_id=topic_id, partition_data=[data]
    )
    return {"acks": 1, "timeout_ms": 1000, "topic_data": [topic], **fields}


def by_name(node: Any, **fields: Any) -> dict[str, Any]:
    request = produce(node, **fields)
    request["topic_data"][0].topic_id = ZERO_UUID
    return request


def fetch(node: Any) -> dict[str, Any]:
    row = make(ApiKey.FETCH, "FetchPartition", partition=0, fetch_offset=0, partition_max_bytes=99)
    topic_id = node.image.topics["t"].id
    topic = make(ApiKey.FETCH, "FetchTopic", topic_id=topic_id, partitions=[row])
    return {"max_wait_ms": 0, "min_bytes": 0, "topics": [topic]}


def rows_of(key: ApiKey, topic: str, partition: str, field: str, **fields: Any) -> Any:
    """Topic "t" with partition 0, as most requests have them."""
    row = make(key, partition, **fields)
    return make(key, topic, **{"name": "t", field: [row]})


def list_offsets(node: Any) -> dict[str, Any]:
    key = ApiKey.LIST_OFFSETS
    row = {"partition_index": 0, "timestamp": -1}
    topic = rows_of(key, "ListOffsetsTopic", "ListOffsetsPartition", "partitions", **row)
    return {"replica_id": -1, "topics": [topic]}


def metadata(node: Any) -> dict[str, Any]:
    topics = [make(ApiKey.METADATA, "MetadataRequestTopic", name="t")]
    return {"topics": topics, "allow_auto_topic_creation": False}


def metadata_by_id(node: Any) -> dict[str, Any]:
    topic_id = node.image.topics["t"].id
    return {"topics": [make(ApiKey.METADATA, "MetadataRequestTopic", name=None, topic_id=topic_id)]}


def metadata_that_creates(node: Any) -> dict[str, Any]:
    topics = [make(ApiKey.METADATA, "MetadataRequestTopic", name="tnew")]
    return {"topics": topics, "allow_auto_topic_creation": True}


def offset_commit(node: Any) -> dict[str, Any]:
    key = ApiKey.OFFSET_COMMIT
    row = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    topic = rows_of(
        key, "OffsetCommitRequestTopic", "OffsetCommitRequestPartition", "partitions", **row
    )
    return {"group_id": "g", "topics": [topic]}


def offset_fetch(node: Any) -> dict[str, Any]:
    key = ApiKey.OFFSET_FETCH
    topic_id = node.image.topics["t"].id
    topic = make(key, "OffsetFetchRequestTopics", topic_id=topic_id, partition_indexes=[0])
    return {"groups": [make(key, "OffsetFetchRequestGroup", group_id="g", topics=[topic])]}


def offset_fetch_of_one(node: Any) -> dict[str, Any]:
    topic = make(ApiKey.OFFSET_FETCH, "OffsetFetchRequestTopic", name="t", partition_indexes=[0])
    return {"group_id": "g", "topics": [topic]}


def offset_delete(node: Any) -> dict[str, Any]:
    key = ApiKey.OFFSET_DELETE
    topic = rows_of(
        key,
        "OffsetDeleteRequestTopic",
        "OffsetDeleteRequestPartition",
        "partitions",
        partition_index=0,
    )
    return {"group_id": "g", "topics": [topic]}


def join_group(node: Any) -> dict[str, Any]:
    protocol = make(ApiKey.JOIN_GROUP, "JoinGroupRequestProtocol", name="range", metadata=b"")
    return {
        "group_id": "g",
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [protocol],
    }


def sync_group(node: Any) -> dict[str, Any]:
    return {
        "group_id": "g",
        "generation_id": 1,
        "member_id": "m",
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [],
    }


def leave_group(node: Any) -> dict[str, Any]:
    return {"group_id": "g", "members": [make(ApiKey.LEAVE_GROUP, "MemberIdentity", member_id="m")]}


def create_topics(node: Any) -> dict[str, Any]:
    topic = make(
        ApiKey.CREATE_TOPICS,
        "CreatableTopic",
        name="tnew",
        num_partitions=1,
        replication_factor=1,
        assignments=[],
        configs=[],
    )
    return {"topics": [topic], "timeout_ms": 1000, "validate_only": True}


def delete_topics(node: Any) -> dict[str, Any]:
    topic = make(ApiKey.DELETE_TOPICS, "DeleteTopicState", name="t", topic_id=ZERO_UUID)
    return {"topics": [topic], "timeout_ms": 1}


def delete_topics_by_id(node: Any) -> dict[str, Any]:
    topic_id = node.image.topics["t"].id
    topic = make(ApiKey.DELETE_TOPICS, "DeleteTopicState", name=None, topic_id=topic_id)
    return {"topics": [topic], "timeout_ms": 1}


def delete_records(node: Any) -> dict[str, Any]:
    key = ApiKey.DELETE_RECORDS
    row = {"partition_index": 0, "offset": 0}
    topic = rows_of(key, "DeleteRecordsTopic", "DeleteRecordsPartition", "partitions", **row)
    return {"topics": [topic], "timeout_ms": 1000}


def create_partitions(node: Any) -> dict[str, Any]:
    topic = make(
        ApiKey.CREATE_PARTITIONS, "CreatePartitionsTopic", name="t", count=2, assignments=None
    )
    return {"topics": [topic], "timeout_ms": 1000, "validate_only": True}


def epochs(node: Any) -> dict[str, Any]:
    row = make(
        ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderPartition", partition=0, leader_epoch=0
    )
    topic = make(
        ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderTopic", topic="t", partitions=[row]
    )
    return {"replica_id": -2, "topics": [topic]}


def add_partitions(node: Any) -> dict[str, Any]:
    topic = make(ApiKey.ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxnTopic", name="t", partitions=[0])
    return {
        "v3_and_below_transactional_id": "x",
        "v3_and_below_producer_id": 1,
        "v3_and_below_producer_epoch": 0,
        "v3_and_below_topics": [topic],
    }


def add_partitions_as_a_broker(node: Any) -> dict[str, Any]:
    key = ApiKey.ADD_PARTITIONS_TO_TXN
    topic = make(key, "AddPartitionsToTxnTopic", name="t", partitions=[0])
    transaction = make(
        key,
        "AddPartitionsToTxnTransaction",
        transactional_id="x",
        producer_id=1,
        producer_epoch=0,
        topics=[topic],
    )
    return {"transactions": [transaction]}


def txn_offset_commit(node: Any) -> dict[str, Any]:
    key = ApiKey.TXN_OFFSET_COMMIT
    row = make(
        key,
        "TxnOffsetCommitRequestPartition",
        partition_index=0,
        committed_offset=0,
        committed_metadata="",
    )
    topic_id = node.image.topics["t"].id
    topic = make(key, "TxnOffsetCommitRequestTopic", topic_id=topic_id, partitions=[row])
    return {
        "transactional_id": "x",
        "group_id": "g",
        "producer_id": 1,
        "producer_epoch": 0,
        "topics": [topic],
    }


def markers(node: Any) -> dict[str, Any]:
    key = ApiKey.WRITE_TXN_MARKERS
    topic = make(key, "WritableTxnMarkerTopic", name="t", partition_indexes=[0])
    marker = make(
        key,
        "WritableTxnMarker",
        producer_id=1,
        producer_epoch=0,
        transaction_result=False,
        topics=[topic],
        coordinator_epoch=0,
    )
    return {"markers": [marker]}


def acl_filter(node: Any) -> dict[str, Any]:
    return {
        "resource_type_filter": ResourceType.GROUP,
        "resource_name_filter": None,
        "pattern_type_filter": PatternType.ANY,
        "principal_filter": None,
        "host_filter": None,
        "operation": Operation.ANY,
        "permission_type": Permission.ANY,
    }


def create_acls(node: Any) -> dict[str, Any]:
    creation = make(
        ApiKey.CREATE_ACLS,
        "AclCreation",
        resource_type=ResourceType.GROUP,
        resource_name="other",
        principal="User:bob",
        host="*",
        operation=Operation.READ,
        permission_type=Permission.ALLOW,
    )
    return {"creations": [creation]}


def delete_acls(node: Any) -> dict[str, Any]:
    return {"filters": [make(ApiKey.DELETE_ACLS, "DeleteAclsFilter", **acl_filter(node))]}


def described(kind: int, name: str) -> Callable[[Any], dict[str, Any]]:
    def fields(node: Any) -> dict[str, Any]:
        resource = make(
            ApiKey.DESCRIBE_CONFIGS,
            "DescribeConfigsResource",
            resource_type=kind,
            resource_name=name,
            configuration_keys=None,
        )
        return {"resources": [resource]}

    return fields


def altered(kind: int, name: str) -> Callable[[Any], dict[str, Any]]:
    def fields(node: Any) -> dict[str, Any]:
        resource = make(
            ApiKey.ALTER_CONFIGS,
            "AlterConfigsResource",
            resource_type=kind,
            resource_name=name,
            configs=[],
        )
        return {"resources": [resource], "validate_only": True}

    return fields


def incrementally(kind: int, name: str) -> Callable[[Any], dict[str, Any]]:
    def fields(node: Any) -> dict[str, Any]:
        resource = make(
            ApiKey.INCREMENTAL_ALTER_CONFIGS,
            "AlterConfigsResource",
            resource_type=kind,
            resource_name=name,
            configs=[],
        )
        return {"resources": [resource], "validate_only": True}

    return fields


def log_dirs(node: Any) -> dict[str, Any]:
    key = ApiKey.ALTER_REPLICA_LOG_DIRS
    topic = make(key, "AlterReplicaLogDirTopic", name="t", partitions=[0])
    path = node.services.settings.log_dirs[0]
    return {"dirs": [make(key, "AlterReplicaLogDir", path=path, topics=[topic])]}


def elect(node: Any) -> dict[str, Any]:
    topic = make(ApiKey.ELECT_LEADERS, "TopicPartitions", topic="t", partitions=[0])
    return {"topic_partitions": [topic]}


def reassign(node: Any) -> dict[str, Any]:
    key = ApiKey.ALTER_PARTITION_REASSIGNMENTS
    row = {"partition_index": 0, "replicas": [1]}
    return {
        "topics": [rows_of(key, "ReassignableTopic", "ReassignablePartition", "partitions", **row)]
    }


def producers(node: Any) -> dict[str, Any]:
    topic = make(ApiKey.DESCRIBE_PRODUCERS, "TopicRequest", name="t", partition_indexes=[0])
    return {"topics": [topic]}


def consumer_heartbeat(node: Any) -> dict[str, Any]:
    return {
        "group_id": "g",
        "member_id": "A" * 22,
        "member_epoch": 0,
        "rebalance_timeout_ms": 1000,
        "subscribed_topic_names": ["t"],
        "topic_partitions": [],
    }


def topic_pages(node: Any) -> dict[str, Any]:
    return {"topics": [make(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "TopicRequest", name="t")]}


def plain(**fields: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda node: fields


idempotent = plain(transactional_id=None, transaction_timeout_ms=0)
OP = Operation
K = ApiKey
TABLE = [
    Row(K.PRODUCE, produce, [(TOPIC, OP.WRITE)]),
    Row(K.PRODUCE, by_name, [(TOPIC, OP.WRITE)], 9),
    Row(
        K.PRODUCE,
        lambda node: produce(node, transactional_id="x"),
        [(TXN, OP.WRITE), (TOPIC, OP.WRITE)],
    ),
    Row(K.FETCH, fetch, [(TOPIC, OP.READ)]),
    Row(K.LIST_OFFSETS, list_offsets, [(TOPIC, OP.DESCRIBE)]),
    Row(K.METADATA, metadata, [(TOPIC, OP.DESCRIBE)]),
    Row(K.METADATA, metadata_by_id, [(TOPIC, OP.DESCRIBE)]),
    Row(K.METADATA, metadata_that_creates, [(TOPIC, OP.DESCRIBE), (TOPIC, OP.CREATE)]),
    Row(K.OFFSET_COMMIT, offset_commit, [(GROUP, OP.READ), (TOPIC, OP.READ)], 9),
    Row(K.OFFSET_FETCH, offset_fetch, [(GROUP, OP.DESCRIBE), (TOPIC, OP.DESCRIBE)]),
    Row(K.OFFSET_FETCH, offset_fetch_of_one, [(GROUP, OP.DESCRIBE), (TOPIC, OP.DESCRIBE)], 7),
    Row(K.FIND_COORDINATOR, plain(key="g"), [(GROUP, OP.DESCRIBE)], 3),
    Row(K.FIND_COORDINATOR, plain(coordinator_keys=["x"], key_type=1), [(TXN, OP.DESCRIBE)]),
    Row(K.JOIN_GROUP, join_group, [(GROUP, OP.READ)]),
    Row(K.SYNC_GROUP, sync_group, [(GROUP, OP.READ)]),
    Row(
        K.HEARTBEAT,
        plain(group_id="g", generation_id=1, member_id="m"),
        [(GROUP, OP.READ)],
    ),
    Row(K.LEAVE_GROUP, leave_group, [(GROUP, OP.READ)]),
    Row(K.DESCRIBE_GROUPS, plain(groups=["g"]), [(GROUP, OP.DESCRIBE)]),
    Row(K.DELETE_GROUPS, plain(groups_names=["g"]), [(GROUP, OP.DELETE)]),
    Row(K.OFFSET_DELETE, offset_delete, [(GROUP, OP.DELETE), (TOPIC, OP.READ)]),
    Row(K.CREATE_TOPICS, create_topics, [(TOPIC, OP.CREATE), (TOPIC, OP.DESCRIBE_CONFIGS)]),
    Row(K.CREATE_TOPICS, create_topics, [(CLUSTER, OP.CREATE)], 2, CODES[TOPIC]),
    Row(K.DELETE_TOPICS, delete_topics, [(TOPIC, OP.DELETE)]),
    Row(K.DELETE_TOPICS, delete_topics_by_id, [(TOPIC, OP.DELETE)]),
    Row(K.DELETE_TOPICS, delete_topics_by_id, [(CLUSTER, OP.DELETE)], None, CODES[TOPIC]),
    Row(K.DELETE_RECORDS, delete_records, [(TOPIC, OP.DELETE)]),
    Row(K.CREATE_PARTITIONS, create_partitions, [(TOPIC, OP.ALTER)]),
    Row(K.INIT_PRODUCER_ID, idempotent, [(CLUSTER, OP.IDEMPOTENT_WRITE)]),
    Row(K.INIT_PRODUCER_ID, idempotent, [(TOPIC, OP.WRITE)], None, CODES[CLUSTER]),
    Row(
        K.INIT_PRODUCER_ID,
        plain(transactional_id="x", transaction_timeout_ms=1000),
        [(TXN, OP.WRITE)],
    ),
    Row(K.OFFSET_FOR_LEADER_EPOCH, epochs, [(TOPIC, OP.DESCRIBE)]),
    Row(K.OFFSET_FOR_LEADER_EPOCH, epochs, [(CLUSTER, OP.CLUSTER_ACTION)], None, CODES[TOPIC]),
    Row(K.ADD_PARTITIONS_TO_TXN, add_partitions, [(TXN, OP.WRITE), (TOPIC, OP.WRITE)], 3),
    Row(K.ADD_PARTITIONS_TO_TXN, add_partitions_as_a_broker, [(CLUSTER, OP.CLUSTER_ACTION)]),
    Row(
        K.ADD_OFFSETS_TO_TXN,
        plain(transactional_id="x", producer_id=1, producer_epoch=0, group_id="g"),
        [(TXN, OP.WRITE), (GROUP, OP.READ)],
    ),
    Row(
        K.END_TXN,
        plain(transactional_id="x", producer_id=1, producer_epoch=0, committed=True),
        [(TXN, OP.WRITE)],
    ),
    Row(
        K.TXN_OFFSET_COMMIT,
        txn_offset_commit,
        [(TXN, OP.WRITE), (GROUP, OP.READ), (TOPIC, OP.READ)],
    ),
    Row(K.WRITE_TXN_MARKERS, markers, [(CLUSTER, OP.CLUSTER_ACTION)]),
    Row(K.WRITE_TXN_MARKERS, markers, [(CLUSTER, OP.ALTER)]),
    Row(K.DESCRIBE_ACLS, acl_filter, [(CLUSTER, OP.DESCRIBE)]),
    Row(K.CREATE_ACLS, create_acls, [(CLUSTER, OP.ALTER)]),
    Row(K.DELETE_ACLS, delete_acls, [(CLUSTER, OP.ALTER)]),
    Row(K.DESCRIBE_CONFIGS, described(2, "t"), [(TOPIC, OP.DESCRIBE_CONFIGS)]),
    Row(K.DESCRIBE_CONFIGS, described(4, "1"), [(CLUSTER, OP.DESCRIBE_CONFIGS)]),
    Row(K.DESCRIBE_CONFIGS, described(32, "g"), [(GROUP, OP.DESCRIBE_CONFIGS)]),
    Row(K.ALTER_CONFIGS, altered(2, "t"), [(TOPIC, OP.ALTER_CONFIGS)]),
    Row(K.ALTER_CONFIGS, altered(4, "1"), [(CLUSTER, OP.ALTER_CONFIGS)]),
    Row(K.INCREMENTAL_ALTER_CONFIGS, incrementally(2, "t"), [(TOPIC, OP.ALTER_CONFIGS)]),
    Row(K.INCREMENTAL_ALTER_CONFIGS, incrementally(32, "g"), [(GROUP, OP.ALTER_CONFIGS)]),
    Row(K.LIST_CONFIG_RESOURCES, plain(resource_types=[]), [(CLUSTER, OP.DESCRIBE_CONFIGS)]),
    Row(K.ALTER_REPLICA_LOG_DIRS, log_dirs, [(CLUSTER, OP.ALTER)]),
    Row(K.DESCRIBE_LOG_DIRS, plain(topics=None), [(CLUSTER, OP.DESCRIBE)]),
    Row(K.ELECT_LEADERS, elect, [(CLUSTER, OP.ALTER)]),
    Row(K.ELECT_LEADERS, elect, [(CLUSTER, OP.ALTER)], 0),
    Row(K.ALTER_PARTITION_REASSIGNMENTS, reassign, [(CLUSTER, OP.ALTER)]),
    Row(K.LIST_PARTITION_REASSIGNMENTS, plain(topics=None), [(CLUSTER, OP.DESCRIBE)]),
    Row(K.DESCRIBE_QUORUM, plain(topics=[]), [(CLUSTER, OP.DESCRIBE)]),
    Row(K.UPDATE_FEATURES, plain(feature_updates=[]), [(CLUSTER, OP.ALTER)]),
    Row(K.DESCRIBE_PRODUCERS, producers, [(TOPIC, OP.READ)]),
    Row(K.DESCRIBE_TRANSACTIONS, plain(transactional_ids=["x"]), [(TXN, OP.DESCRIBE)]),
    Row(K.CONSUMER_GROUP_HEARTBEAT, consumer_heartbeat, [(GROUP, OP.READ), (TOPIC, OP.DESCRIBE)]),
    Row(
        K.CONSUMER_GROUP_DESCRIBE,
        plain(group_ids=["g"], include_authorized_operations=False),
        [(GROUP, OP.DESCRIBE)],
    ),
    Row(K.DESCRIBE_TOPIC_PARTITIONS, topic_pages, [(TOPIC, OP.DESCRIBE)]),
]
LEFT_OUT = {
    ApiKey.API_VERSIONS: "open to all",
    ApiKey.LIST_GROUPS: "leaves out: test_what_is_listed",
    ApiKey.LIST_TRANSACTIONS: "leaves out: test_what_is_listed",
    ApiKey.DESCRIBE_CLUSTER: "open to all, but for the operations: test_operations_that_are_told",
}


def codes_in(message: Any) -> Iterator[int]:
    """Every error code that a response holds, at whatever depth."""
    if isinstance(message, list):
        for each in message:
            yield from codes_in(each)
    elif isinstance(message, Struct):
        for field in message.__fields__:
            value = getattr(message, field.name)
            if field.name.endswith("error_code"):
                yield value
            else:
                yield from codes_in(value)


def denials(response: Any) -> set[int]:
    return DENIALS.intersection(codes_in(response))


async def allow(node: Any, kind: ResourceType, operation: Operation, name: str = "") -> None:
    """By a prefix, where there is one: new topics begin like the old one."""
    pattern = PatternType.PREFIXED if kind is TOPIC else PatternType.LITERAL
    name = name or NAMES[kind]
    acl = Acl(kind, pattern, name, ALICE.principal, "*", operation, Permission.ALLOW)
    assert await node.services.controller.acls.create([acl]) == [None]


async def prepared(node: Any) -> None:
    """The coordinators' topics, "t", and a group that committed an offset of it are there."""
    node.requester = ADMIN
    await node.topic("t")
    await node.services.groups.node_of("g")
    await node.services.transactions.node_of("x")
    await node.ask(request_class(ApiKey.OFFSET_COMMIT)(**offset_commit(node)), 9)
    node.requester = ALICE


def title(row: Row) -> str:
    needed = "-".join(operation.name for _, operation in row.needed)
    return f"{row.key.name}-{needed}"


@pytest.mark.parametrize("row", TABLE, ids=title)
def test_denied_until_all_that_is_needed_is_allowed(on_node: Any, row: Row) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        for kind, operation in row.needed:
            request = request_class(row.key)(**row.fields(node))
            response = await node.ask(request, row.version)
            assert denials(response) == {row.denial or CODES[kind]}
            await allow(node, kind, operation)
        assert not denials(await node.ask(request_class(row.key)(**row.fields(node)), row.version))

    on_node(test, ON)


@pytest.mark.parametrize("row", TABLE, ids=title)
def test_a_super_user_is_denied_nothing(on_node: Any, row: Row) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        assert not denials(await node.ask(request_class(row.key)(**row.fields(node)), row.version))

    on_node(test, ON)


def test_every_api_is_in_the_table() -> None:
    assert {row.key for row in TABLE} | set(LEFT_OUT) == set(ENDPOINTS)


def test_a_denied_produce_that_wants_no_answer_closes_the_connection(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        with pytest.raises(CloseConnection):
            await node.ask(request_class(ApiKey.PRODUCE)(**produce(node, acks=0)))

    on_node(test, ON)


def test_what_is_listed(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.topic("hidden")
        for name, group in (("t", "g"), ("hidden", "h")):
            fields = offset_commit(node)
            fields["group_id"], fields["topics"][0].name = group, name
            await node.ask(request_class(ApiKey.OFFSET_COMMIT)(**fields), 9)
        for name in ("x", "y"):
            fields = {"transactional_id": name, "transaction_timeout_ms": 1000}
            await node.ask(request_class(ApiKey.INIT_PRODUCER_ID)(**fields))
        everything = [["__consumer_offsets", "__transaction_state", "hidden", "t"]] * 2
        assert await seen(node) == [*everything, ["g", "h"], ["x", "y"]]
        node.requester = ALICE
        assert await seen(node) == [[], [], [], []]
        for kind in (TOPIC, GROUP, TXN):
            await allow(node, kind, Operation.DESCRIBE)
        assert await seen(node) == [["t"], ["t"], ["g"], ["x"]]
        await allow(node, CLUSTER, Operation.DESCRIBE)
        assert await seen(node) == [["t"], ["t"], ["g", "h"], ["x"]]

    on_node(test, ON)


async def seen(node: Any) -> list[list[str]]:
    topics = await node.ask(request_class(ApiKey.METADATA)(topics=None))
    pages = await node.ask(request_class(ApiKey.DESCRIBE_TOPIC_PARTITIONS)(topics=[]))
    groups = await node.ask(request_class(ApiKey.LIST_GROUPS)())
    transactions = await node.ask(
        request_class(ApiKey.LIST_TRANSACTIONS)(state_filters=[], producer_id_filters=[])
    )
    lists = [
        [each.name for each in topics.topics],
        [each.name for each in pages.topics],
        [each.group_id for each in groups.groups],
        [each.transactional_id for each in transactions.transaction_states],
    ]
    return [sorted(each) for each in lists]


def test_offsets_of_all_topics_are_those_that_may_be_seen(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.topic("hidden")
        for name in ("t", "hidden"):
            fields = offset_commit(node)
            fields["topics"][0].name = name
            await node.ask(request_class(ApiKey.OFFSET_COMMIT)(**fields), 9)
        node.requester = ALICE
        await allow(node, GROUP, Operation.DESCRIBE)
        await allow(node, TOPIC, Operation.DESCRIBE)
        old = await node.ask(request_class(ApiKey.OFFSET_FETCH)(group_id="g", topics=None), 7)
        assert [each.name for each in old.topics] == ["t"]
        group = make(ApiKey.OFFSET_FETCH, "OffsetFetchRequestGroup", group_id="g", topics=None)
        new = await node.ask(request_class(ApiKey.OFFSET_FETCH)(groups=[group]), 9)
        assert [each.name for each in new.groups[0].topics] == ["t"]

    on_node(test, ON)


def test_operations_that_are_told(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        cluster = request_class(ApiKey.DESCRIBE_CLUSTER)(include_cluster_authorized_operations=True)
        assert (await node.ask(cluster)).cluster_authorized_operations == 0
        await allow(node, CLUSTER, Operation.DESCRIBE)
        await allow(node, TOPIC, Operation.READ)
        await allow(node, GROUP, Operation.ALL)
        told = (await node.ask(cluster)).cluster_authorized_operations
        assert told == 1 << Operation.DESCRIBE
        asked = request_class(ApiKey.METADATA)(
            **metadata(node), include_topic_authorized_operations=True
        )
        (topic,) = (await node.ask(asked)).topics
        assert topic.topic_authorized_operations == 1 << Operation.READ | 1 << Operation.DESCRIBE
        groups = request_class(ApiKey.DESCRIBE_GROUPS)(
            groups=["g"], include_authorized_operations=True
        )
        (group,) = (await node.ask(groups, 5)).groups
        assert group.authorized_operations == 3400

    on_node(test, ON)


def test_a_group_that_reads_what_may_not_be_seen(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.ask(request_class(ApiKey.CONSUMER_GROUP_HEARTBEAT)(**consumer_heartbeat(node)))
        node.requester = ALICE
        await allow(node, GROUP, Operation.DESCRIBE)
        asked = request_class(ApiKey.CONSUMER_GROUP_DESCRIBE)(
            group_ids=["g"], include_authorized_operations=False
        )
        (group,) = (await node.ask(asked)).groups
        assert group.error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert not group.members
        await allow(node, TOPIC, Operation.DESCRIBE)
        (group,) = (await node.ask(asked)).groups
        assert not group.error_code
        assert group.members

    on_node(test, ON)


def test_a_topic_that_may_not_be_described_is_not_made_by_asking(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        await allow(node, CLUSTER, Operation.CREATE)
        asked = request_class(ApiKey.METADATA)(**metadata_that_creates(node))
        assert denials(await node.ask(asked)) == {CODES[TOPIC]}
        assert "tnew" not in node.image.topics
        await allow(node, TOPIC, Operation.DESCRIBE)
        assert not denials(await node.ask(asked))
        assert "tnew" in node.image.topics

    on_node(test, ON)


def test_a_client_that_adds_partitions_it_may_not_use(on_node: Any) -> None:
    """They are refused, those that it may use are not attempted, and the transaction has none."""

    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.topic("hidden")
        node.requester = ALICE
        await allow(node, TXN, Operation.WRITE)
        await allow(node, TOPIC, Operation.WRITE)
        asked = {"transactional_id": "x", "transaction_timeout_ms": 10_000}
        producer = await node.ask(request_class(ApiKey.INIT_PRODUCER_ID)(**asked))
        fields = add_partitions(node)
        fields["v3_and_below_producer_id"] = producer.producer_id
        fields["v3_and_below_producer_epoch"] = producer.producer_epoch
        for other in ("hidden", "nowhere", "__consumer_offsets"):
            fields["v3_and_below_topics"] = [
                make(
                    ApiKey.ADD_PARTITIONS_TO_TXN,
                    "AddPartitionsToTxnTopic",
                    name=name,
                    partitions=[0],
                )
                for name in ("t", other)
            ]
            answer = await node.ask(request_class(ApiKey.ADD_PARTITIONS_TO_TXN)(**fields), 3)
            codes = [
                row.results_by_partition[0].partition_error_code
                for row in answer.results_by_topic_v3_and_below
            ]
            assert codes == [
                ErrorCode.OPERATION_NOT_ATTEMPTED,
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            ]
        node.requester = ADMIN
        described = request_class(ApiKey.DESCRIBE_TRANSACTIONS)(transactional_ids=["x"])
        (row,) = (await node.ask(described)).transaction_states
        assert (row.transaction_state, row.topics) == ("Empty", [])

    on_node(test, ON)


def test_topics_of_a_transaction_that_may_not_be_seen(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.topic("hidden")
        asked = {"transactional_id": "x", "transaction_timeout_ms": 10_000}
        producer = await node.ask(request_class(ApiKey.INIT_PRODUCER_ID)(**asked))
        fields = add_partitions(node)
        fields["v3_and_below_producer_id"] = producer.producer_id
        fields["v3_and_below_producer_epoch"] = producer.producer_epoch
        for name in ("t", "hidden"):
            fields["v3_and_below_topics"][0].name = name
            answer = await node.ask(request_class(ApiKey.ADD_PARTITIONS_TO_TXN)(**fields), 3)
            assert set(codes_in(answer)) == {0}
        node.requester = ALICE
        await allow(node, TXN, Operation.DESCRIBE)
        await allow(node, TOPIC, Operation.DESCRIBE)
        described = request_class(ApiKey.DESCRIBE_TRANSACTIONS)(transactional_ids=["x"])
        (row,) = (await node.ask(described)).transaction_states
        assert [each.topic for each in row.topics] == ["t"]
        node.requester = ADMIN
        (row,) = (await node.ask(described)).transaction_states
        assert sorted(each.topic for each in row.topics) == ["hidden", "t"]

    on_node(test, ON)


def test_an_expression_matches_what_its_member_may_see(on_node: Any) -> None:
    async def test(node: Any) -> None:
        await prepared(node)
        node.requester = ADMIN
        await node.topic("hidden")
        node.requester = ALICE
        await allow(node, GROUP, Operation.READ)
        await allow(node, TOPIC, Operation.DESCRIBE)
        fields = consumer_heartbeat(node)
        fields |= {"subscribed_topic_names": None, "subscribed_topic_regex": "t|hidden"}
        cls = request_class(ApiKey.CONSUMER_GROUP_HEARTBEAT)
        epoch, topics = 0, []
        while not topics:
            answer = await node.ask(cls(**{**fields, "member_epoch": epoch}))
            assert not answer.error_code
            epoch = answer.member_epoch
            if answer.assignment is not None:
                topics = answer.assignment.topic_partitions
            await asyncio.sleep(0)
        assert [each.topic_id for each in topics] == [node.image.topics["t"].id]

    on_node(test, ON)


def test_entries_count_from_the_next_start_on(on_node: Any) -> None:
    async def first(node: Any) -> None:
        await prepared(node)
        await allow(node, TOPIC, Operation.DESCRIBE)

    async def second(node: Any) -> None:
        node.requester = ALICE
        assert not denials(await node.ask(request_class(ApiKey.METADATA)(**metadata(node))))
        assert (
            denials(await node.ask(request_class(ApiKey.LIST_OFFSETS)(**list_offsets(node))))
            == set()
        )
        assert denials(await node.ask(request_class(ApiKey.DELETE_TOPICS)(**delete_topics(node))))

    on_node(first, ON)
    on_node(second, ON)

"""An admin of an old broker: each call works there, or says that the broker is too old.

The broker is a script that says which versions it has, and answers in those that it is asked in.
The ranges are those that Apache Kafka 2.1 had for clients.
"""

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.admin import Admin
from ottla.client.errors import ClientError, RefusedError
from ottla.client.rows import (
    Acl,
    AclFilter,
    NewScramCredential,
    NewTopic,
    Operation,
    PatternType,
    Permission,
    ProducerState,
    Resource,
    ResourceType,
)
from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages import alter_configs as alter
from ottla.protocol.messages import create_acls, delete_acls, describe_acls, describe_groups
from ottla.protocol.messages import describe_configs as configs
from ottla.protocol.messages import describe_log_dirs as dirs
from ottla.protocol.messages import list_groups as listing
from ottla.protocol.messages import offset_commit as commits
from ottla.protocol.messages import offset_fetch as fetches
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from ottla.protocol.messages.create_topics import CreatableTopicResult, CreateTopicsResponse
from ottla.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from ottla.protocol.messages.delete_topics import DeletableTopicResult, DeleteTopicsResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.leave_group import LeaveGroupResponse
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.metadata import MetadataResponse
from tests.client.test_admin_faults import records_gone
from tests.client.test_cluster import broker_row, topic_row
from tests.rpc.conftest import PORT

KAFKA_2_1 = {
    ApiKey.LIST_OFFSETS: (0, 4),
    ApiKey.METADATA: (0, 7),
    ApiKey.OFFSET_COMMIT: (0, 6),
    ApiKey.OFFSET_FETCH: (0, 5),
    ApiKey.FIND_COORDINATOR: (0, 2),
    ApiKey.LEAVE_GROUP: (0, 2),
    ApiKey.DESCRIBE_GROUPS: (0, 2),
    ApiKey.LIST_GROUPS: (0, 2),
    ApiKey.API_VERSIONS: (0, 2),
    ApiKey.CREATE_TOPICS: (0, 3),
    ApiKey.DELETE_TOPICS: (0, 3),
    ApiKey.DELETE_RECORDS: (0, 1),
    ApiKey.INIT_PRODUCER_ID: (0, 1),
    ApiKey.WRITE_TXN_MARKERS: (0, 0),
    ApiKey.DESCRIBE_ACLS: (0, 1),
    ApiKey.CREATE_ACLS: (0, 1),
    ApiKey.DELETE_ACLS: (0, 1),
    ApiKey.DESCRIBE_CONFIGS: (0, 2),
    ApiKey.ALTER_CONFIGS: (0, 1),
    ApiKey.ALTER_REPLICA_LOG_DIRS: (0, 1),
    ApiKey.DESCRIBE_LOG_DIRS: (0, 1),
    ApiKey.CREATE_PARTITIONS: (0, 1),
    ApiKey.DELETE_GROUPS: (0, 1),
}
T0 = TopicPartition("t", 0)
ACL = Acl(
    ResourceType.TOPIC,
    PatternType.LITERAL,
    "t",
    "User:a",
    "*",
    Operation.READ,
    Permission.ALLOW,
)


class OldBroker:
    """Kafka 2.1, as far as an admin asks it. A topic `t` whose `retention.ms` is set."""

    def __init__(self, stage, *, is_sensitive=False):
        self.configs = [("retention.ms", "77", 1, is_sensitive), ("segment.ms", "9", 5, False)]
        """Name, value, source, and whether it is a secret."""
        self.asked = {}
        """Version and request, the last one of each API."""
        stage.listen(self._answer)

    def _answer(self, header, request):
        if header.api_key == ApiKey.API_VERSIONS:
            rows = [
                ApiVersion(api_key=key, min_version=low, max_version=high)
                for key, (low, high) in KAFKA_2_1.items()
            ]
            too_new = ErrorCode.UNSUPPORTED_VERSION if header.api_version > 2 else 0
            return ApiVersionsResponse(error_code=too_new, api_keys=[] if too_new else rows)
        low, high = KAFKA_2_1[ApiKey(header.api_key)]
        assert low <= header.api_version <= high
        self.asked[ApiKey(header.api_key)] = (header.api_version, request)
        return getattr(self, ApiKey(header.api_key).name.lower())(request)

    def metadata(self, request):
        return MetadataResponse(
            brokers=[broker_row()], controller_id=1, topics=[topic_row("t", 1)], cluster_id="c"
        )

    def find_coordinator(self, request):
        return FindCoordinatorResponse(node_id=1, host="broker", port=PORT)

    def create_topics(self, request):
        rows = [CreatableTopicResult(name=row.name) for row in request.topics]
        return CreateTopicsResponse(topics=rows)

    def delete_topics(self, request):
        rows = [DeletableTopicResult(name=name) for name in request.topic_names]
        return DeleteTopicsResponse(responses=rows)

    def create_partitions(self, request):
        rows = [CreatePartitionsTopicResult(name=row.name) for row in request.topics]
        return CreatePartitionsResponse(results=rows)

    def delete_records(self, request):
        return records_gone(request)

    def list_offsets(self, request):
        row = ListOffsetsPartitionResponse(partition_index=0, offset=7, timestamp=-1)
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name="t", partitions=[row])])

    def describe_configs(self, request):
        rows = [
            configs.DescribeConfigsResourceResult(
                name=name, value=value, read_only=False, config_source=source, is_sensitive=secret
            )
            for name, value, source, secret in self.configs
        ]
        result = configs.DescribeConfigsResult(resource_type=2, resource_name="t", configs=rows)
        return configs.DescribeConfigsResponse(results=[result])

    def alter_configs(self, request):
        row = alter.AlterConfigsResourceResponse(resource_type=2, resource_name="t")
        return alter.AlterConfigsResponse(responses=[row])

    def describe_log_dirs(self, request):
        row = dirs.DescribeLogDirsPartition(
            partition_index=0, partition_size=5, offset_lag=0, is_future_key=False
        )
        topic = dirs.DescribeLogDirsTopic(name="t", partitions=[row])
        found = dirs.DescribeLogDirsResult(log_dir="/d", topics=[topic])
        return dirs.DescribeLogDirsResponse(results=[found])

    def alter_replica_log_dirs(self, request):
        row = AlterReplicaLogDirPartitionResult(partition_index=0, error_code=0)
        topic = AlterReplicaLogDirTopicResult(topic_name="t", partitions=[row])
        return AlterReplicaLogDirsResponse(results=[topic])

    def list_groups(self, request):
        row = listing.ListedGroup(group_id="g", protocol_type="consumer")
        return listing.ListGroupsResponse(groups=[row])

    def describe_groups(self, request):
        rows = [
            describe_groups.DescribedGroup(
                group_id=name,
                group_state="Empty" if name == "g" else "Dead",
                protocol_type="consumer",
            )
            for name in request.groups
        ]
        return describe_groups.DescribeGroupsResponse(groups=rows)

    def delete_groups(self, request):
        rows = [DeletableGroupResult(group_id=name) for name in request.groups_names]
        return DeleteGroupsResponse(results=rows)

    def leave_group(self, request):
        known = request.member_id == "m"
        return LeaveGroupResponse(error_code=0 if known else ErrorCode.UNKNOWN_MEMBER_ID)

    def offset_fetch(self, request):
        row = fetches.OffsetFetchResponsePartition(
            partition_index=0, committed_offset=3, metadata=request.group_id
        )
        topic = fetches.OffsetFetchResponseTopic(name="t", partitions=[row])
        return fetches.OffsetFetchResponse(topics=[topic])

    def offset_commit(self, request):
        row = commits.OffsetCommitResponsePartition(partition_index=0)
        topic = commits.OffsetCommitResponseTopic(name="t", partitions=[row])
        return commits.OffsetCommitResponse(topics=[topic])

    def describe_acls(self, request):
        row = describe_acls.AclDescription(
            principal="User:a", host="*", operation=Operation.READ, permission_type=99
        )
        found = describe_acls.DescribeAclsResource(resource_type=2, resource_name="t", acls=[row])
        return describe_acls.DescribeAclsResponse(resources=[found])

    def create_acls(self, request):
        return create_acls.CreateAclsResponse(results=[create_acls.AclCreationResult()])

    def delete_acls(self, request):
        return delete_acls.DeleteAclsResponse(
            filter_results=[delete_acls.DeleteAclsFilterResult(matching_acls=[])]
        )

    def init_producer_id(self, request):
        return InitProducerIdResponse(producer_id=5, producer_epoch=2)


def played(stage, script):
    async def whole():
        async with Admin(world=stage.world, bootstrap_servers=f"broker:{PORT}") as admin:
            await script(admin)

    stage.play(whole)


async def too_old(call, told=None):
    with pytest.raises(RefusedError, match=told) as found:
        await call
    assert found.value.code is ErrorCode.UNSUPPORTED_VERSION


def test_topics_and_records_on_kafka_2_1(stage):
    broker = OldBroker(stage)

    async def script(admin):
        (made,) = await admin.create_topics(NewTopic("t", 1, 1))
        assert (made.name, made.num_partitions) == ("t", -1)
        await admin.create_topics(NewTopic("t", replica_assignment={0: [1]}))
        await too_old(admin.create_topics(NewTopic("t")), "needs num_partitions")
        await admin.delete_topics("t", "u")
        assert broker.asked[ApiKey.DELETE_TOPICS][1].topic_names == ["t", "u"]
        await admin.create_partitions({"t": 3})
        assert await admin.list_topics() == ["t"]
        assert len((await admin.describe_topics("t"))["t"]) == 1
        assert await admin.delete_records({T0: 4}) == {T0: 4}
        assert (await admin.list_offsets({T0: -1}))[T0].offset == 7
        await too_old(admin.list_offsets({T0: -3}), "does not know the time -3")

    played(stage, script)


def test_configs_on_kafka_2_1_are_read_and_replaced(stage):
    broker = OldBroker(stage)

    async def script(admin):
        await admin.alter_configs(Resource.TOPIC, "t", {"segment.ms": "5"})
        _, request = broker.asked[ApiKey.ALTER_CONFIGS]
        (row,) = request.resources
        assert {each.name: each.value for each in row.configs} == {
            "retention.ms": "77",
            "segment.ms": "5",
        }
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": None}, validate_only=True)
        _, request = broker.asked[ApiKey.ALTER_CONFIGS]
        assert request.resources[0].configs == [] and request.validate_only
        await too_old(
            admin.alter_configs(Resource.TOPIC, "t", append={"cleanup.policy": "compact"})
        )
        await too_old(admin.list_config_resources())

    played(stage, script)


@pytest.mark.parametrize(("name", "kept"), [("1", "own"), ("", "of.all")])
def test_what_an_old_broker_has_of_its_own_and_what_all_have_are_two_things(stage, name, kept):
    broker = OldBroker(stage)
    broker.configs = [("own", "1", 2, False), ("of.all", "2", 3, False), ("file", "3", 4, False)]

    async def script(admin):
        await admin.alter_configs(Resource.BROKER, name, {"x": "5"})
        _, request = broker.asked[ApiKey.ALTER_CONFIGS]
        assert {each.name for each in request.resources[0].configs} == {kept, "x"}

    played(stage, script)


def test_configs_whose_source_nobody_knows_are_not_replaced(stage):
    broker = OldBroker(stage)

    async def script(admin):
        await too_old(admin.alter_configs(Resource.GROUP, "g", {"x": "5"}))
        assert ApiKey.ALTER_CONFIGS not in broker.asked

    played(stage, script)


def test_a_secret_that_an_old_broker_would_lose_is_not_lost(stage):
    broker = OldBroker(stage, is_sensitive=True)

    async def script(admin):
        with pytest.raises(ClientError, match=r"t: the broker would lose retention.ms"):
            await admin.alter_configs(Resource.TOPIC, "t", {"segment.ms": "5"})
        assert ApiKey.ALTER_CONFIGS not in broker.asked
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "7"})

    played(stage, script)


def test_groups_on_kafka_2_1(stage):
    broker = OldBroker(stage)

    async def script(admin):
        assert [(row.group_id, row.state) for row in await admin.list_groups()] == [("g", "")]
        await too_old(admin.list_groups(states=["Stable"]), "states_filter: not in this version")
        await too_old(admin.list_groups(types=["classic"]), "types_filter: not in this version")
        assert (await admin.describe_groups("g"))["g"].state == "Empty"
        with pytest.raises(KafkaError, match=r"^h: ") as told:
            await admin.describe_groups("g", "h")
        assert told.value.code is ErrorCode.GROUP_ID_NOT_FOUND
        await admin.delete_groups("g", "h")
        await admin.remove_group_members("g", member_ids=["m"])
        with pytest.raises(RefusedError) as told:
            await admin.remove_group_members("g", member_ids=["m", "n"], instance_ids=["i"])
        assert {name: error.code for name, error in told.value.errors.items()} == {
            "n": ErrorCode.UNKNOWN_MEMBER_ID,
            "i": ErrorCode.UNSUPPORTED_VERSION,
        }
        places = await admin.list_group_offsets({"g": None, "h": [T0]})
        assert {name: found[T0] for name, found in places.items()} == {
            "g": (3, "g", -1),
            "h": (3, "h", -1),
        }
        await too_old(admin.group_offsets("g", require_stable=True))
        await admin.alter_group_offsets({"g": {T0: 4}})
        assert broker.asked[ApiKey.OFFSET_COMMIT][1].topics[0].partitions[0].committed_offset == 4
        await too_old(admin.delete_group_offsets({"g": [T0]}), "does not serve OFFSET_DELETE")

    played(stage, script)


def test_the_rest_of_what_kafka_2_1_has(stage):
    OldBroker(stage)

    async def script(admin):
        assert [node.id for node in (await admin.describe_cluster()).nodes] == [1]
        (row,) = await admin.describe_log_dirs()
        assert (row.path, row.total_bytes, row.partition_bytes) == ("/d", -1, {T0: 5})
        await admin.alter_replica_log_dirs({("t", 0, 1): "/d"})
        await admin.create_acls(ACL)
        (found,) = await admin.describe_acls()
        assert found == ACL._replace(permission=Permission.UNKNOWN)
        assert await admin.delete_acls(AclFilter(name="t")) == {AclFilter(name="t"): []}
        assert await admin.fence_producers("x") == {"x": (5, 2)}
        assert await admin.describe_features() == ({}, {}, -1)

    played(stage, script)


def test_what_kafka_2_1_does_not_have_says_so(stage):
    OldBroker(stage)

    async def script(admin):
        state = ProducerState(5, 2, 0, 0, 0, 0)
        calls = (
            admin.describe_quorum(),
            admin.update_features({"transaction.version": 1}),
            admin.elect_leaders(),
            admin.elect_leaders([T0]),
            admin.alter_partition_reassignments({T0: [1]}),
            admin.list_partition_reassignments(),
            admin.list_transactions(),
            admin.describe_transactions("x"),
            admin.describe_producers(T0),
            admin.abort_transaction(T0, state),
            admin.describe_user_scram_credentials(),
            admin.alter_user_scram_credentials(NewScramCredential("a", "secret")),
            admin.describe_client_quotas(),
            admin.alter_client_quotas({"user": "a"}, {"request_percentage": 5}),
        )
        for call in calls:
            await too_old(call, "the broker (does not serve|serves versions)")

    played(stage, script)

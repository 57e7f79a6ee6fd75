"""Every call of the admin, the same scripts on Ottla and on Apache Kafka."""

import asyncio
import contextlib

import pytest

import ottla
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, TopicPartition
from ottla.client.errors import ClientError, RefusedError
from ottla.client.offsets import OffsetAndMetadata
from ottla.client.rows import (
    Acl,
    AclFilter,
    FeatureChange,
    Match,
    NewScramCredential,
    NewTopic,
    Operation,
    PatternType,
    Permission,
    Resource,
    ResourceType,
    ScramDeletion,
)
from tests.tools.kafka_broker import kafka_broker

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


async def refused(call, code, told=None):
    with pytest.raises(RefusedError, match=told) as found:
        await call
    assert found.value.code is code
    return found.value


async def until(call, wanted):
    """What a call answers once it is what is wanted: Kafka's brokers learn of changes later."""
    async with asyncio.timeout(60):
        while not wanted(found := await call()):
            await asyncio.sleep(0.05)
        return found


async def topics(admin, _):
    made = await admin.create_topics(
        NewTopic("t", num_partitions=2, configs={"retention.ms": "5000"}), NewTopic("u")
    )
    assert [(row.name, row.num_partitions, row.replication_factor) for row in made] == [
        ("t", 2, 1),
        ("u", 1, 1),
    ]
    await until(admin.list_topics, lambda names: {"t", "u"} <= set(names))
    views = await admin.describe_topics("t", "u")
    assert [len(views["t"]), len(views["u"])] == [2, 1]
    assert views["t"].id == made[0].id != ZERO_UUID
    leader = views["t"].partitions[0].leader
    await admin.create_partitions({"t": 4}, validate_only=True)
    await admin.create_partitions({"t": 3, "u": 2}, assignments={"t": [[leader]]})
    await until(lambda: admin.describe_topics("t", "u"), lambda found: len(found["t"]) == 3)
    error = await refused(
        admin.create_topics(NewTopic("t"), NewTopic("v"), NewTopic("no/name")),
        ErrorCode.TOPIC_ALREADY_EXISTS,
        r"^t: .*\(and 1 more\)",
    )
    assert {name: each.code for name, each in error.errors.items()} == {
        "t": ErrorCode.TOPIC_ALREADY_EXISTS,
        "no/name": ErrorCode.INVALID_TOPIC_EXCEPTION,
    }
    assert error.results["v"].num_partitions == 1
    await admin.create_topics(NewTopic("dry"), validate_only=True)
    await refused(admin.create_partitions({"t": 1}), ErrorCode.INVALID_PARTITIONS, "^t: ")
    await admin.delete_topics("t", "u", "v")
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    await refused(admin.delete_topics("dry"), unknown, "^dry: ")
    await refused(admin.describe_topics("dry"), unknown, "^dry: ")


async def configs(admin, _):
    await admin.create_topics(NewTopic("t"))
    await until(admin.list_topics, lambda names: "t" in names)

    async def of_topic():
        found = await admin.describe_configs(
            Resource.TOPIC, "t", ["retention.ms", "cleanup.policy"]
        )
        return {name: (entry.value, entry.source) for name, entry in found.items()}

    await admin.alter_configs(
        Resource.TOPIC, "t", {"retention.ms": "77"}, append={"cleanup.policy": "compact"}
    )
    found = await until(of_topic, lambda found: found["retention.ms"] == ("77", 1))
    assert found["cleanup.policy"] == ("delete,compact", 1)
    await admin.alter_configs(
        Resource.TOPIC, "t", {"retention.ms": None}, subtract={"cleanup.policy": "delete"}
    )
    found = await until(of_topic, lambda found: found["retention.ms"][1] == 5)
    assert found["cleanup.policy"][0] == "compact"
    await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "9"}, validate_only=True)
    assert (await of_topic())["retention.ms"][1] == 5
    wrong = admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "soon"})
    await refused(wrong, ErrorCode.INVALID_CONFIG, "^t: ")
    node = (await admin.describe_cluster()).nodes[0].id
    assert (await admin.describe_configs(Resource.BROKER, str(node)))["num.partitions"].value == "1"
    with pytest.raises(ClientError, match="by its id"):
        await admin.describe_configs(Resource.BROKER, "first")
    assert (Resource.TOPIC, "t") in await admin.list_config_resources(Resource.TOPIC)
    assert (Resource.BROKER, str(node)) in await admin.list_config_resources()
    await admin.delete_topics("t")


async def records(admin, bootstrap):
    await admin.create_topics(NewTopic("t", num_partitions=2))
    async with ottla.Producer(bootstrap_servers=bootstrap) as producer:
        for n in range(10):
            await producer.send_and_wait("t", b"x", partition=0, timestamp_ms=1_000 + n)
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    times = {time: (await admin.list_offsets({first: time}))[first] for time in (-1, -2, -3, 1_005)}
    assert [place.offset for place in times.values()] == [10, 0, 9, 5]
    assert times[1_005].timestamp_ms == 1_005
    assert await admin.delete_records({first: 4, ("t", 1): -1}) == {first: 4, second: 0}
    earliest = await admin.list_offsets({first: -2, second: -1}, isolation_level=1)
    assert (earliest[first].offset, earliest[second].offset) == (4, 0)
    error = await refused(
        admin.delete_records({first: 99, second: 0}), ErrorCode.OFFSET_OUT_OF_RANGE, "^t-0: "
    )
    assert error.results == {second: 0}
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    error = await refused(admin.list_offsets({("t", 9): -1, first: -1}), unknown, "^t-9: ")
    assert error.results[first].offset == 10
    await admin.delete_topics("t")


async def log_dirs(admin, bootstrap):
    await admin.create_topics(NewTopic("t"))
    async with ottla.Producer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait("t", b"x" * 1_000)
    key = TopicPartition("t", 0)
    found = await admin.describe_log_dirs()
    (here,) = [row for row in found if key in row.partition_bytes]
    (there,) = [row.path for row in found if row.path != here.path]
    assert here.error is None and here.partition_bytes[key] > 1_000
    assert 0 < here.usable_bytes <= here.total_bytes
    await admin.alter_replica_log_dirs({("t", 0, here.broker_id): there})

    async def place():
        rows = await admin.describe_log_dirs(here.broker_id)
        assert all(each.offset_lag >= 0 for row in rows for each in row.moving_here.values())
        return [row.path for row in rows if key in row.partition_bytes]

    await until(place, lambda paths: paths == [there])
    nowhere = admin.alter_replica_log_dirs({("t", 0, here.broker_id): "/nowhere"})
    await refused(nowhere, ErrorCode.LOG_DIR_NOT_FOUND, "^t-0: ")
    await admin.delete_topics("t")


async def replicas(admin, _):
    await admin.create_topics(NewTopic("t", num_partitions=2))
    views = await until(lambda: admin.describe_topics("t"), lambda found: found["t"].available)
    leader = views["t"].partitions[0].leader
    assert await admin.elect_leaders([("t", 0), ("t", 1)]) == []
    assert await admin.elect_leaders() == []
    assert await admin.elect_leaders([("t", 0)], unclean=True) == []
    error = await refused(
        admin.elect_leaders([("t", 0), ("t", 7)]), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "^t-7: "
    )
    assert error.results == {("t", 0): False}
    await admin.alter_partition_reassignments({("t", 0): [leader]})
    assert await admin.list_partition_reassignments() == {}
    assert await admin.list_partition_reassignments([("t", 0)]) == {}
    error = await refused(
        admin.alter_partition_reassignments({("t", 0): None, ("t", 1): [leader, 99]}),
        ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
        "^t-0: ",
    )
    assert error.errors["t", 1].code is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    await admin.delete_topics("t")


async def the_cluster(admin, _):
    row = await admin.describe_cluster()
    assert [node.id for node in row.nodes] == [row.controller_id] and row.id
    quorum = await admin.describe_quorum()
    assert [replica.id for replica in quorum.voters] == [quorum.leader_id] == [row.controller_id]
    assert quorum.high_watermark > 0 and quorum.voters[0].log_end_offset > 0
    features = await admin.describe_features()
    low, high = features.supported["transaction.version"]
    assert low <= features.finalized["transaction.version"] <= high and features.epoch >= 0
    lower = {"transaction.version": 1}
    await admin.update_features(lower, change=FeatureChange.SAFE_DOWNGRADE, validate_only=True)
    assert (await admin.describe_features()).finalized == features.finalized
    with pytest.raises(KafkaError) as found:
        await admin.update_features({"no.such.feature": 1})
    assert found.value.code in (ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.INVALID_REQUEST)


async def groups(admin, bootstrap):
    await admin.create_topics(NewTopic("t", num_partitions=2))
    keys = {TopicPartition("t", 0), TopicPartition("t", 1)}
    common = {"bootstrap_servers": bootstrap, "auto_offset_reset": "earliest"}
    async with (
        ottla.Consumer(group_id="g-old", group_instance_id="i", **common) as old,
        ottla.Consumer(group_id="g-new", group_protocol="consumer", **common) as new,
    ):
        old.subscribe(["t"])
        new.subscribe(["t"])
        while set(old.assignment()) != keys or set(new.assignment()) != keys:
            await old.poll(50)
            await new.poll(50)
        found = await until(
            lambda: admin.describe_groups("g-old", "g-new"),
            lambda found: {row.state for row in found.values()} == {"Stable"},
        )
        assert list(found) == ["g-old", "g-new"]
        assert [row.type for row in found.values()] == ["classic", "consumer"]
        for row in found.values():
            (member,) = row.members
            assert set(member.partitions) == keys and member.client_id == "ottla"
        assert found["g-old"].members[0].group_instance_id == "i"
        assert found["g-new"].epoch >= found["g-new"].members[0].epoch > 0
        listed = await admin.list_groups(states=["Stable"], types=["consumer"])
        assert [(row.group_id, row.type, row.state) for row in listed] == [
            ("g-new", "consumer", "Stable")
        ]
        await refused(admin.delete_groups("g-old", "g-new"), ErrorCode.NON_EMPTY_GROUP, "^g-old")
        nobody = admin.remove_group_members("g-old", member_ids=["nobody"], instance_ids=["i"])
        error = await refused(nobody, ErrorCode.UNKNOWN_MEMBER_ID, "^nobody: ")
        assert list(error.results) == ["i"]
    gone = await refused(admin.describe_groups("g-none"), ErrorCode.GROUP_ID_NOT_FOUND, "g-none")
    assert list(gone.errors) == ["g-none"]
    with contextlib.suppress(RefusedError):  # where they have committed nothing they are gone
        await admin.delete_groups("g-old", "g-new")
    await admin.delete_topics("t")


async def group_offsets(admin, _):
    await admin.create_topics(NewTopic("t", num_partitions=2))
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    await until(lambda: admin.describe_topics("t"), lambda found: len(found["t"].available) == 2)
    note = OffsetAndMetadata(0, "note")
    await admin.alter_group_offsets({"g": {first: 0, second: note}, "h": {("t", 0): 0}})
    found = await admin.list_group_offsets({"g": None, "h": [first, second], "none": None})
    assert {name: sorted(places) for name, places in found.items()} == {
        "g": [first, second],
        "h": [first],
        "none": [],
    }
    assert found["g"][second].metadata == "note"
    assert {row.group_id for row in await admin.list_groups(states=["Empty"])} >= {"g", "h"}
    await admin.delete_group_offsets({"g": [second]})
    assert list(await admin.group_offsets("g")) == [first]
    assert list(await admin.group_offsets("g", [second], require_stable=True)) == []
    error = await refused(
        admin.alter_group_offsets({"g": {("nowhere", 0): 1, first: 0}}),
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        "^g: nowhere-0: ",
    )
    assert list(error.results) == [("g", first)]
    await admin.delete_groups("g", "h")
    await refused(admin.delete_groups("g"), ErrorCode.GROUP_ID_NOT_FOUND, "^g: ")
    await refused(admin.delete_group_offsets({"g": [first]}), ErrorCode.GROUP_ID_NOT_FOUND, "^g: ")
    await admin.delete_topics("t")


async def transactions(admin, bootstrap):
    await admin.create_topics(NewTopic("t"))
    key = TopicPartition("t", 0)
    async with ottla.Producer(bootstrap_servers=bootstrap, transactional_id="x") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait("t", b"x")
        described = await admin.describe_transactions("x")
        row = described["x"]
        assert (row.state, row.partitions) == ("Ongoing", (key,)) and row.started_ms > 0
        ours = (row.transactional_id, row.producer_id, row.state)
        assert ours in await admin.list_transactions()
        assert ours in await admin.list_transactions(
            states=["Ongoing"], producer_ids=[row.producer_id], longer_than_ms=0, pattern="x"
        )
        assert ours not in await admin.list_transactions(states=["Empty"])
        wrong = admin.list_transactions(states=["Going"])
        await refused(wrong, ErrorCode.INVALID_REQUEST, "no states of transactions: Going")
        (state,) = (await admin.describe_producers(key))[key]
        assert state.producer_id == row.producer_id and state.transaction_start_offset == 0
        await admin.abort_transaction(key, state)
        (state,) = (await admin.describe_producers(key))[key]
        assert state.transaction_start_offset == -1
        fenced = await admin.fence_producers("x", "y")
        assert fenced["x"].producer_epoch > row.producer_epoch and list(fenced) == ["x", "y"]
        with pytest.raises(ottla.client.errors.FatalTransactionError):
            await producer.commit_transaction()
    nobody = admin.describe_transactions("nobody")
    await refused(nobody, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, "^nobody: ")
    await admin.delete_topics("t")


async def acls(admin, _):
    def acl(name, operation=Operation.READ, pattern=PatternType.LITERAL):
        return Acl(
            ResourceType.TOPIC, pattern, name, "User:alice", "*", operation, Permission.ALLOW
        )

    one, two = acl("t"), acl("pre", Operation.WRITE, PatternType.PREFIXED)
    await admin.create_acls(one, two)
    await admin.create_acls(one)
    await until(admin.describe_acls, lambda found: sorted(found) == sorted([one, two]))
    assert await admin.describe_acls(AclFilter(name="t")) == [one]
    assert await admin.describe_acls(AclFilter(operation=Operation.WRITE)) == [two]
    error = await refused(
        admin.create_acls(one, one._replace(name="")), ErrorCode.INVALID_REQUEST, "'': "
    )
    assert list(error.results) == [one]
    about = AclFilter(ResourceType.TOPIC, PatternType.MATCH, "prefix")
    nothing = AclFilter(principal="User:nobody")
    assert await admin.delete_acls(about, nothing) == {about: [two], nothing: []}
    assert await admin.delete_acls(AclFilter()) == {AclFilter(): [one]}


SCRIPTS = [
    topics,
    configs,
    records,
    log_dirs,
    replicas,
    the_cluster,
    groups,
    group_offsets,
    transactions,
    acls,
]


async def played(script, bootstrap):
    async with ottla.Admin(bootstrap_servers=bootstrap) as admin, asyncio.timeout(100):
        await script(admin, bootstrap)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_on_ottla(start_broker, tmp_path, script):
    settings = {"log.dirs": f"{tmp_path}/a,{tmp_path}/b", **AUTHORIZER}
    broker = start_broker(settings=settings)
    asyncio.run(played(script, broker.bootstrap_servers))


def test_users_and_quotas_are_not_there_on_ottla(broker):
    async def script(admin, _):
        for call in (
            admin.describe_user_scram_credentials(),
            admin.alter_user_scram_credentials(ScramDeletion("alice")),
            admin.describe_client_quotas(),
            admin.alter_client_quotas({"user": "alice"}, {"request_percentage": 5}),
        ):
            await refused(call, ErrorCode.UNSUPPORTED_VERSION, "does not serve")

    asyncio.run(played(script, broker.bootstrap_servers))


async def users(admin, _):
    await admin.alter_user_scram_credentials(
        NewScramCredential("alice", "secret"),
        NewScramCredential("alice", "secret", "SCRAM-SHA-256", 4_096),
        NewScramCredential("bob", "secret"),
    )
    made = {
        "alice": {"SCRAM-SHA-256": 4_096, "SCRAM-SHA-512": 8_192},
        "bob": {"SCRAM-SHA-512": 8_192},
    }
    await until(admin.describe_user_scram_credentials, lambda found: found == made)
    await admin.alter_user_scram_credentials(
        ScramDeletion("alice"), NewScramCredential("bob", "other", iterations=5_000)
    )
    left = {"alice": {"SCRAM-SHA-256": 4_096}, "bob": {"SCRAM-SHA-512": 5_000}}
    await until(
        lambda: admin.describe_user_scram_credentials("alice", "bob"), lambda found: found == left
    )
    gone = ErrorCode.RESOURCE_NOT_FOUND
    await refused(admin.alter_user_scram_credentials(ScramDeletion("eve")), gone, "^eve: ")
    await refused(admin.describe_user_scram_credentials("eve"), gone, "^eve: ")


async def quotas(admin, _):
    alice = {"user": "alice", "client-id": None}
    await admin.alter_client_quotas(alice, {"producer_byte_rate": 1e6, "request_percentage": 50})
    await admin.alter_client_quotas({"user": None}, {"consumer_byte_rate": 2e6})
    found = await until(admin.describe_client_quotas, lambda found: len(found) == 2)
    rates = {"producer_byte_rate": 1e6, "request_percentage": 50.0}
    assert (alice, rates) in found
    assert await admin.describe_client_quotas({"user": None}) == [
        ({"user": None}, {"consumer_byte_rate": 2e6})
    ]
    assert await admin.describe_client_quotas({"user": "alice"}, strict=True) == []
    assert len(await admin.describe_client_quotas({"user": Match.ANY})) == 2
    by_both = {"user": Match.ANY, "client-id": None}
    assert await admin.describe_client_quotas(by_both) == [(alice, rates)]
    await admin.alter_client_quotas(alice, {"producer_byte_rate": 5}, validate_only=True)
    await admin.alter_client_quotas(alice, dict.fromkeys(rates))
    await until(admin.describe_client_quotas, lambda found: len(found) == 1)
    wrong = admin.alter_client_quotas({"user": "bob"}, {"no_such_rate": 1})
    await refused(wrong, ErrorCode.INVALID_REQUEST, "bob")


@pytest.mark.java
@pytest.mark.timeout(600)
def test_on_apache_kafka(tmp_path):
    dirs = {"log.dirs": f"{tmp_path}/logs,{tmp_path}/more"}
    with kafka_broker(tmp_path, {**AUTHORIZER, **dirs}) as kafka:
        for script in (*SCRIPTS, users, quotas):
            try:
                asyncio.run(played(script, kafka.bootstrap))
            except BaseException as error:
                error.add_note(f"in the script {script.__name__}")
                raise


async def what_is_old(admin, bootstrap):
    """What Kafka 2.1 has. It wants counts of a new topic, and cannot change one config alone."""
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    await admin.create_topics(NewTopic("t", 2, 1, {"retention.ms": "5000"}))
    await refused(admin.create_topics(NewTopic("u")), ErrorCode.UNSUPPORTED_VERSION)
    await admin.create_partitions({"t": 3})
    await until(lambda: admin.describe_topics("t"), lambda found: len(found["t"].available) == 3)
    await admin.alter_configs(Resource.TOPIC, "t", {"segment.bytes": "1000000"})
    await until(
        lambda: admin.describe_configs(Resource.TOPIC, "t", ["segment.bytes", "retention.ms"]),
        lambda found: {row.value for row in found.values()} == {"1000000", "5000"},
    )
    async with ottla.Producer(bootstrap_servers=bootstrap) as producer:
        for _ in range(5):
            await producer.send_and_wait("t", b"x", partition=0)
    assert (await admin.list_offsets({first: -1}))[first].offset == 5
    assert await admin.delete_records({first: 2}) == {first: 2}
    (row,) = await admin.describe_log_dirs()
    assert row.partition_bytes[first] > 60 and row.total_bytes == -1
    await admin.alter_group_offsets({"g": {first: 3, second: 0}, "h": {first: 1}})
    found = await admin.list_group_offsets({"g": None, "h": [first, second]})
    assert {name: sorted(places) for name, places in found.items()} == {
        "g": [first, second],
        "h": [first],
    }
    assert {row.group_id for row in await admin.list_groups()} == {"g", "h"}
    async with ottla.Consumer(bootstrap_servers=bootstrap, group_id="m") as consumer:
        consumer.subscribe(["t"])
        while not consumer.assignment():
            await consumer.poll(50)
        described = await until(
            lambda: admin.describe_groups("m", "g"), lambda found: found["m"].state == "Stable"
        )
        (member,) = described["m"].members
        assert len(member.partitions) == 3 and described["g"].state == "Empty"
        await admin.remove_group_members("m", member_ids=[member.member_id])
    gone = ErrorCode.GROUP_ID_NOT_FOUND
    await refused(admin.describe_groups("none"), gone, "^none: ")
    await admin.delete_groups("g", "h")
    assert (await admin.fence_producers("x"))["x"].producer_epoch >= 0
    assert await admin.describe_features() == ({}, {}, -1)
    await refused(admin.list_transactions(), ErrorCode.UNSUPPORTED_VERSION)
    await refused(admin.elect_leaders(), ErrorCode.UNSUPPORTED_VERSION)
    await admin.delete_topics("t")
    await until(admin.list_topics, lambda names: "t" not in names)


@pytest.mark.java
@pytest.mark.timeout(600)
def test_on_the_oldest_apache_kafka(tmp_path):
    with kafka_broker(tmp_path, is_old=True) as kafka:
        asyncio.run(played(what_is_old, kafka.bootstrap))

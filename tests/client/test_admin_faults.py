"""An admin of a cluster that misbehaves: nodes that fail, move, lie, or are silent."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.admin import Admin
from ottla.client.errors import ClientClosedError, RefusedError, TimedOutError
from ottla.client.rows import NewTopic, ProducerState, Resource, ScramDeletion
from ottla.protocol.messages import describe_quorum as quorum
from ottla.protocol.messages import describe_user_scram_credentials as describe_scram
from ottla.protocol.messages import incremental_alter_configs as alter
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from ottla.protocol.messages.create_topics import CreatableTopicResult, CreateTopicsResponse
from ottla.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.list_groups import ListedGroup, ListGroupsResponse
from ottla.protocol.messages.metadata import MetadataResponse, MetadataResponseBroker
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.rpc.errors import RpcError
from tests.client.test_cluster import topic_row
from tests.rpc.conftest import PORT, FakeBroker, versions_answer

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
METADATA, FIND_COORDINATOR, LIST_GROUPS = 3, 10, 16
DESCRIBE_SCRAM = 50
CREATE_TOPICS, DELETE_RECORDS, DELETE_GROUPS = 19, 21, 42
GARBAGE = [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\x09garbage!!"]


class Cluster:
    """Nodes on machines of their own, `node-1` and on. `answers` are functions by API key, of the
    node and the request; metadata and coordinators are answered from the fields."""

    def __init__(self, stage, nodes=1):
        self.stage = stage
        self.node_ids = range(1, nodes + 1)
        self.controller = 1
        self.leaders = [1]
        self.coordinator = 1
        self.topic_error = 0
        self.answers = {}
        self.asked = []
        for node_id in self.node_ids:
            stage.sim.boot(f"node-{node_id}").network.listen("", PORT, self._acceptor(node_id))

    def _acceptor(self, node_id):
        def answer(header, request):
            if header.api_key == METADATA:
                return self._metadata()
            self.asked.append((node_id, header.api_key))
            if header.api_key in self.answers:
                return self.answers[header.api_key](node_id, request)
            if header.api_key == FIND_COORDINATOR:
                return self._found(request)
            return versions_answer(header, request)

        return lambda connection: FakeBroker(connection, answer)

    def _metadata(self):
        brokers = [
            MetadataResponseBroker(node_id=each, host=f"node-{each}", port=PORT)
            for each in self.node_ids
        ]
        topics = [topic_row("t", *self.leaders, error=self.topic_error)]
        return MetadataResponse(brokers=brokers, controller_id=self.controller, topics=topics)

    def _found(self, request):
        host, node = f"node-{self.coordinator}", self.coordinator
        rows = [
            Coordinator(key=key, node_id=node, host=host, port=PORT)
            for key in request.coordinator_keys
        ]
        return FindCoordinatorResponse(coordinators=rows)

    def nodes_asked(self, api_key):
        return [node for node, key in self.asked if key == api_key]

    def play(self, script, **options):
        async def whole():
            options.setdefault("default_api_timeout_ms", 20_000)
            async with Admin(
                world=self.stage.world,
                bootstrap_servers=f"node-1:{PORT}",
                request_timeout_ms=3_000,
                **options,
            ) as admin:
                await script(admin)

        self.stage.play(whole)


def topics_made(request, code=0):
    rows = [CreatableTopicResult(name=row.name, error_code=code) for row in request.topics]
    return CreateTopicsResponse(topics=rows)


def records_gone(request, **codes):
    """`p0=6`: an error for partition 0."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    DeleteRecordsPartitionResult(
                        partition_index=row.partition_index,
                        low_watermark=row.offset,
                        error_code=codes.get(f"p{row.partition_index}", 0),
                    )
                    for row in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def groups_gone(request, code=0):
    rows = [DeletableGroupResult(group_id=name, error_code=code) for name in request.groups_names]
    return DeleteGroupsResponse(results=rows)


def in_turn(*answers):
    """One answer after another, the last again and again. A function makes one of the request."""
    left = list(answers)

    def answer(node, request):
        found = left.pop(0) if len(left) > 1 else left[0]
        return found(request) if callable(found) else found

    return answer


# ---- unknown topics, lost leaders, nodes that move


def test_an_unknown_topic_is_told_by_name_and_soon(stage):
    cluster = Cluster(stage)
    cluster.topic_error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    async def script(admin):
        started = stage.sim.loop.time()
        with pytest.raises(RefusedError, match="topic 't'") as told:
            await admin.delete_records({T0: 1})
        assert told.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert list(told.value.errors) == [T0]
        assert stage.sim.loop.time() - started < 3

    cluster.play(script)


def test_a_topic_that_the_nodes_do_not_know_yet_is_waited_for(stage):
    cluster = Cluster(stage)
    cluster.answers[DELETE_RECORDS] = in_turn(records_gone)
    cluster.topic_error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    async def script(admin):
        stage.sim.loop.call_later(0.25, setattr, cluster, "topic_error", 0)
        assert await admin.delete_records({T0: 4}) == {T0: 4}

    cluster.play(script)


def test_a_topic_that_is_unknown_after_other_failures_is_waited_for_as_long(stage):
    cluster = Cluster(stage)
    cluster.answers[DELETE_RECORDS] = in_turn(*[GARBAGE[2]] * 5, records_gone)

    async def script(admin):
        call = asyncio.create_task(admin.delete_records({T0: 4}))
        while len(cluster.nodes_asked(DELETE_RECORDS)) < 5:
            await asyncio.sleep(0.01)
        cluster.topic_error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await asyncio.sleep(2)
        cluster.topic_error = 0
        assert await call == {T0: 4}

    cluster.play(script)


def test_nodes_that_came_and_went_are_known_to_what_asks_all_of_them(stage):
    cluster = Cluster(stage, nodes=3)
    cluster.node_ids = [1, 2]
    cluster.answers[LIST_GROUPS] = in_turn(ListGroupsResponse())

    async def script(admin):
        cluster.node_ids = [1, 3]
        assert await admin.list_groups() == []

    cluster.play(script)
    assert sorted(cluster.nodes_asked(LIST_GROUPS)) == [1, 3]


def test_a_partition_without_a_leader_is_waited_for(stage):
    cluster = Cluster(stage)
    cluster.leaders = [-1]
    cluster.answers[DELETE_RECORDS] = in_turn(records_gone)

    async def script(admin):
        with pytest.raises(TimedOutError, match="LEADER_NOT_AVAILABLE") as told:
            await admin.delete_records({T0: 4})
        assert isinstance(told.value.__cause__, KafkaError)
        stage.sim.loop.call_later(5, setattr, cluster, "leaders", [1])
        assert await admin.delete_records({T0: 4}) == {T0: 4}

    cluster.play(script)


def test_a_leader_that_is_none_any_more_is_looked_for_anew_and_the_others_stand(stage):
    cluster = Cluster(stage, nodes=2)
    cluster.leaders = [1, 1]

    def answer(node, request):
        if node == 1 and len(cluster.nodes_asked(DELETE_RECORDS)) == 1:
            cluster.leaders = [2, 1]
            return records_gone(request, p0=ErrorCode.NOT_LEADER_OR_FOLLOWER)
        assert [row.partition_index for row in request.topics[0].partitions] == [0]
        return records_gone(request)

    cluster.answers[DELETE_RECORDS] = answer

    async def script(admin):
        assert await admin.delete_records({T0: 4, T1: 5}) == {T0: 4, T1: 5}

    cluster.play(script)
    assert cluster.nodes_asked(DELETE_RECORDS) == [1, 2]


def test_a_controller_that_moved_is_found(stage):
    cluster = Cluster(stage, nodes=2)

    def answer(node, request):
        cluster.controller = 2
        return topics_made(request, 0 if node == 2 else ErrorCode.NOT_CONTROLLER)

    cluster.answers[CREATE_TOPICS] = answer

    async def script(admin):
        assert [row.name for row in await admin.create_topics(NewTopic("t"))] == ["t"]

    cluster.play(script)
    assert cluster.nodes_asked(CREATE_TOPICS) == [1, 2]


def test_a_coordinator_that_moved_is_found(stage):
    cluster = Cluster(stage, nodes=2)

    def answer(node, request):
        cluster.coordinator = 2
        return groups_gone(request, 0 if node == 2 else ErrorCode.NOT_COORDINATOR)

    cluster.answers[DELETE_GROUPS] = answer

    async def script(admin):
        await admin.delete_groups("g", "h")

    cluster.play(script)
    assert cluster.nodes_asked(DELETE_GROUPS) == [1, 2]


@pytest.mark.parametrize("code", ["COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"])
def test_a_coordinator_that_loads_is_waited_for(stage, code):
    cluster = Cluster(stage)
    loading = lambda request: groups_gone(request, ErrorCode[code])  # noqa: E731
    cluster.answers[DELETE_GROUPS] = in_turn(loading, loading, groups_gone)

    async def script(admin):
        await admin.delete_groups("g")

    cluster.play(script)
    assert len(cluster.nodes_asked(DELETE_GROUPS)) == 3


def test_any_node_is_another_one_after_a_failure(stage):
    cluster = Cluster(stage, nodes=3)
    cluster.answers[29] = lambda node, request: None
    answers = iter([b"\xff\xff\xff\xff", b"\xff\xff\xff\xff"])
    cluster.answers[29] = lambda node, request: next(answers, None)

    async def script(admin):
        with pytest.raises(TimedOutError):
            await admin.describe_acls()

    cluster.play(script, default_api_timeout_ms=2_000)
    assert sorted(cluster.nodes_asked(29)) == [1, 2, 3]


def test_a_node_that_is_not_there_is_told_soon(stage):
    cluster = Cluster(stage)

    async def script(admin):
        started = stage.sim.loop.time()
        for call in (
            admin.describe_log_dirs(9),
            admin.describe_configs(Resource.BROKER, "9"),
            admin.alter_replica_log_dirs({("t", 0, 9): "/d"}),
        ):
            with pytest.raises(RefusedError, match="there is no node 9") as told:
                await call
            assert told.value.code is ErrorCode.BROKER_NOT_AVAILABLE
        assert stage.sim.loop.time() - started < 6

    cluster.play(script)


# ---- garbage, huge lengths, silence


@pytest.mark.parametrize("bad", GARBAGE, ids=["huge", "negative", "garbage"])
def test_an_answer_that_is_none_is_asked_for_again(stage, bad):
    cluster = Cluster(stage)
    cluster.answers[CREATE_TOPICS] = in_turn(bad, topics_made)

    async def script(admin):
        assert [row.name for row in await admin.create_topics(NewTopic("t"))] == ["t"]

    cluster.play(script)
    assert len(cluster.nodes_asked(CREATE_TOPICS)) == 2


def test_garbage_without_end_is_told_in_time(stage):
    cluster = Cluster(stage)
    cluster.answers[LIST_GROUPS] = in_turn(b"\x7f\xff\xff\xff")

    async def script(admin):
        with pytest.raises(TimedOutError, match="a response of 2147483647 bytes") as told:
            await admin.list_groups()
        assert isinstance(told.value.__cause__, RpcError)
        cluster.answers[LIST_GROUPS] = in_turn(ListGroupsResponse())
        assert await admin.list_groups() == []

    cluster.play(script)


def test_a_node_that_does_not_answer_all_it_was_asked_is_asked_again(stage):
    cluster = Cluster(stage)
    cluster.answers[CREATE_TOPICS] = in_turn(CreateTopicsResponse(topics=[]), topics_made)

    async def script(admin):
        made = await admin.create_topics(NewTopic("t"), NewTopic("u"))
        assert [row.name for row in made] == ["t", "u"]

    cluster.play(script)


def test_configs_that_nobody_answers_for_are_not_told_as_changed(stage):
    cluster = Cluster(stage)
    row = alter.AlterConfigsResourceResponse(resource_type=2, resource_name="t")
    cluster.answers[44] = in_turn(
        alter.IncrementalAlterConfigsResponse(responses=[]),
        alter.IncrementalAlterConfigsResponse(responses=[row]),
    )

    async def script(admin):
        await admin.alter_configs(Resource.TOPIC, "t", {"retention.ms": "1"})

    cluster.play(script)
    assert len(cluster.nodes_asked(44)) == 2


@pytest.mark.parametrize("topics", [0, 1, 2])
def test_a_quorum_is_told_only_where_there_is_one(stage, topics):
    cluster = Cluster(stage)
    each = quorum.PartitionData(
        partition_index=0,
        leader_id=1,
        leader_epoch=3,
        high_watermark=9,
        current_voters=[],
        observers=[],
    )
    rows = [quorum.TopicData(topic_name="m", partitions=[each] * n) for n in (0, topics)]
    cluster.answers[55] = in_turn(quorum.DescribeQuorumResponse(topics=rows))

    async def script(admin):
        if topics == 1:
            assert (await admin.describe_quorum()).high_watermark == 9
            return
        with pytest.raises(RefusedError, match=f"tells of {topics} quorums"):
            await admin.describe_quorum()

    cluster.play(script)


@pytest.mark.parametrize("index", [(1 << 31) - 1, -1])
def test_partitions_that_cannot_be_take_no_room(stage, index):
    cluster = Cluster(stage)
    rows = topic_row("t", 1, 1)
    rows.partitions[1].partition_index = index
    told = cluster._metadata()
    told.topics = [rows]

    async def script(admin):
        cluster._metadata = lambda: told
        (view,) = (await admin.describe_topics("t")).values()
        assert [each.index for each in view.partitions] == [0]

    cluster.play(script)


def test_an_error_that_nobody_knows_is_told(stage):
    cluster = Cluster(stage)
    cluster.answers[CREATE_TOPICS] = in_turn(lambda request: topics_made(request, 999))

    async def script(admin):
        with pytest.raises(RefusedError, match=r"^t: ") as told:
            await admin.create_topics(NewTopic("t"))
        assert told.value.code is ErrorCode.UNKNOWN_SERVER_ERROR

    cluster.play(script)


def test_a_silent_node_keeps_none_of_the_others(stage):
    """What the others told comes with the error."""
    cluster = Cluster(stage, nodes=3)
    row = ListedGroup(group_id="g", protocol_type="consumer")
    cluster.answers[LIST_GROUPS] = lambda node, _: (
        None if node == 2 else ListGroupsResponse(groups=[row])
    )

    async def script(admin):
        with pytest.raises(RefusedError, match=r"2: .*no answer to api key 16") as told:
            await admin.list_groups()
        assert told.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert list(told.value.errors) == [2] and set(told.value.results) == {1, 3}

    cluster.play(script)
    assert sorted(cluster.nodes_asked(LIST_GROUPS)[:3]) == [1, 2, 3]
    assert set(cluster.nodes_asked(LIST_GROUPS)[3:]) == {2}


def test_a_time_that_is_over_before_an_answer_came_is_told(stage):
    cluster = Cluster(stage, nodes=2)
    cluster.answers[LIST_GROUPS] = lambda node, _: None if node == 2 else ListGroupsResponse()

    async def script(admin):
        with pytest.raises(RefusedError, match=r"^2: list_groups: not in 1000 ms"):
            await admin.list_groups()

    cluster.play(script, default_api_timeout_ms=1_000)


def test_what_one_node_refuses_keeps_none_of_the_others(stage):
    cluster = Cluster(stage, nodes=2)
    cluster.leaders = [1, 2]
    cluster.answers[DELETE_RECORDS] = lambda node, request: records_gone(
        request, p0=ErrorCode.OFFSET_OUT_OF_RANGE
    )

    async def script(admin):
        with pytest.raises(RefusedError, match=r"^t-0: OFFSET_OUT_OF_RANGE$") as told:
            await admin.delete_records({T0: 4, T1: 5})
        assert told.value.results == {T1: 5}

    cluster.play(script)


def test_a_user_that_is_not_there_keeps_none_of_the_others(stage):
    cluster = Cluster(stage)
    rows = [
        describe_scram.DescribeUserScramCredentialsResult(
            user="a", credential_infos=[describe_scram.CredentialInfo(mechanism=1, iterations=4096)]
        ),
        describe_scram.DescribeUserScramCredentialsResult(
            user="b", error_code=ErrorCode.RESOURCE_NOT_FOUND, credential_infos=[]
        ),
    ]
    cluster.answers[DESCRIBE_SCRAM] = lambda node, request: (
        describe_scram.DescribeUserScramCredentialsResponse(results=rows)
    )

    async def script(admin):
        for users in (("a", "b"), ()):
            with pytest.raises(RefusedError, match=r"^b: RESOURCE_NOT_FOUND") as told:
                await admin.describe_user_scram_credentials(*users)
            assert list(told.value.errors) == ["b"]
            assert told.value.results == {"a": {"SCRAM-SHA-256": 4096}}

    cluster.play(script)


# ---- several requests to one node: what it did is not asked for again


def one_by_one(asked, answer, name_of):
    """Garbage for the second request; the names of all that come are noted."""

    def reply(node, request):
        asked.append(name_of(request))
        return GARBAGE[2] if len(asked) == 2 else answer(request)

    return reply


def test_who_was_fenced_is_not_fenced_again(stage):
    cluster, asked = Cluster(stage), []
    cluster.answers[22] = one_by_one(
        asked,
        lambda request: InitProducerIdResponse(producer_id=len(asked), producer_epoch=1),
        lambda request: request.transactional_id,
    )

    async def script(admin):
        fenced = await admin.fence_producers("a", "b", "c")
        assert {name: row.producer_id for name, row in fenced.items()} == {"a": 1, "b": 3, "c": 4}

    cluster.play(script)
    assert asked == ["a", "b", "b", "c"]


def test_what_a_login_was_changed_to_is_not_changed_again(stage):
    """A second deletion would be told as RESOURCE_NOT_FOUND."""
    cluster, asked = Cluster(stage), []
    result = AlterUserScramCredentialsResult(user="u")
    cluster.answers[51] = one_by_one(
        asked,
        lambda _: AlterUserScramCredentialsResponse(results=[result]),
        lambda request: [row.mechanism for row in request.deletions],
    )

    async def script(admin):
        await admin.alter_user_scram_credentials(
            ScramDeletion("u", "SCRAM-SHA-256"), ScramDeletion("u", "SCRAM-SHA-512")
        )

    cluster.play(script)
    assert asked == [[1], [2], [2]]


def test_offsets_that_were_deleted_are_not_deleted_again(stage):
    cluster, asked = Cluster(stage), []
    topic = OffsetDeleteResponseTopic(
        name="t", partitions=[OffsetDeleteResponsePartition(partition_index=0)]
    )
    cluster.answers[47] = one_by_one(
        asked,
        lambda _: OffsetDeleteResponse(topics=[topic]),
        lambda request: request.group_id,
    )

    async def script(admin):
        await admin.delete_group_offsets({"g": [T0], "h": [T0]})

    cluster.play(script)
    assert asked == ["g", "h", "h"]


# ---- what cannot be sent


def test_what_cannot_be_said_is_not_sent(stage):
    cluster = Cluster(stage)

    async def script(admin):
        state = ProducerState(1 << 70, 0, 0, 0, 0, 0)
        calls = (
            admin.delete_records({("t", 0): 1 << 70}),
            admin.abort_transaction(("t", 0), state),
            admin.delete_groups("g" * 40_000),
            admin.create_topics(NewTopic("t", num_partitions=1 << 40)),
        )
        for call in calls:
            with pytest.raises(KafkaError) as told:
                await call
            assert told.value.code is ErrorCode.INVALID_REQUEST

    cluster.play(script)
    assert not {key for _, key in cluster.asked} & {DELETE_RECORDS, DELETE_GROUPS, CREATE_TOPICS}


# ---- closed, cancelled


def test_a_call_under_way_ends_when_the_admin_closes(stage):
    cluster = Cluster(stage)
    cluster.answers[CREATE_TOPICS] = cluster.answers[LIST_GROUPS] = in_turn(None)

    async def script(admin):
        calls = [
            asyncio.create_task(admin.create_topics(NewTopic("t"))),
            asyncio.create_task(admin.list_groups()),
        ]
        await asyncio.sleep(1)
        await admin.close()
        for call in calls:
            with pytest.raises(ClientClosedError):
                await call
        with pytest.raises(ClientClosedError):
            await admin.list_topics()

    cluster.play(script)
    assert len(cluster.nodes_asked(CREATE_TOPICS)) == len(cluster.nodes_asked(LIST_GROUPS)) == 1


def test_a_closed_admin_connects_to_nobody_else(stage):
    """A metadata request that was under way is not asked of the next node."""
    cluster = Cluster(stage, nodes=3)

    async def script(admin):
        metadata_asked = []
        cluster._metadata = lambda: metadata_asked.append(1)
        call = asyncio.create_task(admin.delete_records({T0: 1}))
        await asyncio.sleep(1)
        await admin.close()
        with pytest.raises(ClientClosedError):
            await call
        await asyncio.sleep(5)
        assert len(metadata_asked) == 1

    cluster.play(script)


def test_a_cancelled_call_leaves_the_admin_usable(stage):
    cluster = Cluster(stage)
    cluster.answers[CREATE_TOPICS] = in_turn(None)

    async def script(admin):
        call = asyncio.create_task(admin.create_topics(NewTopic("t")))
        await asyncio.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        cluster.answers[CREATE_TOPICS] = in_turn(topics_made)
        assert len(await admin.create_topics(NewTopic("t"))) == 1

    cluster.play(script)


def test_many_calls_at_the_same_time_share_the_connections(stage):
    cluster = Cluster(stage)
    cluster.answers[LIST_GROUPS] = in_turn(ListGroupsResponse())
    cluster.answers[CREATE_TOPICS] = in_turn(topics_made)

    async def script(admin):
        calls = [admin.list_groups() for _ in range(50)]
        calls += [admin.create_topics(NewTopic("t")) for _ in range(50)]
        assert len(await asyncio.gather(*calls)) == 100

    cluster.play(script)
    assert len([key for _, key in cluster.asked if key == 18]) <= 2

"""A member and a coordinator that refuses, moves, loads and forgets, as the test says."""

import asyncio
from collections import defaultdict

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.assignment import PartitionState
from ottla.client.consumer import Consumer
from ottla.client.errors import ClientError, TimedOutError
from ottla.client.records import FetchedBatch
from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsResponse
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.heartbeat import HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.leave_group import LeaveGroupResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from ottla.protocol.messages.sync_group import SyncGroupResponse
from ottla.records.batch import read_header
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.client.test_cluster import TOPIC_ID, broker_row, topic_row
from tests.rpc.conftest import ALL_VERSIONS, PORT

JOIN, SYNC, BEAT = ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.HEARTBEAT
NEW_BEAT = ApiKey.CONSUMER_GROUP_HEARTBEAT
MOVED = [
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
]


class Coordinating:
    """Answers a member of its own; each error of `errors`, by API, is answered once before."""

    def __init__(self, errors=(), without=()):
        self.errors = defaultdict(list)
        for api, code in errors:
            self.errors[api].append(code)
        self.without = without
        self.generation = 0
        self.asked = []

    def __call__(self, header, request):
        api = header.api_key
        self.asked.append(ApiKey(api))
        error = self.errors[api].pop(0) if self.errors[api] else 0
        if error == "silence":
            return None
        match api:
            case ApiKey.API_VERSIONS:
                keys = [each for each in ALL_VERSIONS if each.api_key not in self.without]
                return ApiVersionsResponse(api_keys=keys)
            case ApiKey.METADATA:
                return MetadataResponse(
                    brokers=[broker_row()], controller_id=1, topics=[topic_row("t", 1, 1)]
                )
            case ApiKey.FIND_COORDINATOR:
                found = Coordinator(key="g", node_id=1, host="broker", port=PORT)
                return FindCoordinatorResponse(coordinators=[found])
            case ApiKey.OFFSET_FETCH:
                rows = [
                    OffsetFetchResponsePartitions(
                        partition_index=index, committed_offset=0, metadata=None
                    )
                    for index in (0, 1)
                ]
                topics = [OffsetFetchResponseTopics(name="t", partitions=rows)]
                groups = [OffsetFetchResponseGroup(group_id="g", topics=topics)]
                return OffsetFetchResponse(groups=groups)
            case ApiKey.JOIN_GROUP:
                return self.join(request, error)
            case ApiKey.SYNC_GROUP:
                shares = {each.member_id: each.assignment for each in request.assignments}
                return SyncGroupResponse(error_code=error, assignment=shares.get("me", b""))
            case ApiKey.HEARTBEAT:
                return HeartbeatResponse(error_code=error)
            case ApiKey.LEAVE_GROUP:
                return LeaveGroupResponse()
            case ApiKey.CONSUMER_GROUP_HEARTBEAT:
                return self.new_heartbeat(error)
        return None

    def join(self, request, error):
        if error:
            return JoinGroupResponse(error_code=error, member_id="me", protocol_name=None)
        self.generation += 1
        metadata = request.protocols[0].metadata
        return JoinGroupResponse(
            generation_id=self.generation,
            protocol_name="range",
            leader="me",
            member_id="me",
            members=[JoinGroupResponseMember(member_id="me", metadata=metadata)],
        )

    def new_heartbeat(self, error):
        if error:
            return ConsumerGroupHeartbeatResponse(error_code=error, error_message="so it is")
        self.generation += 1
        places = [TopicPartitions(topic_id=TOPIC_ID, partitions=[0, 1])]
        return ConsumerGroupHeartbeatResponse(
            member_epoch=self.generation,
            heartbeat_interval_ms=1_000,
            assignment=Assignment(topic_partitions=places),
        )


def play(stage, coordinating, script, on_revoked=None, **options):
    stage.listen(coordinating)

    async def whole():
        consumer = Consumer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            group_id="g",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            request_timeout_ms=3_000,
            max_poll_interval_ms=20_000,
            partition_assignment_strategy=["range"],
            enable_auto_commit=False,
            **options,
        )
        async with asyncio.timeout(120), consumer:
            # Paused, so that nothing is fetched: this coordinator has no records.
            consumer.subscribe(
                ["t"],
                on_assigned=lambda keys: consumer.pause(*keys),
                on_lost=lost.append,
                on_revoked=on_revoked,
            )
            await script(consumer)
        return lost

    lost = []
    stage.play(whole)
    return lost


async def assigned(consumer):
    while len(consumer.assignment()) < 2:
        await asyncio.sleep(0.1)


async def some_heartbeats(consumer):
    await assigned(consumer)
    reading = asyncio.create_task(consumer.poll(60_000))
    await asyncio.sleep(10)
    reading.cancel()
    await asyncio.wait([reading])
    await assigned(consumer)


@pytest.mark.parametrize(
    "api, code",
    [
        *((api, code) for api in (JOIN, SYNC, BEAT) for code in [*MOVED, "silence"]),
        (JOIN, ErrorCode.MEMBER_ID_REQUIRED),
        (JOIN, ErrorCode.REBALANCE_IN_PROGRESS),
        (SYNC, ErrorCode.REBALANCE_IN_PROGRESS),
        (BEAT, ErrorCode.REBALANCE_IN_PROGRESS),
        (JOIN, ErrorCode.UNKNOWN_MEMBER_ID),
        (SYNC, ErrorCode.UNKNOWN_MEMBER_ID),
        (SYNC, ErrorCode.ILLEGAL_GENERATION),
        *((NEW_BEAT, code) for code in [*MOVED, "silence"]),
    ],
)
def test_what_passes_is_waited_out_and_nothing_is_lost(stage, api, code):
    coordinating = Coordinating([(api, code)])
    options = {"group_protocol": "consumer"} if api is NEW_BEAT else {}
    lost = play(stage, coordinating, some_heartbeats, **options)
    assert not lost and not coordinating.errors[api]
    looks = coordinating.asked.count(ApiKey.FIND_COORDINATOR)
    has_moved = code in (*MOVED[:2], "silence")
    assert looks == (2 if has_moved else 1), "the coordinator is looked for again if it moved"


@pytest.mark.parametrize(
    "api, code",
    [
        (BEAT, ErrorCode.UNKNOWN_MEMBER_ID),
        (BEAT, ErrorCode.ILLEGAL_GENERATION),
        (NEW_BEAT, ErrorCode.UNKNOWN_MEMBER_ID),
        (NEW_BEAT, ErrorCode.FENCED_MEMBER_EPOCH),
    ],
)
def test_who_is_out_is_told_what_it_lost_and_joins_anew(stage, api, code):
    coordinating = Coordinating()

    async def script(consumer):
        await assigned(consumer)
        coordinating.errors[api].append(code)
        await some_heartbeats(consumer)

    options = {"group_protocol": "consumer"} if api is NEW_BEAT else {}
    lost = play(stage, coordinating, script, **options)
    assert lost == [[TopicPartition("t", 0), TopicPartition("t", 1)]]


@pytest.mark.parametrize(
    "api, code",
    [
        (JOIN, ErrorCode.GROUP_AUTHORIZATION_FAILED),
        (JOIN, ErrorCode.GROUP_MAX_SIZE_REACHED),
        (SYNC, ErrorCode.FENCED_INSTANCE_ID),
        (BEAT, ErrorCode.FENCED_INSTANCE_ID),
        (NEW_BEAT, ErrorCode.UNSUPPORTED_ASSIGNOR),
    ],
)
def test_what_cannot_be_mended_is_raised_by_every_read(stage, api, code):
    async def script(consumer):
        for _ in range(2):
            with pytest.raises(KafkaError) as told:
                await consumer.poll(60_000)
            assert told.value.code is code
        await consumer.unsubscribe()
        consumer.subscribe(["t"])
        await assigned(consumer)

    options = {"group_protocol": "consumer"} if api is NEW_BEAT else {}
    play(stage, Coordinating([(api, code)]), script, **options)


def test_a_rebalance_that_takes_long_is_one_rebalance(stage):
    coordinating = Coordinating()

    async def slowly(keys):
        while coordinating.errors[BEAT]:  # told again and again that there is a rebalance
            await asyncio.sleep(0.5)

    async def script(consumer):
        await assigned(consumer)
        coordinating.errors[BEAT] += [ErrorCode.REBALANCE_IN_PROGRESS] * 5
        await some_heartbeats(consumer)
        assert coordinating.asked.count(JOIN) == 2

    play(stage, coordinating, script, slowly)


def test_a_commit_is_not_held_up_for_ever_by_a_rebalance(stage):
    coordinating = Coordinating()

    async def script(consumer):
        await assigned(consumer)
        coordinating.errors[JOIN].append("silence")
        coordinating.errors[BEAT].append(ErrorCode.REBALANCE_IN_PROGRESS)
        await consumer.poll(3_000)
        with pytest.raises(TimedOutError, match="rebalanced for too long"):
            await consumer.commit({("t", 1): 5})

    play(stage, coordinating, script, default_api_timeout_ms=2_000)


def test_a_broker_without_the_new_protocol_is_told(stage):
    async def script(consumer):
        with pytest.raises(ClientError, match="does not speak the protocol 'consumer'"):
            await consumer.poll(60_000)

    play(stage, Coordinating(without=[NEW_BEAT]), script, group_protocol="consumer")


def test_leaving_while_a_join_waits_does_not_wait_for_it(stage):
    coordinating = Coordinating()

    async def script(consumer):
        await assigned(consumer)
        coordinating.errors[JOIN].append("silence")
        coordinating.errors[BEAT].append(ErrorCode.REBALANCE_IN_PROGRESS)
        await some_seconds(consumer)
        began = asyncio.get_running_loop().time()
        await consumer.unsubscribe()
        assert asyncio.get_running_loop().time() - began < 1
        assert coordinating.asked[-1] is ApiKey.LEAVE_GROUP

    async def some_seconds(consumer):
        assert await consumer.poll(3_000) == []

    play(stage, coordinating, script)


def test_a_batch_with_nothing_to_hand_out_is_not_in_hand():
    state = PartitionState(TopicPartition("t", 0))
    state.seek(0)
    data = memoryview(build_batch([Record(0, 0, None, b"", ())]))
    header = read_header(data, 0)._replace(record_count=0, last_offset_delta=3)
    state.add(FetchedBatch(header, data))
    assert state.first() is None
    assert (state.position, state.done, state.is_in_hand) == (4, 4, False)

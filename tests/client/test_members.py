"""Members without I/O: what they say, and what the answers mean to them."""

import random

import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition, Uuid
from ottla.client.classic_member import ClassicMember, Turn
from ottla.client.consumer_member import ConsumerMember
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.offsets import GroupMetadata
from ottla.client.subscription import Subscription
from ottla.protocol.consumer_protocol import (
    assignment_bytes,
    read_assignment,
    read_sticky,
    read_subscription,
)
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.sync_group import SyncGroupResponse

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
ID = Uuid(b"i" * 16)


def classic(*strategies, **options):
    strategies = strategies or ("range",)
    return ClassicMember(
        ConsumerSettings(group_id="g", partition_assignment_strategy=strategies, **options)
    )


def joined(member, generation=3, **fields):
    answer = JoinGroupResponse(
        generation_id=generation, member_id="me", protocol_name="range", leader="me", **fields
    )
    assert member.joined(answer) is Turn.GO_ON


def said(member, owned=()):
    request = member.join_request(["t"], owned)
    return {each.name: read_subscription(each.metadata) for each in request.protocols}


# ---- the classic protocol


@pytest.mark.parametrize(
    "code, turn, id_after, generation_after",
    [
        (ErrorCode.NONE, Turn.GO_ON, "me", 3),
        (ErrorCode.REBALANCE_IN_PROGRESS, Turn.REJOIN, "me", 3),
        (ErrorCode.ILLEGAL_GENERATION, Turn.OUT, "me", -1),
        (ErrorCode.UNKNOWN_MEMBER_ID, Turn.OUT, "", -1),
    ],
)
def test_what_errors_mean(code, turn, id_after, generation_after):
    member = classic()
    joined(member)
    assert member.turn(code) is turn
    assert member.metadata == GroupMetadata("g", generation_after, id_after, None)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode.INVALID_SESSION_TIMEOUT,
        ErrorCode.UNSUPPORTED_VERSION,
        4_711,
    ],
)
def test_what_cannot_be_mended_is_raised(code):
    with pytest.raises(KafkaError):
        classic().turn(code)


def test_a_member_id_is_given_before_the_join():
    member = classic()
    answer = JoinGroupResponse(
        error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id="me", protocol_name=None
    )
    assert member.joined(answer) is Turn.REJOIN
    assert member.join_request(["t"], []).member_id == "me" and member.generation == -1


def test_eager_members_join_with_nothing_and_cooperative_ones_with_what_they_have():
    eager = said(classic("range", "cooperative-sticky"), [T0])
    assert list(eager) == ["range", "cooperative-sticky"]
    assert all(not each.owned_partitions for each in eager.values())
    member = classic("cooperative-sticky", client_rack="r1")
    joined(member)
    member.synced(SyncGroupResponse(assignment=assignment_bytes({"t": [0, 1]}, 3)))
    told = said(member, [T0, T1])["cooperative-sticky"]
    assert [(each.topic, each.partitions) for each in told.owned_partitions] == [("t", [0, 1])]
    assert (told.generation_id, told.rack_id) == (3, "r1")


def test_the_sticky_assignor_is_told_what_the_member_had():
    member = classic("sticky")
    assert said(member)["sticky"].user_data is None
    joined(member)
    assert member.synced(SyncGroupResponse(assignment=assignment_bytes({"t": [1]}, 0))) == [T1]
    past = read_sticky(said(member)["sticky"].user_data)
    assert (past.previous_assignment[0].partitions, past.generation) == ([1], 3)


def test_a_leader_shares_out_among_all_by_the_assignor_that_was_chosen():
    member = classic()
    metadata = member.join_request(["t"], []).protocols[0].metadata
    answer = JoinGroupResponse(
        protocol_name="range",
        leader="me",
        member_id="me",
        members=[JoinGroupResponseMember(member_id=m, metadata=metadata) for m in ("me", "you")],
    )
    member.joined(answer)
    assert member.is_leader
    shares = member.assign(member.members_of(answer), {"t": 3})
    read = {m: read_assignment(data).assigned_partitions[0] for m, data in shares.items()}
    assert {m: row.partitions for m, row in read.items()} == {"me": [0, 1], "you": [2]}
    member.protocol_name = "streams"
    with pytest.raises(KafkaError, match="'streams', which was not offered"):
        member.assign({}, {})


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\0\0\7", b"\xff\xff\0\0\0\0"])
def test_an_assignment_that_is_none_is_told(data):
    with pytest.raises(KafkaError, match="the leader's assignment"):
        classic().synced(SyncGroupResponse(assignment=data))


def test_no_bytes_are_an_assignment_of_nothing():
    assert classic().synced(SyncGroupResponse(assignment=b"")) == []


# ---- the protocol of KIP-848


def newer(**options):
    return ConsumerMember(ConsumerSettings(group_id="g", **options), random.Random(1))


def answer(epoch=1, places=None, **fields):
    assignment = None
    if places is not None:
        assignment = Assignment(topic_partitions=[TopicPartitions(topic_id=ID, partitions=places)])
    return ConsumerGroupHeartbeatResponse(
        member_id=None, member_epoch=epoch, assignment=assignment, **fields
    )


def fields_of(request):
    return {
        name: value
        for name in (
            "rebalance_timeout_ms",
            "subscribed_topic_names",
            "subscribed_topic_regex",
            "server_assignor",
            "topic_partitions",
        )
        if (value := getattr(request, name)) not in (None, -1)
    }


def test_joining_says_everything_and_after_that_what_is_new():
    member, topics = newer(group_remote_assignor="uniform"), Subscription(("u", "t"))
    first = member.heartbeat(topics, [])
    assert (first.member_epoch, len(first.member_id)) == (0, 22)
    everything = {
        "rebalance_timeout_ms": 300_000,
        "subscribed_topic_names": ["t", "u"],
        "server_assignor": "uniform",
        "topic_partitions": [],
    }
    assert fields_of(first) == everything
    assert member.answered(answer(places=[0, 1], heartbeat_interval_ms=77))
    assert member.target == {(ID, 0), (ID, 1)} and member.heartbeat_interval_ms == 77
    assert fields_of(member.heartbeat(topics, [])) == {}
    owned = TopicPartitions(topic_id=ID, partitions=[0, 1])
    assert fields_of(member.heartbeat(topics, [(ID, 1), (ID, 0)])) == {"topic_partitions": [owned]}
    assert member.answered(answer(epoch=2))
    assert member.target == {(ID, 0), (ID, 1)}, "nothing has changed"
    member.not_answered()
    again = fields_of(member.heartbeat(topics, [(ID, 0), (ID, 1)]))
    assert again == everything | {"topic_partitions": [owned]}


def test_a_pattern_is_said_and_taken_back():
    member = newer()
    assert fields_of(member.heartbeat(Subscription((), "a.*"), []))["subscribed_topic_regex"] == (
        "a.*"
    )
    member.answered(answer())
    later = fields_of(member.heartbeat(Subscription(("t",)), []))
    assert later == {"subscribed_topic_regex": "", "subscribed_topic_names": ["t"]}


@pytest.mark.parametrize("code", [ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID])
def test_who_is_fenced_joins_anew_under_the_same_id(code):
    member = newer()
    first = member.heartbeat(Subscription(("t",)), [])
    member.answered(answer(epoch=5, places=[0]))
    assert member.metadata.generation_id == 5
    assert not member.answered(answer(error_code=code))
    assert member.target is None and member.metadata.generation_id == -1
    again = member.heartbeat(Subscription(("t",)), [])
    assert again == first


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNRELEASED_INSTANCE_ID,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.UNSUPPORTED_ASSIGNOR,
        ErrorCode.INVALID_REGULAR_EXPRESSION,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        4_711,
    ],
)
def test_what_cannot_be_mended_is_raised_with_the_brokers_words(code):
    with pytest.raises(KafkaError, match="so it is"):
        newer().answered(answer(error_code=code, error_message="so it is"))


@pytest.mark.parametrize("instance_id, epoch", [(None, -1), ("one", -2)])
def test_leaving_for_good_or_for_now(instance_id, epoch):
    member = newer(group_instance_id=instance_id)
    member.answered(answer(epoch=5))
    request = member.leaving()
    assert (request.member_epoch, request.instance_id) == (epoch, instance_id)
    assert fields_of(request) == {} and member.epoch == 0

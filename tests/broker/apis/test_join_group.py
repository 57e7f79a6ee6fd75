"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup through the handlers, in every version."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

FEW = {"offsets.topic.num.partitions": "3", "group.initial.rebalance.delay.ms": "0"}


def join(member_id="", group="g", **fields):
    return JoinGroupRequest(
        **{
            "group_id": group,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "member_id": member_id,
            "protocol_type": "consumer",
            "protocols": [JoinGroupRequestProtocol(name="range", metadata=b"topics")],
            **fields,
        }
    )


def sync(member_id, generation, share=None, group="g", **fields):
    rows = [SyncGroupRequestAssignment(member_id=member_id, assignment=share)] if share else []
    return SyncGroupRequest(
        group_id=group,
        generation_id=generation,
        member_id=member_id,
        assignments=rows,
        **fields,
    )


async def found(node):
    answer = await node.ask(FindCoordinatorRequest(key="g"), 3)
    assert not answer.error_code


@pytest.mark.parametrize("version", range(10))
def test_a_member_joins_syncs_beats_and_leaves(on_node, version):
    sync_version = min(version, 5)
    beat_version = min(version, 4)

    async def test(node):
        await found(node)
        answer = await node.ask(join(), version)
        if version >= 4:
            assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
            assert answer.protocol_name == (None if version >= 7 else "")
            answer = await node.ask(join(answer.member_id), version)
        member = answer.member_id
        assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, member)
        assert answer.protocol_name == "range"
        assert answer.protocol_type == ("consumer" if version >= 7 else None)
        assert [row.metadata for row in answer.members] == [b"topics"]
        fields = (
            {"protocol_type": "consumer", "protocol_name": "range"} if sync_version == 5 else {}
        )
        answer = await node.ask(sync(member, 1, b"mine", **fields), sync_version)
        assert (answer.error_code, answer.assignment) == (0, b"mine")
        assert answer.protocol_name == ("range" if sync_version == 5 else None)
        beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=member)
        assert (await node.ask(beat, beat_version)).error_code == 0
        request = LeaveGroupRequest(group_id="g", member_id=member)
        if sync_version >= 3:
            request = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member)])
        answer = await node.ask(request, sync_version)
        assert answer.error_code == 0
        assert [row.error_code for row in answer.members] == ([0] if sync_version >= 3 else [])
        answer = await node.ask(request, sync_version)
        codes = [row.error_code for row in answer.members] or [answer.error_code]
        assert codes == [ErrorCode.UNKNOWN_MEMBER_ID]
        assert (await node.ask(beat, beat_version)).error_code == ErrorCode.UNKNOWN_MEMBER_ID

    on_node(test, FEW)


def test_without_a_coordinator_nobody_joins(on_node):
    async def test(node):
        code = ErrorCode.NOT_COORDINATOR
        beat = HeartbeatRequest(group_id="g", generation_id=1, member_id="m")
        leave = LeaveGroupRequest(group_id="g", members=[])
        named = {"protocol_type": "consumer", "protocol_name": "range"}
        for request in (join(), sync("m", 1, **named), beat, leave):
            assert (await node.ask(request)).error_code == code

    on_node(test)


def test_what_is_wrong_with_a_request_is_said_first(on_node):
    async def test(node):
        await found(node)
        code = ErrorCode.INVALID_GROUP_ID
        beat = HeartbeatRequest(group_id="", generation_id=1, member_id="m")
        leave = LeaveGroupRequest(group_id="", members=[])
        named = {"protocol_type": "consumer", "protocol_name": "range"}
        for request in (join(group=""), sync("m", 1, group="", **named), beat, leave):
            assert (await node.ask(request)).error_code == code
        for timeout_ms in (5_999, 1_800_001, -1, 2**31 - 1):
            answer = await node.ask(join(session_timeout_ms=timeout_ms))
            assert answer.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
        for missing in named:
            rest = {key: value for key, value in named.items() if key != missing}
            answer = await node.ask(sync("m", 1, **rest))
            assert answer.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    on_node(test, FEW)


def test_who_waits_is_told_when_the_topic_goes(on_node):
    async def test(node):
        await found(node)
        answer = await node.ask(join())
        waiting = node.begin(join(answer.member_id, rebalance_timeout_ms=100_000))
        topic = node.image.topics["__consumer_offsets"]
        await node.services.controller.delete_topic(topic.id)
        assert (await waiting).error_code == ErrorCode.NOT_COORDINATOR
        assert (await node.ask(join())).error_code == ErrorCode.NOT_COORDINATOR
        await found(node)
        assert (await node.ask(join())).error_code == ErrorCode.MEMBER_ID_REQUIRED

    on_node(test, {**FEW, "group.initial.rebalance.delay.ms": "60000"})


def test_a_node_that_stops_tells_who_waits(on_node):
    asked = []

    async def test(node):
        await found(node)
        answer = await node.ask(join())
        asked.append(node.begin(join(answer.member_id)))
        await asyncio.sleep(0)

    on_node(test, {**FEW, "group.initial.rebalance.delay.ms": "60000"})
    (waiting,) = asked
    assert waiting.result().error_code == ErrorCode.NOT_COORDINATOR

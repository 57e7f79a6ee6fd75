"""ConsumerGroupHeartbeat, ConsumerGroupDescribe and their friends through the handlers."""

import asyncio

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
)

FEW = {"offsets.topic.num.partitions": "3"}


def beat(epoch=0, group="g", member_id="m", **fields):
    if epoch == 0:
        fields = {
            "rebalance_timeout_ms": 1_000,
            "subscribed_topic_names": ["a"],
            "topic_partitions": [],
            **fields,
        }
    return ConsumerGroupHeartbeatRequest(
        group_id=group, member_id=member_id, member_epoch=epoch, **fields
    )


async def joined(node, *args, **fields):
    await node.ask(FindCoordinatorRequest(key="g", key_type=0), 2)
    answer = await node.ask(beat(*args, **fields))
    while answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
        await asyncio.sleep(0.01)
        answer = await node.ask(beat(*args, **fields))
    return answer


async def described(node, *groups, version=1):
    request = ConsumerGroupDescribeRequest(
        group_ids=list(groups), include_authorized_operations=True
    )
    return (await node.ask(request, version)).groups


@pytest.mark.parametrize("version", [0, 1])
def test_a_member_joins_is_described_and_leaves(on_node, version):
    async def test(node):
        await node.topic("a", 2)
        answer = await joined(node)
        assert (answer.error_code, answer.member_epoch) == (0, 1)
        (row,) = answer.assignment.topic_partitions
        assert (row.topic_id, row.partitions) == (node.image.topics["a"].id, [0, 1])
        (group,) = await described(node, "g", "g", version=version)
        assert (group.error_code, group.group_state, group.assignor_name) == (
            0,
            "Stable",
            "uniform",
        )
        assert (group.group_epoch, group.assignment_epoch) == (1, 1)
        (member,) = group.members
        assert member.subscribed_topic_names == ["a"]
        assert member.member_type == (1 if version else -1)
        for share in (member.assignment, member.target_assignment):
            (row,) = share.topic_partitions
            assert (row.topic_name, row.partitions) == ("a", [0, 1])
        assert (await node.ask(beat(1), version)).assignment is None
        assert (await node.ask(beat(-1), version)).member_epoch == -1
        (group,) = await described(node, "g")
        assert (group.group_state, group.members) == ("Empty", [])

    on_node(test, FEW)


def test_it_is_listed_and_no_classic_group(on_node):
    async def test(node):
        await node.topic("a")
        await joined(node)
        for types, count in (([], 1), (["Consumer"], 1), (["classic"], 0)):
            answer = await node.ask(ListGroupsRequest(states_filter=[], types_filter=types))
            assert [each.group_id for each in answer.groups] == ["g"] * count
        answer = await node.ask(ListGroupsRequest(states_filter=["stable"], types_filter=[]))
        (row,) = answer.groups
        assert (row.group_type, row.protocol_type, row.group_state) == (
            "consumer",
            "consumer",
            "Stable",
        )
        request = DescribeGroupsRequest(groups=["g"])
        assert (await node.ask(request, 5)).groups[0].group_state == "Dead"
        (group,) = (await node.ask(request, 6)).groups
        assert group.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert "not a classic group" in group.error_message

    on_node(test, FEW)


def test_it_is_deleted_when_it_is_empty(on_node):
    async def test(node):
        await node.topic("a")
        await joined(node)
        delete = DeleteGroupsRequest(groups_names=["g"])
        (row,) = (await node.ask(delete)).results
        assert row.error_code == ErrorCode.NON_EMPTY_GROUP
        await node.ask(beat(-1))
        (row,) = (await node.ask(delete)).results
        assert row.error_code == 0
        (group,) = await described(node, "g")
        assert group.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert group.error_message

    on_node(test, FEW)


def test_offsets_of_a_member(on_node):
    async def test(node):
        await node.topic("a")
        await joined(node)

        async def fetched(member_id, epoch):
            group = OffsetFetchRequestGroup(
                group_id="g", member_id=member_id, member_epoch=epoch, topics=None
            )
            answer = await node.ask(OffsetFetchRequest(groups=[group]), 9)
            return answer.groups[0].error_code

        assert await fetched("m", 1) == 0
        assert await fetched(None, -1) == 0
        assert await fetched("m", 2) == ErrorCode.STALE_MEMBER_EPOCH
        assert await fetched("x", 1) == ErrorCode.UNKNOWN_MEMBER_ID
        answer = await node.ask(
            OffsetDeleteRequest(
                group_id="g",
                topics=[
                    OffsetDeleteRequestTopic(
                        name="a", partitions=[OffsetDeleteRequestPartition(partition_index=0)]
                    )
                ],
            )
        )
        code = answer.topics[0].partitions[0].error_code
        assert code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC

    on_node(test, FEW)


def test_refused(on_node):
    async def test(node):
        answer = await joined(node, group="")
        assert answer.error_code == ErrorCode.INVALID_REQUEST
        answer = await joined(node, epoch=3)
        assert answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND
        assert answer.error_message

    on_node(test, FEW)


def test_the_protocol_may_be_switched_off(on_node):
    async def test(node):
        answer = await joined(node)
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION

    on_node(test, {**FEW, "group.coordinator.rebalance.protocols": "classic"})


def test_an_expression_made_to_explode_does_not_hold_the_loop(on_node):
    """RE2 has no back-tracking: what takes others years is done with the request."""

    async def test(node):
        for number in range(20):
            await node.topic("a" * 200 + str(number))
        await joined(node, subscribed_topic_names=None, subscribed_topic_regex="(a*)*(a|aa)+b")
        answer = await node.ask(beat(1))
        assert answer.error_code == 0
        for regex in ("(a+)+\\1", "(?=a)b", "a{1,1000}{1,1000}", "(" * 2_000):
            answer = await node.ask(
                beat(member_id="n", subscribed_topic_names=None, subscribed_topic_regex=regex)
            )
            assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION

    on_node(test, FEW)

"""DescribeGroups, ListGroups and DeleteGroups through the handlers, in every version."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.list_groups import ListGroupsRequest
from tests.broker.apis.test_join_group import FEW, join, sync
from tests.broker.apis.test_offset_commit import commit

GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
"""Read, Delete, Describe, Describe Configs, Alter Configs."""


async def two_groups(node):
    """`live` has a member, `simple` has offsets."""
    await node.ask(FindCoordinatorRequest(key="g"), 3)
    await node.topic("t")
    member = (await node.ask(join(group="live"))).member_id
    await node.ask(join(member, group="live"))
    await node.ask(sync(member, 1, b"mine", group="live"), 4)
    await node.ask(commit({"t": {0: (5, -1, None)}}, group="simple"), 9)
    return member


@pytest.mark.parametrize("version", range(7))
def test_describe(on_node, version):
    async def test(node):
        member = await two_groups(node)
        request = DescribeGroupsRequest(
            groups=["live", "simple", "nobody", "live"],
            include_authorized_operations=version >= 3,
        )
        live, simple, nobody = (await node.ask(request, version)).groups
        assert (live.group_id, live.group_state, live.protocol_type, live.protocol_data) == (
            "live",
            "Stable",
            "consumer",
            "range",
        )
        (row,) = live.members
        assert (row.member_id, row.client_id, row.member_metadata, row.member_assignment) == (
            member,
            "test",
            b"topics",
            b"mine",
        )
        assert (simple.group_state, simple.protocol_type, simple.members) == ("Empty", "", [])
        assert nobody.group_state == "Dead"
        assert nobody.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
        if version >= 3:
            assert live.authorized_operations == GROUP_OPERATIONS

    on_node(test, FEW)


@pytest.mark.parametrize("version", range(6))
def test_list(on_node, version):
    async def test(node):
        assert (await node.ask(ListGroupsRequest(), version)).groups == []
        await two_groups(node)

        async def listed(**filters):
            answer = await node.ask(ListGroupsRequest(**filters), version)
            assert answer.error_code == 0
            return {row.group_id: row for row in answer.groups}

        rows = await listed()
        assert set(rows) == {"live", "simple"}
        assert rows["live"].protocol_type == "consumer"
        if version >= 4:
            assert (rows["live"].group_state, rows["simple"].group_state) == ("Stable", "Empty")
            assert set(await listed(states_filter=["STABLE ", "Dead"])) == {"live"}
        if version >= 5:
            assert rows["live"].group_type == "classic"
            assert set(await listed(types_filter=["Classic"])) == {"live", "simple"}
            assert await listed(types_filter=["consumer"]) == {}

    on_node(test, FEW)


@pytest.mark.parametrize("version", range(4))
def test_delete(on_node, version):
    async def test(node):
        await two_groups(node)
        request = DeleteGroupsRequest(groups_names=["live", "simple", "nobody", "simple"])
        answer = await node.ask(request, version)
        assert {row.group_id: row.error_code for row in answer.results} == {
            "live": ErrorCode.NON_EMPTY_GROUP,
            "simple": 0,
            "nobody": ErrorCode.GROUP_ID_NOT_FOUND,
        }
        groups = (await node.ask(ListGroupsRequest())).groups
        assert [row.group_id for row in groups] == ["live"]

    on_node(test, FEW)


def test_without_a_coordinator(on_node):
    async def test(node):
        code = ErrorCode.NOT_COORDINATOR
        (row,) = (await node.ask(DescribeGroupsRequest(groups=["g"]))).groups
        assert row.error_code == code
        (result,) = (await node.ask(DeleteGroupsRequest(groups_names=["g"]))).results
        assert result.error_code == code

    on_node(test)

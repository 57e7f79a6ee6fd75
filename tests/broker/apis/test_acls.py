"""CreateAcls, DescribeAcls and DeleteAcls through the handlers, in every version."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.limits import ACLS_COUNT
from ottla.metadata import acl_control
from ottla.protocol.messages.create_acls import AclCreation, CreateAclsRequest
from ottla.protocol.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from ottla.protocol.messages.describe_acls import DescribeAclsRequest
from ottla.security.acl import Operation, PatternType, Permission, ResourceType

ON = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:other; User:ANONYMOUS",
}


def entry(name="t", principal="User:alice", **fields):
    return AclCreation(
        **{
            "resource_type": ResourceType.TOPIC,
            "resource_name": name,
            "resource_pattern_type": PatternType.LITERAL,
            "principal": principal,
            "host": "*",
            "operation": Operation.READ,
            "permission_type": Permission.ALLOW,
            **fields,
        }
    )


def asked(cls, **fields):
    return cls(
        **{
            "resource_type_filter": ResourceType.ANY,
            "resource_name_filter": None,
            "pattern_type_filter": PatternType.ANY,
            "principal_filter": None,
            "host_filter": None,
            "operation": Operation.ANY,
            "permission_type": Permission.ANY,
            **fields,
        }
    )


async def create(node, *creations, version=3):
    response = await node.ask(CreateAclsRequest(creations=list(creations)), version)
    return [row.error_code for row in response.results]


async def described(node, version=3, **fields):
    """(resource type, name, pattern type, principal) of what is found."""
    response = await node.ask(asked(DescribeAclsRequest, **fields), version)
    assert not response.error_code
    return [
        (each.resource_type, each.resource_name, each.pattern_type, acl.principal)
        for each in response.resources
        for acl in each.acls
    ]


async def delete(node, *filters, version=3):
    request = DeleteAclsRequest(filters=[asked(DeleteAclsFilter, **each) for each in filters])
    response = await node.ask(request, version)
    return [
        (row.error_code, sorted(acl.resource_name for acl in row.matching_acls))
        for row in response.filter_results
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_made_described_and_removed(on_node, version):
    async def test(node):
        prefixed = entry("app-", resource_pattern_type=PatternType.PREFIXED)
        group = entry("g", "User:bob", resource_type=ResourceType.GROUP)
        assert await create(node, entry(), prefixed, group, version=version) == [0, 0, 0]
        topic = ResourceType.TOPIC
        rows = [
            (topic, "app-", PatternType.PREFIXED, "User:alice"),
            (topic, "t", PatternType.LITERAL, "User:alice"),
            (ResourceType.GROUP, "g", PatternType.LITERAL, "User:bob"),
        ]
        assert sorted(await described(node, version)) == sorted(rows)
        found = await described(
            node, version, resource_name_filter="app-1", pattern_type_filter=PatternType.MATCH
        )
        assert found == rows[:1]
        filters = [{"principal_filter": "User:alice"}, {"resource_name_filter": "nope"}]
        assert await delete(node, *filters, version=version) == [(0, ["app-", "t"]), (0, [])]
        assert await described(node, version) == rows[2:]

    on_node(test, ON)


def test_an_entry_that_is_there_is_no_error_and_is_kept_once(on_node):
    async def test(node):
        assert await create(node, entry(), entry()) == [0, 0]
        revision = node.image.revision
        assert await create(node, entry()) == [0]
        assert node.image.revision == revision
        assert len(await described(node)) == 1

    on_node(test, ON)


def test_what_cannot_be_kept_is_refused_alone(on_node):
    async def test(node):
        bad = [
            entry(""),
            entry(principal="alice"),
            entry(operation=Operation.ANY),
            entry(operation=99),
            entry(resource_type=ResourceType.CLUSTER),
            entry(resource_pattern_type=PatternType.MATCH),
            entry(permission_type=0),
        ]
        codes = await create(node, *bad, entry())
        assert codes == [ErrorCode.INVALID_REQUEST] * len(bad) + [0]
        assert len(await described(node)) == 1

    on_node(test, ON)


def test_a_filter_that_is_not_understood(on_node):
    async def test(node):
        await create(node, entry())
        unknown = {"operation": 99}
        assert await delete(node, unknown) == [(ErrorCode.INVALID_REQUEST, [])]
        response = await node.ask(asked(DescribeAclsRequest, **unknown))
        assert response.error_code == ErrorCode.INVALID_REQUEST
        assert len(await described(node)) == 1

    on_node(test, ON)


def test_without_an_authorizer_there_is_no_security(on_node):
    async def test(node):
        assert await create(node, entry(), entry("u")) == [ErrorCode.SECURITY_DISABLED] * 2
        assert await delete(node, {}) == [(ErrorCode.SECURITY_DISABLED, [])]
        response = await node.ask(asked(DescribeAclsRequest))
        assert response.error_code == ErrorCode.SECURITY_DISABLED

    on_node(test)


def test_entries_are_bounded(on_node, monkeypatch):
    monkeypatch.setattr(acl_control, "ACLS_COUNT", 3)
    monkeypatch.setattr(acl_control, "PER_REQUEST", 2)
    assert ACLS_COUNT > 3

    async def test(node):
        assert (
            await create(node, *(entry(f"t{n}") for n in range(3)))
            == [ErrorCode.POLICY_VIOLATION] * 3
        )
        assert await create(node, entry("a"), entry("b")) == [0, 0]
        assert await create(node, entry("c")) == [0]
        assert await create(node, entry("d")) == [ErrorCode.POLICY_VIOLATION]
        assert await delete(node, {}) == [(ErrorCode.POLICY_VIOLATION, [])]
        assert len(await described(node)) == 3

    on_node(test, ON)


def test_two_who_make_the_same_entry_at_once_both_succeed(on_node):
    async def test(node):
        first = node.begin(CreateAclsRequest(creations=[entry(), entry("u")]))
        second = node.begin(CreateAclsRequest(creations=[entry(), entry("v")]))
        for answer in (await first, await second):
            assert [row.error_code for row in answer.results] == [0, 0]
        assert sorted(name for _, name, _, _ in await described(node)) == ["t", "u", "v"]

    on_node(test, ON)


def test_another_authorizer_is_refused_at_the_start(on_node):
    async def test(node):
        raise AssertionError("it started")

    with pytest.raises(Exception, match=r"authorizer\.class\.name"):
        on_node(test, {"authorizer.class.name": "com.example.Mine"})

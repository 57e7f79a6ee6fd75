"""Access control entries: who may do what (KIP-11, KIP-290).

Any broker takes them and passes them on. An entry or a filter is answered by its place in the
request, not by name.
"""

from collections.abc import Sequence

from ottla.base.errors import KafkaError
from ottla.client.asking import Asking, refusal
from ottla.client.rows import Acl, AclFilter, Operation, PatternType, Permission, ResourceType
from ottla.protocol.messages.create_acls import AclCreation, CreateAclsRequest, CreateAclsResponse
from ottla.protocol.messages.delete_acls import (
    DeleteAclsFilter,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from ottla.protocol.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)
from ottla.security.acl import known


class AclAdmin(Asking):
    async def create_acls(self, *acls: Acl) -> None:
        """Add entries; one that is there already is no error."""

        async def ask(node: int, items: Sequence[Acl]) -> dict[Acl, KafkaError | None]:
            request = CreateAclsRequest(creations=[_creation(acl) for acl in items])
            response = await self._send(node, request, CreateAclsResponse)
            return {
                acl: refusal(row.error_code, row.error_message, _text(acl))
                for acl, row in zip(items, response.results, strict=False)
            }

        await self._each("create_acls", acls, self._anyone(), ask)

    async def describe_acls(self, wanted: AclFilter = AclFilter()) -> list[Acl]:  # noqa: B008
        """The entries that a filter finds; `AclFilter()` finds all."""
        request = DescribeAclsRequest(
            resource_type_filter=wanted.resource_type,
            resource_name_filter=wanted.name,
            pattern_type_filter=wanted.pattern_type,
            principal_filter=wanted.principal,
            host_filter=wanted.host,
            operation=wanted.operation,
            permission_type=wanted.permission,
        )
        response = await self._one(self._anyone(), request, DescribeAclsResponse)
        return [_acl(resource, row) for resource in response.resources for row in resource.acls]

    async def delete_acls(self, *filters: AclFilter) -> dict[AclFilter, list[Acl]]:
        """Remove the entries that filters find; those that went, by filter."""

        async def ask(
            node: int, items: Sequence[AclFilter]
        ) -> dict[AclFilter, list[Acl] | KafkaError]:
            request = DeleteAclsRequest(filters=[_filter(each) for each in items])
            response = await self._send(node, request, DeleteAclsResponse)
            return {
                each: refusal(row.error_code, row.error_message, _text(each))
                or _deleted(row.matching_acls)
                for each, row in zip(items, response.filter_results, strict=False)
            }

        return await self._each("delete_acls", filters, self._anyone(), ask)


def _acl(
    resource: DescribeAclsResource | DeleteAclsMatchingAcl,
    row: AclDescription | DeleteAclsMatchingAcl,
) -> Acl:
    return Acl(
        known(ResourceType, resource.resource_type),
        known(PatternType, resource.pattern_type),
        resource.resource_name,
        row.principal,
        row.host,
        known(Operation, row.operation),
        known(Permission, row.permission_type),
    )


def _deleted(rows: Sequence[DeleteAclsMatchingAcl]) -> list[Acl] | KafkaError:
    """KafkaError where one that was found could not be removed."""
    found = []
    for row in rows:
        acl = _acl(row, row)
        error = refusal(row.error_code, row.error_message, _text(acl))
        if error is not None:
            return error
        found.append(acl)
    return found


def _creation(acl: Acl) -> AclCreation:
    return AclCreation(
        resource_type=acl.resource_type,
        resource_name=acl.name,
        resource_pattern_type=acl.pattern_type,
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission,
    )


def _filter(each: AclFilter) -> DeleteAclsFilter:
    return DeleteAclsFilter(
        resource_type_filter=each.resource_type,
        resource_name_filter=each.name,
        pattern_type_filter=each.pattern_type,
        principal_filter=each.principal,
        host_filter=each.host,
        operation=each.operation,
        permission_type=each.permission,
    )


def _text(acl: Acl | AclFilter) -> str:
    return (
        f"{acl.permission.name} {acl.principal} {acl.operation.name} on"
        f" {acl.resource_type.name} {acl.name!r}"
    )

"""DeleteAcls (key 31): remove the access control entries that filters match.

Versions. 1 is the floor and has types of patterns, 2 is flexible, 3 knows users as resources.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class DeleteAclsFilter(Struct):
    resource_type_filter: int = field(int8)
    resource_name_filter: str | None = field(nullable="0+")
    pattern_type_filter: int = field(int8, versions="1+", default=3)
    principal_filter: str | None = field(nullable="0+")
    host_filter: str | None = field(nullable="0+")
    operation: int = field(int8)
    permission_type: int = field(int8)


class DeleteAclsRequest(Request, api=ApiKey.DELETE_ACLS, versions="1-3", flexible="2+"):
    filters: list[DeleteAclsFilter] = field()


class DeleteAclsMatchingAcl(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    resource_type: int = field(int8)
    resource_name: str = field()
    pattern_type: int = field(int8, versions="1+", default=3)
    principal: str = field()
    host: str = field()
    operation: int = field(int8)
    permission_type: int = field(int8)


class DeleteAclsFilterResult(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    matching_acls: list[DeleteAclsMatchingAcl] = field()


class DeleteAclsResponse(Response, api=ApiKey.DELETE_ACLS, versions="1-3", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    filter_results: list[DeleteAclsFilterResult] = field()

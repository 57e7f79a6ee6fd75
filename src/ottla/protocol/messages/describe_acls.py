"""DescribeAcls (key 29): the access control entries that a filter matches.

Versions. 1 is the floor and has types of patterns, 2 is flexible, 3 knows users as resources.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class DescribeAclsRequest(Request, api=ApiKey.DESCRIBE_ACLS, versions="1-3", flexible="2+"):
    resource_type_filter: int = field(int8)
    resource_name_filter: str | None = field(nullable="0+")
    pattern_type_filter: int = field(int8, versions="1+", default=3)
    principal_filter: str | None = field(nullable="0+")
    host_filter: str | None = field(nullable="0+")
    operation: int = field(int8)
    permission_type: int = field(int8)


class AclDescription(Struct):
    principal: str = field()
    host: str = field()
    operation: int = field(int8)
    permission_type: int = field(int8)


class DescribeAclsResource(Struct):
    resource_type: int = field(int8)
    resource_name: str = field()
    pattern_type: int = field(int8, versions="1+", default=3)
    acls: list[AclDescription] = field()


class DescribeAclsResponse(Response, api=ApiKey.DESCRIBE_ACLS, versions="1-3", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    resources: list[DescribeAclsResource] = field()

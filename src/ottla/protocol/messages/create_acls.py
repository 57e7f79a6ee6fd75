"""CreateAcls (key 30): add access control entries.

Versions. 1 is the floor and has types of patterns, 2 is flexible, 3 knows users as resources.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class AclCreation(Struct):
    resource_type: int = field(int8)
    resource_name: str = field()
    resource_pattern_type: int = field(int8, versions="1+", default=3)
    principal: str = field()
    host: str = field()
    operation: int = field(int8)
    permission_type: int = field(int8)


class CreateAclsRequest(Request, api=ApiKey.CREATE_ACLS, versions="1-3", flexible="2+"):
    creations: list[AclCreation] = field()


class AclCreationResult(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class CreateAclsResponse(Response, api=ApiKey.CREATE_ACLS, versions="1-3", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    results: list[AclCreationResult] = field()

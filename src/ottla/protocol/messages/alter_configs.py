"""AlterConfigs (key 33): replace all configs of a resource. Clients prefer IncrementalAlterConfigs.

Versions. 2 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class AlterableConfig(Struct):
    name: str = field()
    value: str | None = field(nullable="0+", default=None)


class AlterConfigsResource(Struct):
    resource_type: int = field(int8)
    resource_name: str = field()
    configs: list[AlterableConfig] = field()


class AlterConfigsRequest(Request, api=ApiKey.ALTER_CONFIGS, versions="0-2", flexible="2+"):
    resources: list[AlterConfigsResource] = field()
    validate_only: bool = field()


class AlterConfigsResourceResponse(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    resource_type: int = field(int8)
    resource_name: str = field()


class AlterConfigsResponse(Response, api=ApiKey.ALTER_CONFIGS, versions="0-2", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    responses: list[AlterConfigsResourceResponse] = field()

"""IncrementalAlterConfigs (key 44): change some configs of a resource (KIP-339).

Operations: 0 set, 1 delete, 2 append and 3 subtract, both for lists.
Versions. 1 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class AlterableConfig(Struct):
    name: str = field()
    config_operation: int = field(int8)
    value: str | None = field(nullable="0+", default=None)


class AlterConfigsResource(Struct):
    resource_type: int = field(int8)
    resource_name: str = field()
    configs: list[AlterableConfig] = field()


class IncrementalAlterConfigsRequest(
    Request, api=ApiKey.INCREMENTAL_ALTER_CONFIGS, versions="0-1", flexible="1+"
):
    resources: list[AlterConfigsResource] = field()
    validate_only: bool = field()


class AlterConfigsResourceResponse(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    resource_type: int = field(int8)
    resource_name: str = field()


class IncrementalAlterConfigsResponse(
    Response, api=ApiKey.INCREMENTAL_ALTER_CONFIGS, versions="0-1", flexible="1+"
):
    throttle_time_ms: int = field(int32, default=0)
    responses: list[AlterConfigsResourceResponse] = field()

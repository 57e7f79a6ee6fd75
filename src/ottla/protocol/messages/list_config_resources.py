"""ListConfigResources (key 74): names of resources that have configs (KIP-1142).

Versions. 0 lists client metrics (resource type 16) and has no types; 1 asks for any types, with
an empty list for all.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class ListConfigResourcesRequest(
    Request, api=ApiKey.LIST_CONFIG_RESOURCES, versions="0-1", flexible="0+"
):
    resource_types: list[int] = field(int8, versions="1+", default_factory=list)


class ConfigResource(Struct):
    resource_name: str = field()
    resource_type: int = field(int8, versions="1+", default=16, ignorable=True)


class ListConfigResourcesResponse(
    Response, api=ApiKey.LIST_CONFIG_RESOURCES, versions="0-1", flexible="0+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    config_resources: list[ConfigResource] = field()

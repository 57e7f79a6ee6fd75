"""DescribeConfigs (key 32): the configs of topics, brokers and others.

Resource types: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
`configuration_keys` None asks for all.
Versions. 1 has synonyms and sources; 3 has types and documentation; 4 is flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class DescribeConfigsResource(Struct):
    resource_type: int = field(int8)
    resource_name: str = field()
    configuration_keys: list[str] | None = field(nullable="0+", default=None)


class DescribeConfigsRequest(Request, api=ApiKey.DESCRIBE_CONFIGS, versions="1-4", flexible="4+"):
    resources: list[DescribeConfigsResource] = field()
    include_synonyms: bool = field(default=False)
    include_documentation: bool = field(versions="3+", default=False)


class DescribeConfigsSynonym(Struct):
    name: str = field()
    value: str | None = field(nullable="0+", default=None)
    source: int = field(int8)


class DescribeConfigsResourceResult(Struct):
    name: str = field()
    value: str | None = field(nullable="0+", default=None)
    read_only: bool = field()
    config_source: int = field(int8, default=-1, ignorable=True)
    is_sensitive: bool = field()
    synonyms: list[DescribeConfigsSynonym] = field(default_factory=list, ignorable=True)
    config_type: int = field(int8, versions="3+", default=0, ignorable=True)
    documentation: str | None = field(versions="3+", nullable="0+", default=None, ignorable=True)


class DescribeConfigsResult(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    resource_type: int = field(int8)
    resource_name: str = field()
    configs: list[DescribeConfigsResourceResult] = field()


class DescribeConfigsResponse(Response, api=ApiKey.DESCRIBE_CONFIGS, versions="1-4", flexible="4+"):
    throttle_time_ms: int = field(int32, default=0)
    results: list[DescribeConfigsResult] = field()

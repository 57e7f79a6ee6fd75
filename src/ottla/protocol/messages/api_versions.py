"""ApiVersions (key 18): which versions of which API a broker serves, and its features.

The first request of nearly every client. A version that the broker does not know is answered in
version 0 with UNSUPPORTED_VERSION, and the response header is always the oldest (KIP-511).
Versions. 1 has the throttle time; 3 is flexible, names the client's software and brings
features; 4 may name a feature whose lowest level is 0, which must be left out before; 5 says
which cluster and node the client believes to talk to (KIP-1242).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32, int64


class ApiVersionsRequest(Request, api=ApiKey.API_VERSIONS, versions="0-5", flexible="3+"):
    client_software_name: str = field(versions="3+", default="", ignorable=True)
    client_software_version: str = field(versions="3+", default="", ignorable=True)
    cluster_id: str | None = field(versions="5+", nullable="0+", default=None, ignorable=True)
    node_id: int = field(int32, versions="5+", default=-1, ignorable=True)


class ApiVersion(Struct):
    api_key: int = field(int16)
    min_version: int = field(int16)
    max_version: int = field(int16)


class SupportedFeatureKey(Struct):
    name: str = field()
    min_version: int = field(int16)
    max_version: int = field(int16)


class FinalizedFeatureKey(Struct):
    name: str = field()
    max_version_level: int = field(int16)
    min_version_level: int = field(int16)


class ApiVersionsResponse(Response, api=ApiKey.API_VERSIONS, versions="0-5", flexible="3+"):
    error_code: int = field(int16, default=0)
    api_keys: list[ApiVersion] = field()
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    supported_features: list[SupportedFeatureKey] = field(
        versions="3+", tag=0, default_factory=list, ignorable=True
    )
    finalized_features_epoch: int = field(int64, versions="3+", tag=1, default=-1, ignorable=True)
    finalized_features: list[FinalizedFeatureKey] = field(
        versions="3+", tag=2, default_factory=list, ignorable=True
    )
    zk_migration_ready: bool = field(versions="3+", tag=3, default=False, ignorable=True)

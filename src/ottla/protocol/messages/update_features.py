"""UpdateFeatures (key 57): raise or lower the finalised levels of the cluster's features.

Versions. 1 replaces the flag by a kind of change and can only try, 2 answers no single features.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class FeatureUpdateKey(Struct):
    feature: str = field()
    max_version_level: int = field(int16)
    allow_downgrade: bool = field(versions="0", default=False)
    upgrade_type: int = field(int8, versions="1+", default=1)


class UpdateFeaturesRequest(Request, api=ApiKey.UPDATE_FEATURES, versions="0-2", flexible="0+"):
    timeout_ms: int = field(int32, default=60_000)
    feature_updates: list[FeatureUpdateKey] = field()
    validate_only: bool = field(versions="1+", default=False)


class UpdatableFeatureResult(Struct):
    feature: str = field()
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)


class UpdateFeaturesResponse(Response, api=ApiKey.UPDATE_FEATURES, versions="0-2", flexible="0+"):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    results: list[UpdatableFeatureResult] = field(
        versions="0-1", default_factory=list, ignorable=True
    )

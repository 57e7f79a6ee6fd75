"""DescribeClientQuotas (key 48): the quotas of users, client ids and addresses (KIP-546).

A component of the filter names a type of entity (`user`, `client-id`, `ip`) and how it matches: 0
this name, 1 the default of the type, 2 any name. Strict leaves out entities of further types.
Versions. 1 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import float64, int8, int16, int32


class ComponentData(Struct):
    entity_type: str = field()
    match_type: int = field(int8)
    match: str | None = field(nullable="0+")


class DescribeClientQuotasRequest(
    Request, api=ApiKey.DESCRIBE_CLIENT_QUOTAS, versions="0-1", flexible="1+"
):
    components: list[ComponentData] = field()
    strict: bool = field()


class EntityData(Struct):
    entity_type: str = field()
    entity_name: str | None = field(nullable="0+")


class ValueData(Struct):
    key: str = field()
    value: float = field(float64)


class EntryData(Struct):
    entity: list[EntityData] = field()
    values: list[ValueData] = field()


class DescribeClientQuotasResponse(
    Response, api=ApiKey.DESCRIBE_CLIENT_QUOTAS, versions="0-1", flexible="1+"
):
    throttle_time_ms: int = field(int32, default=0)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    entries: list[EntryData] | None = field(nullable="0+")

"""AlterClientQuotas (key 49): set or remove quotas of users, client ids and addresses (KIP-546).

An entity is one name of each of its types (`user`, `client-id`, `ip`); null is the type's default.
Versions. 1 is flexible. Nothing else changed.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import float64, int16, int32


class EntityData(Struct):
    entity_type: str = field()
    entity_name: str | None = field(nullable="0+")


class OpData(Struct):
    key: str = field()
    value: float = field(float64)
    remove: bool = field()


class AskedEntries:
    """A name of the request that Kafka has once more in the response."""

    class EntryData(Struct):
        entity: list[EntityData] = field()
        ops: list[OpData] = field()


class AlterClientQuotasRequest(
    Request, api=ApiKey.ALTER_CLIENT_QUOTAS, versions="0-1", flexible="1+"
):
    entries: list[AskedEntries.EntryData] = field()
    validate_only: bool = field()


class EntryData(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None)
    entity: list[EntityData] = field()


class AlterClientQuotasResponse(
    Response, api=ApiKey.ALTER_CLIENT_QUOTAS, versions="0-1", flexible="1+"
):
    throttle_time_ms: int = field(int32, default=0)
    entries: list[EntryData] = field()

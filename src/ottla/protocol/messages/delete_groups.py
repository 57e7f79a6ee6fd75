"""DeleteGroups (key 42): forget groups and their offsets. Versions: 2 flexible, 3 messages."""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class DeleteGroupsRequest(Request, api=ApiKey.DELETE_GROUPS, versions="0-3", flexible="2+"):
    groups_names: list[str] = field()


class DeletableGroupResult(Struct):
    group_id: str = field()
    error_code: int = field(int16, default=0)
    error_message: str | None = field(versions="3+", nullable="3+", default=None, ignorable=True)


class DeleteGroupsResponse(Response, api=ApiKey.DELETE_GROUPS, versions="0-3", flexible="2+"):
    throttle_time_ms: int = field(int32, default=0)
    results: list[DeletableGroupResult] = field()

"""FindCoordinator (key 10): which broker coordinates what a key names.

Key types: 0 group, 1 transaction, 2 share.
Versions. 1 has key types; 3 is flexible; 4 asks for many keys at once, with fields of their own
on both sides; 5 and 6 allow new errors and share keys.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32


class FindCoordinatorRequest(Request, api=ApiKey.FIND_COORDINATOR, versions="0-6", flexible="3+"):
    key: str = field(versions="0-3", default="")
    key_type: int = field(int8, versions="1+", default=0)
    coordinator_keys: list[str] = field(versions="4+", default_factory=list)


class Coordinator(Struct):
    key: str = field()
    node_id: int = field(int32)
    host: str = field()
    port: int = field(int32)
    error_code: int = field(int16, default=0)
    error_message: str | None = field(nullable="0+", default=None, ignorable=True)


class FindCoordinatorResponse(Response, api=ApiKey.FIND_COORDINATOR, versions="0-6", flexible="3+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    error_code: int = field(int16, versions="0-3", default=0)
    error_message: str | None = field(versions="1-3", nullable="0+", default=None, ignorable=True)
    node_id: int = field(int32, versions="0-3", default=0)
    host: str = field(versions="0-3", default="")
    port: int = field(int32, versions="0-3", default=0)
    coordinators: list[Coordinator] = field(versions="4+", default_factory=list)

"""Heartbeat (key 12): a member of a classic group is alive.

Versions. 3 has static members, 4 is flexible.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, field
from ottla.protocol.types import int16, int32


class HeartbeatRequest(Request, api=ApiKey.HEARTBEAT, versions="0-4", flexible="4+"):
    group_id: str = field()
    generation_id: int = field(int32)
    member_id: str = field()
    group_instance_id: str | None = field(versions="3+", nullable="3+", default=None)


class HeartbeatResponse(Response, api=ApiKey.HEARTBEAT, versions="0-4", flexible="4+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    error_code: int = field(int16, default=0)

"""SyncGroup (key 14): the leader brings the assignments of a generation, each member takes its.

Versions. 3 has static members, 4 is flexible, 5 names the protocol type and the protocol on
both sides (KIP-559).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class SyncGroupRequestAssignment(Struct):
    member_id: str = field()
    assignment: bytes = field()


class SyncGroupRequest(Request, api=ApiKey.SYNC_GROUP, versions="0-5", flexible="4+"):
    group_id: str = field()
    generation_id: int = field(int32)
    member_id: str = field()
    group_instance_id: str | None = field(versions="3+", nullable="3+", default=None)
    protocol_type: str | None = field(versions="5+", nullable="5+", default=None, ignorable=True)
    protocol_name: str | None = field(versions="5+", nullable="5+", default=None, ignorable=True)
    assignments: list[SyncGroupRequestAssignment] = field()


class SyncGroupResponse(Response, api=ApiKey.SYNC_GROUP, versions="0-5", flexible="4+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    error_code: int = field(int16, default=0)
    protocol_type: str | None = field(versions="5+", nullable="5+", default=None, ignorable=True)
    protocol_name: str | None = field(versions="5+", nullable="5+", default=None, ignorable=True)
    assignment: bytes = field(default=b"")

"""LeaveGroup (key 13): members leave a classic group, or an administrator removes them.

Versions. Up to 2 names one member; 3 names many, by member id or by instance id; 4 is flexible;
5 has reasons.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class MemberIdentity(Struct):
    member_id: str = field(versions="3+", default="")
    group_instance_id: str | None = field(versions="3+", nullable="3+", default=None)
    reason: str | None = field(versions="5+", nullable="5+", default=None, ignorable=True)


class LeaveGroupRequest(Request, api=ApiKey.LEAVE_GROUP, versions="0-5", flexible="4+"):
    group_id: str = field()
    member_id: str = field(versions="0-2", default="")
    members: list[MemberIdentity] = field(versions="3+", default_factory=list)


class MemberResponse(Struct):
    member_id: str = field(versions="3+", default="")
    group_instance_id: str | None = field(versions="3+", nullable="3+", default=None)
    error_code: int = field(int16, versions="3+", default=0)


class LeaveGroupResponse(Response, api=ApiKey.LEAVE_GROUP, versions="0-5", flexible="4+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    error_code: int = field(int16, default=0)
    members: list[MemberResponse] = field(versions="3+", default_factory=list)

"""JoinGroup (key 11): enter a classic group, and wait until its members are known.

Versions. 1 has a rebalance timeout of its own; 4 gives a member its id before it may join
(KIP-394), 5 has static members (KIP-345), 6 is flexible, 7 answers the protocol type, 8 has a
reason, 9 tells a leader that it need not assign.
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class JoinGroupRequestProtocol(Struct):
    name: str = field()
    metadata: bytes = field()


class JoinGroupRequest(Request, api=ApiKey.JOIN_GROUP, versions="0-9", flexible="6+"):
    group_id: str = field()
    session_timeout_ms: int = field(int32)
    rebalance_timeout_ms: int = field(int32, versions="1+", default=-1, ignorable=True)
    member_id: str = field()
    group_instance_id: str | None = field(versions="5+", nullable="5+", default=None)
    protocol_type: str = field()
    protocols: list[JoinGroupRequestProtocol] = field()
    reason: str | None = field(versions="8+", nullable="8+", default=None, ignorable=True)


class JoinGroupResponseMember(Struct):
    member_id: str = field()
    group_instance_id: str | None = field(
        versions="5+", nullable="5+", default=None, ignorable=True
    )
    metadata: bytes = field()


class JoinGroupResponse(Response, api=ApiKey.JOIN_GROUP, versions="0-9", flexible="6+"):
    throttle_time_ms: int = field(int32, versions="2+", default=0, ignorable=True)
    error_code: int = field(int16, default=0)
    generation_id: int = field(int32, default=-1)
    protocol_type: str | None = field(versions="7+", nullable="7+", default=None, ignorable=True)
    protocol_name: str | None = field(nullable="7+")
    leader: str = field(default="")
    skip_assignment: bool = field(versions="9+", default=False)
    member_id: str = field(default="")
    members: list[JoinGroupResponseMember] = field(default_factory=list)

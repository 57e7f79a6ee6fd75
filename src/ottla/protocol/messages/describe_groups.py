"""DescribeGroups (key 15): state and members of classic groups.

Versions. 3 asks for authorized operations, 4 answers instance ids, 5 is flexible, 6 says
GROUP_ID_NOT_FOUND of a group that is not there, with a message (KIP-1043).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class DescribeGroupsRequest(Request, api=ApiKey.DESCRIBE_GROUPS, versions="0-6", flexible="5+"):
    groups: list[str] = field()
    include_authorized_operations: bool = field(versions="3+", default=False)


class DescribedGroupMember(Struct):
    member_id: str = field()
    group_instance_id: str | None = field(
        versions="4+", nullable="4+", default=None, ignorable=True
    )
    client_id: str = field()
    client_host: str = field()
    member_metadata: bytes = field(default=b"")
    member_assignment: bytes = field(default=b"")


class DescribedGroup(Struct):
    error_code: int = field(int16, default=0)
    error_message: str | None = field(versions="6+", nullable="6+", default=None)
    group_id: str = field()
    group_state: str = field(default="")
    protocol_type: str = field(default="")
    protocol_data: str = field(default="")
    members: list[DescribedGroupMember] = field(default_factory=list)
    authorized_operations: int = field(int32, versions="3+", default=-0x8000_0000)


class DescribeGroupsResponse(Response, api=ApiKey.DESCRIBE_GROUPS, versions="0-6", flexible="5+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    groups: list[DescribedGroup] = field()

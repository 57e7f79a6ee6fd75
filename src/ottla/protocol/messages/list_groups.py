"""ListGroups (key 16): the groups that a node coordinates.

Versions. 3 is flexible, 4 filters by state and answers it (KIP-518), 5 does so by type (KIP-848).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int16, int32


class ListGroupsRequest(Request, api=ApiKey.LIST_GROUPS, versions="0-5", flexible="3+"):
    states_filter: list[str] = field(versions="4+", default_factory=list)
    types_filter: list[str] = field(versions="5+", default_factory=list)


class ListedGroup(Struct):
    group_id: str = field()
    protocol_type: str = field(default="")
    group_state: str = field(versions="4+", default="", ignorable=True)
    group_type: str = field(versions="5+", default="", ignorable=True)


class ListGroupsResponse(Response, api=ApiKey.LIST_GROUPS, versions="0-5", flexible="3+"):
    throttle_time_ms: int = field(int32, versions="1+", default=0, ignorable=True)
    error_code: int = field(int16, default=0)
    groups: list[ListedGroup] = field(default_factory=list)

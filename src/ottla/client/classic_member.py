"""A member of a group with the classic protocol, without I/O: what it says, and what it is told.

    JoinGroup ──> a generation, and for one of its members the task to assign (the leader)
    SyncGroup ──> its assignment in that generation
    Heartbeat ──> whether the generation still stands

It has a member id from its first join on (KIP-394) and a generation from each. What an error
means is the table below; what it does not name cannot be mended.

With the eager protocol a member joins with nothing; if all its assignors are cooperative it keeps
reading what it has, gives up what it is no longer assigned, and joins again (KIP-429).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.client.assignors import (
    ASSIGNORS,
    COOPERATIVE,
    MemberView,
    by_topic,
    member_view,
    user_data_of,
)
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.errors import code_of
from ottla.client.offsets import GroupMetadata
from ottla.protocol.api_key import ApiKey
from ottla.protocol.consumer_protocol import (
    LAST_VERSION,
    ConsumerProtocolSubscription,
    assignment_bytes,
    read_assignment,
    rows_of,
    written,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from ottla.rpc.channel import Channel

PROTOCOL_TYPE: Final = "consumer"


class Turn(Enum):
    """What comes next."""

    GO_ON = 1
    REJOIN = 2
    """As the same member."""
    OUT = 3
    """What it had is lost; it joins anew."""


TURNS: Final[Mapping[ErrorCode, Turn]] = {
    ErrorCode.NONE: Turn.GO_ON,
    ErrorCode.MEMBER_ID_REQUIRED: Turn.REJOIN,
    ErrorCode.REBALANCE_IN_PROGRESS: Turn.REJOIN,
    ErrorCode.ILLEGAL_GENERATION: Turn.OUT,
    ErrorCode.UNKNOWN_MEMBER_ID: Turn.OUT,
}


class ClassicMember:
    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._group_id = settings.group_id or ""
        self.id = ""
        self.generation = -1
        self.protocol_name: str | None = None
        self.is_leader = False
        self.is_eager = any(
            name not in COOPERATIVE for name in settings.partition_assignment_strategy
        )
        self._had: Sequence[TopicPartition] = ()
        self._had_in = -1

    @property
    def metadata(self) -> GroupMetadata:
        instance_id = self._settings.group_instance_id
        return GroupMetadata(self._group_id, self.generation, self.id, instance_id)

    def turn(self, number: int, message: str = "") -> Turn:
        """What an error code asks for; KafkaError where nothing helps."""
        code = code_of(number)
        turn = TURNS.get(code)
        if turn is None:
            raise KafkaError(code, message or f"group {self._group_id!r}: {code.name}")
        if turn is Turn.OUT:
            self.generation = -1
            if code is ErrorCode.UNKNOWN_MEMBER_ID:
                self.id = ""
        return turn

    # ---- joining

    def join_request(
        self, topics: Iterable[str], owned: Sequence[TopicPartition]
    ) -> JoinGroupRequest:
        settings = self._settings
        topics = list(topics)
        return JoinGroupRequest(
            group_id=self._group_id,
            session_timeout_ms=settings.session_timeout_ms,
            rebalance_timeout_ms=settings.max_poll_interval_ms,
            member_id=self.id,
            group_instance_id=settings.group_instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=self._said(name, topics, owned))
                for name in settings.partition_assignment_strategy
            ],
        )

    def _said(self, name: str, topics: list[str], owned: Sequence[TopicPartition]) -> bytes:
        subscription = ConsumerProtocolSubscription(
            topics=topics,
            user_data=user_data_of(name, by_topic(self._had), self._had_in),
            owned_partitions=[] if self.is_eager else rows_of(by_topic(owned)),
            generation_id=self._had_in,
            rack_id=self._settings.client_rack or None,
        )
        return written(subscription, LAST_VERSION)

    def joined(self, response: JoinGroupResponse) -> Turn:
        """`response` told it who it is. REJOIN and OUT as `turn` says."""
        if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.id = response.member_id
        turn = self.turn(response.error_code)
        if turn is Turn.GO_ON:
            self.id, self.generation = response.member_id, response.generation_id
            self.protocol_name = response.protocol_name
            self.is_leader = response.leader == response.member_id
        return turn

    # ---- assigning

    def members_of(self, response: JoinGroupResponse) -> dict[str, MemberView]:
        """Whom the leader assigns to, as the assignor that was chosen is told of them."""
        return {
            each.member_id: member_view(
                self.protocol_name or "", each.metadata, each.group_instance_id
            )
            for each in response.members
        }

    def assign(
        self, members: Mapping[str, MemberView], counts: Mapping[str, int]
    ) -> dict[str, bytes]:
        assignor = ASSIGNORS.get(self.protocol_name or "")
        if assignor is None:
            raise KafkaError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
                f"the group chose the assignor {self.protocol_name!r}, which was not offered",
            )
        return {
            member_id: assignment_bytes(by_topic(share), LAST_VERSION)
            for member_id, share in assignor(members, counts).items()
        }

    def sync_request(self, assignments: Mapping[str, bytes]) -> SyncGroupRequest:
        return SyncGroupRequest(
            group_id=self._group_id,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self._settings.group_instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name=self.protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=member_id, assignment=data)
                for member_id, data in assignments.items()
            ],
        )

    def synced(self, response: SyncGroupResponse) -> list[TopicPartition]:
        """Its assignment. KafkaError where those are no bytes of one."""
        try:
            rows = read_assignment(response.assignment).assigned_partitions
        except ValueError as error:
            raise KafkaError(
                ErrorCode.INCONSISTENT_GROUP_PROTOCOL, f"the leader's assignment: {error}"
            ) from error
        found = {
            TopicPartition(row.topic, PartitionIndex(index)): None
            for row in rows
            for index in row.partitions
        }
        self._had, self._had_in = list(found), self.generation
        return list(found)

    # ---- staying and leaving

    def heartbeat_request(self) -> HeartbeatRequest:
        return HeartbeatRequest(
            group_id=self._group_id,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self._settings.group_instance_id,
        )

    def leave_request(self, channel: Channel) -> LeaveGroupRequest:
        if channel.versions.pick(ApiKey.LEAVE_GROUP) < 3:
            return LeaveGroupRequest(group_id=self._group_id, member_id=self.id)
        return LeaveGroupRequest(
            group_id=self._group_id, members=[MemberIdentity(member_id=self.id)]
        )

"""JoinGroup of classic groups, as an operation of a shard.

A member that has no id yet is given one and has to ask again with it (KIP-394, from JoinGroup 4),
so that a client which gives up leaves nothing behind but an id, for one session timeout. A static
member (KIP-345) takes the place of its former self; who still speaks for that is fenced.
"""

from collections.abc import Callable
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.options import BrokerSettings
from ottla.base.world import Rng
from ottla.coordinator.group.classic import (
    COMPLETING_REBALANCE,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
    ClassicGroup,
)
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.member import MEMBER_BYTES, Member, Protocol, Sender, size_of
from ottla.coordinator.group.rebalance import (
    NEW_MEMBER_JOIN_TIMEOUT_MS,
    Rebalance,
    joined,
    refused_join,
)
from ottla.coordinator.group.records import is_too_large
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse

PREFIX_CHARS: Final = 1_000
"""How much of a client's or an instance's id a member's id begins with: a text of the protocol
has 32,767 bytes at most."""
KNOWN_ID_VERSION: Final = 4
"""From this JoinGroup on a dynamic member is given its id first."""
SKIP_VERSION: Final = 9
"""From this JoinGroup on a leader can be told that it need not assign."""


class Joining:
    def __init__(
        self,
        groups: Groups,
        rebalance: Rebalance,
        host: Host,
        rng: Rng,
        settings: Callable[[], BrokerSettings],
    ) -> None:
        self._groups = groups
        self._rebalance = rebalance
        self._host = host
        self._rng = rng
        self._settings = settings

    def join(
        self, sender: Sender, request: JoinGroupRequest, pending: Pending, now_ms: int
    ) -> Outcome:
        if request.member_id and self._groups.find(request.group_id) is None:
            return self._refuse_join(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id, pending)
        group = self._groups.find_or_make(request.group_id, now_ms)
        try:
            return self._join(group, sender, request, pending, now_ms)
        finally:
            self._groups.forget_if_worthless(group)

    def _join(
        self,
        group: ClassicGroup,
        sender: Sender,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        member_id = request.member_id
        protocols = _protocols_of(request)
        if not self._accepts(group, member_id):
            self._rebalance.drop_pending(group, member_id)
            member = group.members.get(member_id)
            if member is not None:
                self._rebalance.drop(group, member)
            return self._refuse_join(ErrorCode.GROUP_MAX_SIZE_REACHED, "", pending)
        if not group.supports(request.protocol_type, protocols):
            return self._refuse_join(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id, pending)
        if not self._has_room(group, request, size_of(protocols)):
            return self._refuse_join(ErrorCode.COORDINATOR_NOT_AVAILABLE, member_id, pending)
        if member_id:
            return self._join_again(group, sender, request, pending, now_ms)
        return self._join_anew(group, sender, request, pending, now_ms)

    def _has_room(self, group: ClassicGroup, request: JoinGroupRequest, size_bytes: int) -> bool:
        """Who comes back without an id, to a static member's place, is counted already."""
        budget, member_id = self._groups.budget, request.member_id
        place = member_id or group.static_ids.get(request.group_instance_id or "", "")
        known = group.members.get(place)
        if known is not None:
            return budget.may_grow(size_bytes - size_of(known.protocols))
        if member_id in group.pending_ids:
            return budget.may_grow(MEMBER_BYTES + size_bytes)
        return budget.has_room(size_bytes)

    def _refuse_join(self, code: ErrorCode, member_id: str, pending: Pending) -> Outcome:
        return Outcome(response=refused_join(code, member_id, pending.api_version))

    def _accepts(self, group: ClassicGroup, member_id: str) -> bool:
        """`group.max.size`. While members join, those who came first are counted, so that a
        group which is too large loses the last."""
        largest = self._settings().group_max_size
        member = group.members.get(member_id)
        if group.is_in(EMPTY):
            return True
        if group.is_in(PREPARING_REBALANCE):
            is_waiting = member is not None and member.join is not None
            return is_waiting or group.joined_count < largest
        return member is not None or len(group.members) < largest

    def _join_anew(
        self,
        group: ClassicGroup,
        sender: Sender,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        instance_id = request.group_instance_id
        prefix = sender.client_id if instance_id is None else instance_id
        member_id = f"{prefix[:PREFIX_CHARS]}-{self._uuid()}"
        if instance_id is not None:
            former = group.static_ids.get(instance_id)
            if former is not None:
                return self._replace(group, former, member_id, request, pending, now_ms)
        elif pending.api_version >= KNOWN_ID_VERSION:
            group.add_pending(member_id)
            self._rebalance.expect_join(group, member_id, request.session_timeout_ms)
            return self._refuse_join(ErrorCode.MEMBER_ID_REQUIRED, member_id, pending)
        return self._add(group, member_id, sender, request, pending, now_ms)

    def _uuid(self) -> str:
        text = self._rng.randbytes(16).hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def _add(
        self,
        group: ClassicGroup,
        member_id: str,
        sender: Sender,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        member = Member(
            member_id,
            instance_id=request.group_instance_id,
            client_id=sender.client_id,
            client_host=sender.host,
            rebalance_timeout_ms=_rebalance_timeout_ms(request),
            session_timeout_ms=request.session_timeout_ms,
            protocols=_protocols_of(request),
        )
        member.is_new = True
        if group.is_in(PREPARING_REBALANCE) and group.former_state is EMPTY:
            group.is_extended = True
        group.add(member, request.protocol_type)
        group.set_join(member, pending)
        # It cannot send heartbeats before it has its answer, and a connection that is gone
        # cannot be told from one that waits: so much time it has in any case.
        self._rebalance.expect_heartbeat(group, member, NEW_MEMBER_JOIN_TIMEOUT_MS)
        return Outcome(self._rebalance.maybe_prepare(group, now_ms))

    def _join_again(
        self,
        group: ClassicGroup,
        sender: Sender,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        member_id = request.member_id
        if member_id in group.pending_ids:
            if request.group_instance_id is not None:
                return self._refuse_join(ErrorCode.UNKNOWN_MEMBER_ID, member_id, pending)
            return self._add(group, member_id, sender, request, pending, now_ms)
        try:
            member = group.check_member(member_id, request.group_instance_id)
        except KafkaError as error:
            return self._refuse_join(error.code, member_id, pending)
        if group.is_in(EMPTY):
            return self._refuse_join(ErrorCode.UNKNOWN_MEMBER_ID, member_id, pending)
        if not group.is_in(PREPARING_REBALANCE):
            is_same = member.protocols == _protocols_of(request)
            is_retry = group.is_in(COMPLETING_REBALANCE) or group.leader != member_id
            if is_same and is_retry:
                # It did not get the answer to its former request.
                return Outcome(response=joined(group, member, pending))
        self._update(group, member, request)
        self._await(group, member, pending)
        return Outcome(self._rebalance.maybe_prepare(group, now_ms))

    def _update(self, group: ClassicGroup, member: Member, request: JoinGroupRequest) -> None:
        protocols = _protocols_of(request)
        timeout_ms = _rebalance_timeout_ms(request)
        group.update(member, protocols, timeout_ms, request.session_timeout_ms)

    def _await(self, group: ClassicGroup, member: Member, pending: Pending) -> None:
        """Its JoinGroup waits. A former one that waits yet is of a connection that is gone."""
        former = member.join
        group.set_join(member, pending)
        if former is not None and former is not pending:
            code = ErrorCode.UNKNOWN_MEMBER_ID
            self._host.answer(former, refused_join(code, member.id, former.api_version))

    def _replace(
        self,
        group: ClassicGroup,
        former_id: str,
        member_id: str,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        """A static member is back without its id. Where the assignments would stay as they are,
        the group does too, and its record has the new id."""
        member = group.members[former_id]
        leader = group.leader
        self._rebalance.answer_join(group, member, ErrorCode.FENCED_INSTANCE_ID)
        self._rebalance.refuse_sync(member, ErrorCode.FENCED_INSTANCE_ID)
        self._host.cancel(("session", group.id, former_id))
        group.rename(member, member_id)
        self._update(group, member, request)
        self._rebalance.expect_heartbeat(group, member, member.session_timeout_ms)
        if group.is_in(STABLE) and group.select_protocol() == group.protocol:
            record = group.record()
            if not is_too_large(record, self._host.record_max_bytes):
                return Outcome([record], _confirmed(group, member, leader, pending))
        group.set_join(member, pending)
        if group.is_in(STABLE, COMPLETING_REBALANCE):
            # The leader may be assigning to the former id just now.
            return Outcome(self._rebalance.prepare(group, now_ms))
        return Outcome(self._rebalance.maybe_complete(group, now_ms))


def _protocols_of(request: JoinGroupRequest) -> tuple[Protocol, ...]:
    return tuple(Protocol(each.name, each.metadata) for each in request.protocols)


def _rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 knows one timeout."""
    timeout_ms = request.rebalance_timeout_ms
    return request.session_timeout_ms if timeout_ms < 0 else timeout_ms


def _confirmed(
    group: ClassicGroup, member: Member, leader: str | None, pending: Pending
) -> JoinGroupResponse:
    """The generation goes on with this member under its new id: nobody assigns anew."""
    if pending.api_version >= SKIP_VERSION:
        is_leader = group.leader == member.id
        return joined(group, member, pending, skip_assignment=is_leader)
    return joined(group, member, pending, leader=leader or "")

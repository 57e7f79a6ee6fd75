"""SyncGroup, Heartbeat and LeaveGroup of classic groups, as operations of a shard; and who may
commit offsets in a member's name.

What an operation answers to others than its own request, it hands to the shard (`Host.answer`):
everything leaves in the order of the operations, once what they wrote is committed.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.group.classic import (
    COMPLETING_REBALANCE,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
    ClassicGroup,
)
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.rebalance import Rebalance, Records, synced
from ottla.coordinator.group.records import is_too_large
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest


class Membership:
    def __init__(self, groups: Groups, rebalance: Rebalance, host: Host) -> None:
        self._groups = groups
        self._rebalance = rebalance
        self._host = host

    # -- SyncGroup

    def sync(self, request: SyncGroupRequest, pending: Pending, now_ms: int) -> Outcome:
        group = self._groups.find(request.group_id)
        if group is None or group.is_in(EMPTY):
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = group.check_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        if _differ(request.protocol_type, group.protocol_type) or _differ(
            request.protocol_name, group.protocol
        ):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.is_in(PREPARING_REBALANCE):
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._rebalance.forget_unsynced(group, member.id)
        if group.is_in(STABLE):
            return Outcome(response=synced(group, member.assignment))
        self._rebalance.refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS)
        member.sync = pending
        if group.leader != member.id:
            return Outcome()
        return Outcome(self._assign(group, request, now_ms))

    def _assign(self, group: ClassicGroup, request: SyncGroupRequest, now_ms: int) -> Records:
        """The leader's assignments make the group stable, once they are in the log."""
        assignments = {each.member_id: each.assignment for each in request.assignments}
        record = group.record(assignments, now_ms)
        if is_too_large(record, self._host.record_max_bytes):
            return self._rebalance.prepare(group, now_ms, ErrorCode.UNKNOWN_SERVER_ERROR)
        for member in group.members.values():
            waiting, member.sync = member.sync, None
            if waiting is not None:
                self._host.answer(waiting, synced(group, assignments.get(member.id, b"")))
                self._rebalance.expect_heartbeat(group, member, member.session_timeout_ms)
        return [record]

    # -- Heartbeat

    def heartbeat(self, request: HeartbeatRequest) -> Outcome:
        group = self._groups.find(request.group_id)
        if group is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = group.check_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        self._rebalance.expect_heartbeat(group, member, member.session_timeout_ms)
        is_preparing = group.is_in(PREPARING_REBALANCE)
        code = ErrorCode.REBALANCE_IN_PROGRESS if is_preparing else ErrorCode.NONE
        return Outcome(response=HeartbeatResponse(error_code=code))

    def check_commit(
        self,
        group: ClassicGroup,
        member_id: str,
        instance_id: str | None,
        generation: int,
        *,
        is_transactional: bool = False,
    ) -> None:
        """Whether offsets may be committed in this name; a commit of the member's own keeps its
        session alive. Producers that name no member commit in a transaction for whom they like,
        and during a rebalance; that a producer lives says nothing of the member it names."""
        if generation < 0 and group.is_in(EMPTY):
            return  # an administrator, or a consumer that does not join
        if generation < 0 and not member_id and instance_id is None:
            if is_transactional:
                return
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = group.check_member(member_id, instance_id)
        if generation != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        if is_transactional:
            return
        if group.is_in(COMPLETING_REBALANCE):
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._rebalance.expect_heartbeat(group, member, member.session_timeout_ms)

    # -- LeaveGroup

    def leave(self, request: LeaveGroupRequest, now_ms: int) -> Outcome:
        """Each member is answered for itself; a rebalance follows if one of them was there."""
        group = self._groups.find(request.group_id)
        rows = [self._leave_one(group, each) for each in request.members]
        records: Records = []
        if group is not None:
            if any(not row.error_code for row in rows):
                if group.is_in(STABLE, COMPLETING_REBALANCE):
                    records = self._rebalance.prepare(group, now_ms)
                else:
                    records = self._rebalance.maybe_complete(group, now_ms)
            self._groups.forget_if_worthless(group)
        return Outcome(records, LeaveGroupResponse(members=rows))

    def _leave_one(self, group: ClassicGroup | None, who: MemberIdentity) -> MemberResponse:
        row = MemberResponse(member_id=who.member_id, group_instance_id=who.group_instance_id)
        try:
            if group is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            member_id = who.member_id
            if member_id in group.pending_ids:
                self._rebalance.drop_pending(group, member_id)
                return row
            if not member_id and who.group_instance_id is not None:
                member_id = group.static_ids.get(who.group_instance_id, "")
            self._rebalance.drop(group, group.check_member(member_id, who.group_instance_id))
        except KafkaError as error:
            row.error_code = error.code
        return row


def _differ(named: str | None, known: str | None) -> bool:
    return named is not None and known is not None and named != known

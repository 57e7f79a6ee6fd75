"""How a generation of a classic group comes about: who is waited for, how long, and what then.

    prepare ── all joined, or the rebalance timeout ──> complete ── SyncGroup of the leader ──>
       └── first members of an empty group: the initial delay, again for each that came ──┘

A member that does not come in time is left behind, unless it is static; one that does not fetch
its assignment in time is removed, and the group rebalances. Timers, by key:

    ("session", group, member)   the member, or an id that was given, is dead
    ("join", group)              who has not joined is not waited for any more
    ("sync", group)              who has not synced is not waited for any more
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.options import BrokerSettings
from ottla.coordinator.group.classic import (
    COMPLETING_REBALANCE,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
    ClassicGroup,
)
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.member import Member, shown
from ottla.coordinator.group.records import GroupRecord
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.sync_group import SyncGroupResponse

logger = logging.getLogger(__name__)

NEW_MEMBER_JOIN_TIMEOUT_MS: Final = 300_000
"""How long a first JoinGroup may wait; its sender cannot be seen to be gone before."""

Records = list[GroupRecord]


class Rebalance:
    """What moves the groups of a shard from state to state. Methods return records to append."""

    def __init__(self, groups: Groups, host: Host, settings: Callable[[], BrokerSettings]) -> None:
        self._groups = groups
        self._host = host
        self._settings = settings

    # -- the way to a generation

    def maybe_prepare(self, group: ClassicGroup, now_ms: int) -> Records:
        """The members changed: rebalance, or see whether one that runs is done."""
        if group.can_rebalance:
            return self.prepare(group, now_ms)
        return self.maybe_complete(group, now_ms)

    def prepare(
        self,
        group: ClassicGroup,
        now_ms: int,
        code: ErrorCode = ErrorCode.REBALANCE_IN_PROGRESS,
    ) -> Records:
        """Start a rebalance; whoever waits for an assignment is told `code`."""
        if group.is_in(COMPLETING_REBALANCE):
            for member in group.members.values():
                group.assign(member, b"")
                if member.sync is not None:
                    self.refuse_sync(member, code)
                    self.expect_heartbeat(group, member, member.session_timeout_ms)
        group.unsynced.clear()
        self._host.cancel(("sync", group.id))
        is_initial = group.is_in(EMPTY)
        group.become(PREPARING_REBALANCE, now_ms)
        if is_initial:
            delay_ms = self._settings().group_initial_rebalance_delay_ms
            rest_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
            group.is_extended = False
            self._delay_initial(group, delay_ms, rest_ms)
            return []
        if group.have_all_joined:
            return self.complete(group, now_ms)
        self._await_members(group)
        return []

    def maybe_complete(self, group: ClassicGroup, now_ms: int) -> Records:
        """Go on if all are there; an initial rebalance goes on by time alone."""
        is_running = group.is_in(PREPARING_REBALANCE) and group.former_state is not EMPTY
        if is_running and group.have_all_joined:
            return self.complete(group, now_ms)
        return []

    def complete(self, group: ClassicGroup, now_ms: int) -> Records:
        """Whoever joined is of the next generation, and dynamic members that did not are out."""
        self._host.cancel(("join", group.id))
        late = [each for each in group.members.values() if each.join is None]
        for member in late:
            if member.instance_id is None:
                group.remove(member.id)
                self._host.cancel(("session", group.id, member.id))
        if group.members and not group.elect_joined_leader():
            # Static members alone, and none of them came: their sessions end this.
            self._await_members(group)
            return []
        group.start_generation(now_ms)
        if group.is_in(EMPTY):
            if self._groups.has_record(group):
                return [group.record()]
            self._groups.forget_if_worthless(group)
            return []
        for member in group.members.values():
            self.answer_join(group, member)
            self.expect_heartbeat(group, member, member.session_timeout_ms)
            member.is_new = False
            group.unsynced[member.id] = None
        expire = partial(self._expire_sync, group.id, group.generation)
        self._host.schedule(("sync", group.id), group.rebalance_timeout_ms, expire)
        return []

    def _await_members(self, group: ClassicGroup) -> None:
        expire = partial(self._expire_join, group.id)
        self._host.schedule(("join", group.id), group.rebalance_timeout_ms, expire)

    def _delay_initial(self, group: ClassicGroup, delay_ms: int, rest_ms: int) -> None:
        expire = partial(self._expire_initial, group.id, delay_ms, rest_ms)
        self._host.schedule(("join", group.id), delay_ms, expire)

    # -- answers to those who wait

    def answer_join(
        self, group: ClassicGroup, member: Member, code: ErrorCode = ErrorCode.NONE
    ) -> None:
        """Answer its JoinGroup, if one waits; an error without the member's id."""
        pending = member.join
        if pending is None:
            return
        group.set_join(member, None)
        if code:
            member_id = member.id if code is ErrorCode.FENCED_INSTANCE_ID else ""
            self._host.answer(pending, refused_join(code, member_id, pending.api_version))
        else:
            self._host.answer(pending, joined(group, member, pending))

    def refuse_sync(self, member: Member, code: ErrorCode) -> None:
        pending, member.sync = member.sync, None
        if pending is None:
            return
        self._host.answer(pending, refused_sync(code))

    # -- sessions

    def expect_heartbeat(self, group: ClassicGroup, member: Member, timeout_ms: int) -> None:
        expire = partial(self._expire_session, group.id, member.id)
        self._host.schedule(("session", group.id, member.id), timeout_ms, expire)

    def expect_join(self, group: ClassicGroup, member_id: str, timeout_ms: int) -> None:
        """An id was given: it must be used by then."""
        expire = partial(self._expire_session, group.id, member_id)
        self._host.schedule(("session", group.id, member_id), timeout_ms, expire)

    def drop(self, group: ClassicGroup, member: Member) -> None:
        """A member leaves, or is dead."""
        self._host.cancel(("session", group.id, member.id))
        self.answer_join(group, member, ErrorCode.UNKNOWN_MEMBER_ID)
        self.refuse_sync(member, ErrorCode.UNKNOWN_MEMBER_ID)
        group.remove(member.id)

    def drop_pending(self, group: ClassicGroup, member_id: str) -> None:
        self._host.cancel(("session", group.id, member_id))
        group.remove_pending(member_id)

    def loaded(self, now_ms: int) -> None:
        """Members out of the log have one session timeout to be heard of."""
        for group in list(self._groups.joined()):
            for member in group.members.values():
                self.expect_heartbeat(group, member, member.session_timeout_ms)
            if len(group.members) > self._settings().group_max_size:
                self.prepare(group, now_ms)

    # -- timers

    def _expire_session(self, group_id: str, member_id: str, _: object, now_ms: int) -> Outcome:
        group = self._groups.find(group_id)
        if group is None:
            return Outcome()
        records: Records = []
        member = group.members.get(member_id)
        if member_id in group.pending_ids:
            group.remove_pending(member_id)
            if group.is_in(PREPARING_REBALANCE):
                records = self._complete_if_all(group, now_ms)
        elif member is not None and not member.may_be_silent:
            logger.info(
                "group %s: member %s of %s was not heard of in time, and is out of it",
                shown(group_id),
                shown(member_id),
                member.client_host,
            )
            self.drop(group, member)
            if group.is_in(STABLE, COMPLETING_REBALANCE):
                records = self.prepare(group, now_ms)
            else:
                records = self._complete_if_all(group, now_ms)
        self._groups.forget_if_worthless(group)
        return Outcome(records)

    def _complete_if_all(self, group: ClassicGroup, now_ms: int) -> Records:
        if group.is_in(PREPARING_REBALANCE) and group.have_all_joined:
            return self.complete(group, now_ms)
        return []

    def _expire_join(self, group_id: str, _: object, now_ms: int) -> Outcome:
        group = self._groups.find(group_id)
        if group is None or not group.is_in(PREPARING_REBALANCE):
            return Outcome()
        return Outcome(self.complete(group, now_ms))

    def _expire_initial(
        self, group_id: str, delay_ms: int, rest_ms: int, machine: object, now_ms: int
    ) -> Outcome:
        group = self._groups.find(group_id)
        if group is not None and group.is_extended and rest_ms:
            group.is_extended = False
            next_ms = min(self._settings().group_initial_rebalance_delay_ms, rest_ms)
            self._delay_initial(group, next_ms, max(rest_ms - delay_ms, 0))
            return Outcome()
        return self._expire_join(group_id, machine, now_ms)

    def _expire_sync(self, group_id: str, generation: int, _: object, now_ms: int) -> Outcome:
        group = self._groups.find(group_id)
        if group is None or group.generation != generation or not group.unsynced:
            return Outcome()
        if not group.is_in(COMPLETING_REBALANCE, STABLE):
            return Outcome()
        for member_id in list(group.unsynced):
            group.remove(member_id)
            self._host.cancel(("session", group.id, member_id))
        return Outcome(self.prepare(group, now_ms))

    def forget_unsynced(self, group: ClassicGroup, member_id: str) -> None:
        """It sent its SyncGroup."""
        group.unsynced.pop(member_id, None)
        if not group.unsynced:
            self._host.cancel(("sync", group.id))


# -- responses


def _name_for(version: int, name: str | None) -> str | None:
    """A protocol's name may be null from version 7 on."""
    return name if version >= 7 else name or ""


def refused_join(code: ErrorCode, member_id: str, version: int) -> JoinGroupResponse:
    return JoinGroupResponse(
        error_code=code, member_id=member_id, protocol_name=_name_for(version, None)
    )


def joined(
    group: ClassicGroup,
    member: Member,
    pending: Pending,
    *,
    leader: str | None = None,
    skip_assignment: bool = False,
) -> JoinGroupResponse:
    """The generation, as this member is to see it: the leader sees everybody. Another `leader`
    than the group's keeps the one who asks from assigning."""
    leader = group.leader if leader is None else leader
    members = []
    if leader == member.id:
        members = [
            JoinGroupResponseMember(
                member_id=each.id,
                group_instance_id=each.instance_id,
                metadata=each.metadata(group.protocol),
            )
            for each in group.members.values()
        ]
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=_name_for(pending.api_version, group.protocol),
        leader=leader or "",
        skip_assignment=skip_assignment,
        member_id=member.id,
        members=members,
    )


def synced(group: ClassicGroup, assignment: bytes) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        assignment=assignment,
    )


def refused_sync(code: ErrorCode) -> SyncGroupResponse:
    return SyncGroupResponse(error_code=code, assignment=b"")

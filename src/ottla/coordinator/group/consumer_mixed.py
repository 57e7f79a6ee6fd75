"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup of members that speak the classic protocol in a
consumer group, while others of it have been upgraded.

A JoinGroup is answered at once: nobody waits for the others, the coordinator assigns. What a
member is told in the SyncGroup that follows is what it may read by then. It joins again whenever
it has to give back, whenever it can get more, and whenever the group's epoch has moved on; a
heartbeat tells it so (REBALANCE_IN_PROGRESS). The generation that it sees is its member epoch.

    ("rejoin", group, member)          it was told to join again, and did not in time
    ("consumer sync", group, member)   it joined, and did not fetch its assignment in time
"""

from collections.abc import Callable
from functools import partial

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.options import BrokerSettings
from ottla.base.world import Rng
from ottla.coordinator.group.classic import CONSUMER
from ottla.coordinator.group.consumer_checks import check_group_size
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_member import (
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    ConsumerMember,
)
from ottla.coordinator.group.consumer_membership import (
    ConsumerMembership,
    find_dynamic,
    find_static,
    random_member_id,
)
from ottla.coordinator.group.consumer_migration import (
    Migration,
    classic_metadata,
    ids_of,
    told_assignment,
    topics_of,
)
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.joining import KNOWN_ID_VERSION
from ottla.coordinator.group.member import Protocol, Sender, size_of
from ottla.coordinator.group.rebalance import refused_join
from ottla.coordinator.group.records import GroupLogRecord
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.metadata.image import ClusterImage
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    read_subscription,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from ottla.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse


class MixedMembership:
    def __init__(
        self,
        groups: Groups,
        membership: ConsumerMembership,
        migration: Migration,
        host: Host,
        rng: Rng,
        image: Callable[[], ClusterImage],
        settings: Callable[[], BrokerSettings],
    ) -> None:
        self._groups = groups
        self._membership = membership
        self._migration = migration
        self._host = host
        self._rng = rng
        self._image = image
        self._settings = settings

    # -- JoinGroup

    def join(
        self,
        group: ConsumerGroup,
        sender: Sender,
        request: JoinGroupRequest,
        pending: Pending,
        now_ms: int,
    ) -> Outcome:
        try:
            return self._join(group, sender, request, pending.api_version, now_ms)
        except KafkaError as error:
            response = refused_join(error.code, request.member_id, pending.api_version)
            return Outcome(response=response)

    def _join(
        self,
        group: ConsumerGroup,
        sender: Sender,
        request: JoinGroupRequest,
        version: int,
        now_ms: int,
    ) -> Outcome:
        protocols = tuple(Protocol(each.name, each.metadata) for each in request.protocols)
        is_unknown = not request.member_id
        member_id = request.member_id or random_member_id(self._rng)
        self._check_room(group, member_id, request.group_instance_id, size_of(protocols))
        self._check_protocols(group, request)
        if is_unknown and request.group_instance_id is None and version >= KNOWN_ID_VERSION:
            response = refused_join(ErrorCode.MEMBER_ID_REQUIRED, member_id, version)
            return Outcome(response=response)
        subscription = _subscription(protocols)
        step = Step(group, now_ms, [])
        if request.group_instance_id is None:
            find_dynamic(step, member_id, may_make=True)
        else:
            find_static(
                step, member_id, request.group_instance_id, may_make=is_unknown, is_classic=True
            )
        timeout_ms = max(request.rebalance_timeout_ms, request.session_timeout_ms, 0)
        if request.rebalance_timeout_ms >= 0:
            timeout_ms = request.rebalance_timeout_ms
        step.member = step.former._replace(
            instance_id=request.group_instance_id or step.former.instance_id,
            rack_id=subscription.rack_id or step.former.rack_id,
            client_id=sender.client_id,
            client_host=sender.host,
            topics=topics_of(subscription),
            regex="",
            rebalance_timeout_ms=timeout_ms,
            classic=classic_metadata(request.session_timeout_ms, protocols),
        )
        owned = ids_of(subscription.owned_partitions, self._image())
        member = self._membership.advance.advance(step, owned)
        if not self._maybe_downgrade(step, member):
            step.effects.append(lambda: self._joined(group.id, member, timeout_ms))
        response = JoinGroupResponse(
            generation_id=member.epoch,
            protocol_type=CONSUMER,
            protocol_name=protocols[0].name,
            leader="",
            member_id=member.id,
            members=[],
        )
        return step.outcome(response)

    def _check_protocols(self, group: ConsumerGroup, request: JoinGroupRequest) -> None:
        names = [each.name for each in request.protocols]
        is_allowed = self._settings().group_consumer_migration_policy != "disabled"
        is_known = request.protocol_type == CONSUMER and group.supports_classic(names)
        if not (names and is_allowed and is_known):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)

    def _check_room(
        self, group: ConsumerGroup, member_id: str, instance_id: str | None, size_bytes: int
    ) -> None:
        """KafkaError GROUP_MAX_SIZE_REACHED; COORDINATOR_NOT_AVAILABLE where the node is full."""
        if member_id not in group.members:
            check_group_size(group, self._settings())
        known, budget = group.at_place(member_id, instance_id), self._groups.budget
        if known is None:
            has_room = budget.has_room(size_bytes)
        else:
            has_room = budget.may_grow(size_bytes - size_of(known.protocols))
        if not has_room:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def _maybe_downgrade(self, step: Step, member: ConsumerMember) -> bool:
        """A static member that came back with the classic protocol was the last of the new one."""
        group = step.group
        if step.replaced_id is None:
            return False
        made = self._migration.downgrade(group, [step.replaced_id], member, step.now_ms)
        if made is None:
            return False
        step.records[:] = made
        step.effects[:] = [partial(self._membership.forget_timers, group.id, list(group.members))]
        return True

    def _joined(self, group_id: str, member: ConsumerMember, timeout_ms: int) -> None:
        self._membership.rejoining.pop((group_id, member.id), None)
        self._host.cancel(("rejoin", group_id, member.id))
        self._membership.expect(group_id, member)
        late = partial(self._expire, group_id, member.id)
        self._host.schedule(("consumer sync", group_id, member.id), timeout_ms, late)

    # -- SyncGroup

    def sync(self, group: ConsumerGroup, request: SyncGroupRequest) -> Outcome:
        member = _classic_member(group, request.member_id, request.group_instance_id)
        assert member.classic is not None
        _check_generation(member, request.generation_id)
        name = member.classic.supported_protocols[0].name
        if (request.protocol_type or CONSUMER, request.protocol_name or name) != (CONSUMER, name):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.epoch > member.epoch and member.state is not UNREVOKED_PARTITIONS:
            self._expect_rejoin(group, member)
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._host.cancel(("consumer sync", group.id, member.id))
        self._membership.expect(group.id, member)
        response = SyncGroupResponse(
            protocol_type=CONSUMER,
            protocol_name=name,
            assignment=told_assignment(member, self._image()),
        )
        return Outcome(response=response)

    # -- Heartbeat

    def heartbeat(self, group: ConsumerGroup, request: HeartbeatRequest) -> Outcome:
        member = _classic_member(group, request.member_id, request.group_instance_id)
        _check_generation(member, request.generation_id)
        self._membership.expect(group.id, member)
        has_to_join = (
            member.epoch < group.epoch
            or member.state is UNREVOKED_PARTITIONS
            or (member.state is UNRELEASED_PARTITIONS and not group.is_waiting(member))
        )
        if has_to_join:
            self._expect_rejoin(group, member)
        code = ErrorCode.REBALANCE_IN_PROGRESS if has_to_join else ErrorCode.NONE
        return Outcome(response=HeartbeatResponse(error_code=code))

    def _expect_rejoin(self, group: ConsumerGroup, member: ConsumerMember) -> None:
        """Counted from when it was first told."""
        key = group.id, member.id
        if key not in self._membership.rejoining:
            self._membership.rejoining[key] = None
            late = partial(self._expire, group.id, member.id)
            self._host.schedule(("rejoin", *key), max(member.rebalance_timeout_ms, 0), late)

    def _expire(self, group_id: str, member_id: str, _: object, now_ms: int) -> Outcome:
        self._membership.rejoining.pop((group_id, member_id), None)
        group = self._groups.find_consumer(group_id)
        if group is None or member_id not in group.members:
            return Outcome()
        if not group.members[member_id].is_classic:
            return Outcome()
        return self._membership.fence(group, member_id, now_ms)

    # -- LeaveGroup

    def leave(self, group: ConsumerGroup, request: LeaveGroupRequest, now_ms: int) -> Outcome:
        """Each member is answered for itself."""
        leaving: dict[str, None] = {}
        rows = [self._leave_one(group, each, leaving) for each in request.members]
        made: list[GroupLogRecord] = []
        if leaving:
            made = self._membership.remove(group, list(leaving), now_ms)
        return Outcome(made, LeaveGroupResponse(members=rows))

    def _leave_one(
        self, group: ConsumerGroup, who: MemberIdentity, leaving: dict[str, None]
    ) -> MemberResponse:
        row = MemberResponse(member_id=who.member_id, group_instance_id=who.group_instance_id)
        try:
            member_id = who.member_id
            if not member_id and who.group_instance_id is not None:
                member_id = group.static_ids.get(who.group_instance_id, "")
            member = _classic_member(group, member_id, who.group_instance_id)
            if member.id in leaving:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            leaving[member.id] = None
            row.member_id = member.id
        except KafkaError as error:
            row.error_code = error.code
        return row


def _classic_member(
    group: ConsumerGroup, member_id: str, instance_id: str | None
) -> ConsumerMember:
    """KafkaError UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
    member = group.check_member(member_id, instance_id)
    if not member.is_classic:
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
    return member


def _check_generation(member: ConsumerMember, generation: int) -> None:
    if generation != member.epoch:
        raise KafkaError(ErrorCode.ILLEGAL_GENERATION)


def _subscription(protocols: tuple[Protocol, ...]) -> ConsumerProtocolSubscription:
    """What it says under the protocol that it likes best; it has to speak sense in all."""
    try:
        subscriptions = [read_subscription(each.metadata) for each in protocols]
        return subscriptions[0]
    except ValueError:
        raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL) from None

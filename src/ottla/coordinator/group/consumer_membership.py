"""ConsumerGroupHeartbeat: join, stay in and leave a consumer group (KIP-848).

A heartbeat with epoch 0 joins, with -1 leaves, with -2 a static member leaves for a while; any
other is that of a member, which says what it has as soon as that changes. The answer names the
epoch it is in, and what it may read if that is news. Who has missed his session, or does not give
back in time, is put out: the others share what it had.

The first heartbeat of this protocol to a classic group turns that into a consumer group, and a
consumer group whose last member of this protocol is gone into a classic one (`Migration`).

    ("session", group, member)   the member is dead; the key that classic groups use, too
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.group_options import ConsumerGroupSettings, consumer_group_settings
from ottla.base.options import BrokerSettings
from ottla.base.world import Rng
from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.consumer_advance import Advance
from ottla.coordinator.group.consumer_checks import (
    check_epoch,
    check_group_size,
    check_request,
    not_a_consumer_group,
)
from ottla.coordinator.group.consumer_expressions import next_epoch
from ottla.coordinator.group.consumer_group import ConsumerGroup, metadata_hash
from ottla.coordinator.group.consumer_member import (
    LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
    UNREVOKED_PARTITIONS,
    ConsumerMember,
)
from ottla.coordinator.group.consumer_migration import Migration
from ottla.coordinator.group.consumer_records import partitions_of
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.member import Budget, Sender, shown, size_of_texts
from ottla.coordinator.group.records import GroupLogRecord
from ottla.coordinator.machine import Host, Outcome
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

logger = logging.getLogger(__name__)

LEAVING: Final = (LEAVE_EPOCH, STATIC_LEAVE_EPOCH)


class ConsumerMembership:
    def __init__(
        self,
        groups: Groups,
        migration: Migration,
        host: Host,
        rng: Rng,
        image: Callable[[], ClusterImage],
        settings: Callable[[], BrokerSettings],
    ) -> None:
        self._groups = groups
        self._migration = migration
        self._host = host
        self._rng = rng
        self._image = image
        self._settings = settings
        self.advance = Advance(groups, host, image, settings, self.fence)
        self.rejoining: dict[tuple[str, str], None] = {}
        """Members of the classic protocol that were told to join again, by group and id."""

    # -- the request

    def heartbeat(
        self, sender: Sender, request: ConsumerGroupHeartbeatRequest, version: int, now_ms: int
    ) -> Outcome:
        """Errors are answered with their words."""
        try:
            check_request(request, version, self._settings().group_consumer_assignors)
            if request.member_epoch in LEAVING:
                return self._leave(request, now_ms)
            return self._stay(sender, request, now_ms)
        except KafkaError as error:
            return Outcome(response=refused_heartbeat(error.code, error.message))

    def _stay(self, sender: Sender, request: ConsumerGroupHeartbeatRequest, now_ms: int) -> Outcome:
        is_joining = request.member_epoch == 0
        step = self._open(request.group_id, now_ms, may_make=is_joining)
        group, owned = step.group, request.topic_partitions
        member_id = request.member_id or random_member_id(self._rng)
        self._check_room(group, member_id, request)
        if request.instance_id is None:
            find_dynamic(step, member_id, may_make=is_joining)
        else:
            find_static(step, member_id, request.instance_id, may_make=is_joining, is_classic=False)
        has = None if owned is None else partitions_of(owned)
        check_epoch(step.former, request.member_epoch, has)
        step.may_see = sender.may_see
        step.member = _updated(step.former, sender, request)
        member = self.advance.advance(step, has)
        former, settings = step.former, self.settings_of(group.id)
        is_full = is_joining or (
            request.rebalance_timeout_ms != -1
            and owned is not None
            and (request.subscribed_topic_names or request.subscribed_topic_regex) is not None
        )
        response = ConsumerGroupHeartbeatResponse(
            member_id=member.id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
        )
        if is_full or _plain(member) != _plain(former):
            response.assignment = _assignment(member)
        step.effects.append(lambda: self.expect(group.id, member))
        return step.outcome(response)

    def _open(self, group_id: str, now_ms: int, *, may_make: bool) -> Step:
        """The group, made or upgraded if need be and if it may be. KafkaError."""
        group = self._groups.find_consumer(group_id)
        if group is not None:
            return Step(group, now_ms, [])
        classic = self._groups.find(group_id)
        if classic is not None and classic.members:
            if not may_make:
                raise not_a_consumer_group(group_id)
            step = self._migration.upgrade(classic, now_ms)
            step.effects += [
                partial(self.expect, group_id, each) for each in step.group.members.values()
            ]
            return step
        if not may_make:
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {group_id[:200]} not found."
            )
        step = Step(ConsumerGroup(group_id, Budget()), now_ms, [])
        if classic is not None:
            self._migration.drop_empty(classic, step)
        return step

    def _check_room(
        self, group: ConsumerGroup, member_id: str, request: ConsumerGroupHeartbeatRequest
    ) -> None:
        """KafkaError GROUP_MAX_SIZE_REACHED; COORDINATOR_NOT_AVAILABLE where the node is full."""
        if member_id not in group.members:
            check_group_size(group, self._settings())
        known, budget = group.at_place(member_id, request.instance_id), self._groups.budget
        names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
        if known is None:
            has_room = budget.has_room(_size_of(names or (), regex or ""))
        else:
            wants = _size_of(
                known.topics if names is None else names, known.regex if regex is None else regex
            )
            has_room = budget.may_grow(wants - _size_of(known.topics, known.regex))
        if not has_room:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def settings_of(self, group_id: str) -> ConsumerGroupSettings:
        configs = self._image().group_configs.get(group_id)
        return consumer_group_settings(configs, self._settings())

    # -- leaving

    def _leave(self, request: ConsumerGroupHeartbeatRequest, now_ms: int) -> Outcome:
        group = self._groups.find_consumer(request.group_id)
        if group is None:
            if self._groups.find(request.group_id) is not None:
                raise not_a_consumer_group(request.group_id)
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id[:200]} not found."
            )
        member = group.check_member(request.member_id, request.instance_id)
        response = ConsumerGroupHeartbeatResponse(
            member_id=member.id, member_epoch=request.member_epoch
        )
        if request.member_epoch == STATIC_LEAVE_EPOCH:
            gone = member._replace(epoch=STATIC_LEAVE_EPOCH, revoking={})
            return Outcome([gone.current_record(group.id)], response)
        return Outcome(self.remove(group, [member.id], now_ms), response)

    def fence(self, group: ConsumerGroup, member_id: str, now_ms: int) -> Outcome:
        return Outcome(self.remove(group, [member_id], now_ms))

    def remove(
        self, group: ConsumerGroup, member_ids: Sequence[str], now_ms: int
    ) -> list[GroupLogRecord]:
        """The records that put members out, and what follows for the group."""
        downgraded = self._migration.downgrade(group, member_ids, None, now_ms)
        if downgraded is not None:
            self.forget_timers(group.id, group.members)
            return downgraded
        self.forget_timers(group.id, member_ids)
        made: list[GroupLogRecord] = []
        rest = {each.id: each for each in group.members.values() if each.id not in member_ids}
        for member_id in member_ids:
            made += records.member_gone(group.id, member_id)
        used = {member.regex for member in rest.values()}
        made += [
            records.expression_gone(group.id, regex)
            for regex in group.expressions
            if regex not in used
        ]
        found = metadata_hash(group.subscribed_topics(rest), self._image())
        made += next_epoch(group, found)
        return made

    # -- sessions

    def forget_timers(self, group_id: str, member_ids: Iterable[str]) -> None:
        """These are no members any more, or not of a consumer group."""
        for member_id in member_ids:
            self.rejoining.pop((group_id, member_id), None)
            for name in ("session", "rebalance", "rejoin", "consumer sync"):
                self._host.cancel((name, group_id, member_id))

    def expect(self, group_id: str, member: ConsumerMember) -> None:
        """It is alive, and has to be heard of again."""
        if member.classic is not None:
            timeout_ms = member.classic.session_timeout_ms
        else:
            timeout_ms = self.settings_of(group_id).session_timeout_ms
        expire = partial(self._expire_session, group_id, member.id)
        self._host.schedule(("session", group_id, member.id), timeout_ms, expire)

    def _expire_session(self, group_id: str, member_id: str, _: object, now_ms: int) -> Outcome:
        group = self._groups.find_consumer(group_id)
        if group is None or member_id not in group.members:
            return Outcome()
        logger.info(
            "group %s: member %s of %s was not heard of in time, and is out of it",
            shown(group_id),
            shown(member_id),
            group.members[member_id].client_host,
        )
        return self.fence(group, member_id, now_ms)

    def loaded(self) -> None:
        """Members out of the log have one session timeout to be heard of."""
        for group in self._groups.consumer_groups():
            for member in group.members.values():
                self.expect(group.id, member)
                if member.state is UNREVOKED_PARTITIONS and not member.is_classic:
                    self.advance.expect_revocation(group.id, member)


# -- members


def find_dynamic(step: Step, member_id: str, *, may_make: bool) -> None:
    """KafkaError UNKNOWN_MEMBER_ID."""
    known = step.group.members.get(member_id)
    if known is None and may_make:
        known = ConsumerMember(member_id)
    step.begin(step.group.member(member_id) if known is None else known)


def find_static(
    step: Step, member_id: str, instance_id: str, *, may_make: bool, is_classic: bool
) -> None:
    """A static member comes, comes back, or is heard of. KafkaError UNRELEASED_INSTANCE_ID,
    UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
    group = step.group
    known_id = group.static_ids.get(instance_id)
    if not may_make:
        step.begin(group.check_member(member_id, instance_id))
        return
    if known_id is None or known_id == member_id:
        find_dynamic(step, member_id, may_make=True)
        return
    known = group.members[known_id]
    if not is_classic and not known.is_classic and known.epoch != STATIC_LEAVE_EPOCH:
        raise KafkaError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id[:200]} with instance id {instance_id[:200]} cannot join "
            f"the group because the instance id is owned by {known_id} member.",
        )
    member = known._replace(id=member_id, epoch=0, previous_epoch=0)
    step.replaced_id = known_id
    step.records += records.member_gone(group.id, known_id)
    step.begin(member)
    target = step.target_of(member_id)
    step.records.append(member.record(group.id))
    step.records.append(records.target_of_member(group.id, member_id, target))
    step.records.append(member.current_record(group.id))


def _updated(
    member: ConsumerMember, sender: Sender, request: ConsumerGroupHeartbeatRequest
) -> ConsumerMember:
    """The member, with what the request says anew."""
    member = member._replace(client_id=sender.client_id, client_host=sender.host, classic=None)
    if request.instance_id is not None:
        member = member._replace(instance_id=request.instance_id)
    if request.rack_id is not None:
        member = member._replace(rack_id=request.rack_id)
    if request.rebalance_timeout_ms != -1:
        member = member._replace(rebalance_timeout_ms=request.rebalance_timeout_ms)
    if request.server_assignor is not None:
        member = member._replace(assignor=request.server_assignor)
    if request.subscribed_topic_names is not None:
        member = member._replace(topics=tuple(sorted(set(request.subscribed_topic_names))))
    if request.subscribed_topic_regex is not None:
        member = member._replace(regex=request.subscribed_topic_regex)
    return member


def _size_of(topics: Sequence[str], regex: str) -> int:
    return size_of_texts(topics) + len(regex)


def _plain(member: ConsumerMember) -> dict[object, frozenset[int]]:
    return {topic: frozenset(indexes) for topic, indexes in member.assigned.items()}


def _assignment(member: ConsumerMember) -> Assignment:
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic, partitions=sorted(member.assigned[topic]))
            for topic in sorted(member.assigned)
        ]
    )


def random_member_id(rng: Rng) -> str:
    """A new member id: a random UUID, as in Java's text, or Kafka's of it."""
    text = rng.randbytes(16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def refused_heartbeat(
    code: ErrorCode, message: str | None = None
) -> ConsumerGroupHeartbeatResponse:
    return ConsumerGroupHeartbeatResponse(error_code=code, error_message=message)

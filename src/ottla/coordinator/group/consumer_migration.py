"""A group changes its protocol while it runs, as `group.consumer.migration.policy` allows.

    classic group ── a member joins with the new protocol ──> consumer group (upgrade)
    consumer group ── the last member with the new protocol goes, or a static one comes back with
                      the classic protocol; others are there ──> classic group (downgrade)

Upgrade. Its members keep their ids, their generation as epoch, and what they were assigned: that
is target and assignment in one. Whoever waits for a rebalance is told that there is another one.
Downgrade. The members keep what they may read, the group's epoch is its generation, and it
rebalances at once, behind the request that led to it.
Both are records: those that end the one group, and those that make the other.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.base.options import BrokerSettings
from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.classic import CONSUMER, STABLE, ClassicGroup
from ottla.coordinator.group.consumer_group import ConsumerGroup, metadata_hash
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.coordinator.group.consumer_records import (
    ClassicMemberMetadata,
    ClassicProtocol,
    Partitions,
)
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.member import Budget, Member, Protocol, shown
from ottla.coordinator.group.rebalance import Rebalance
from ottla.coordinator.group.records import GroupLogRecord, group_forgotten, size_of_record
from ottla.coordinator.machine import Host, Outcome
from ottla.metadata.image import ClusterImage
from ottla.protocol.consumer_protocol import (
    ConsumerProtocolSubscription,
    TopicPartition,
    assignment_bytes,
    read_assignment,
    read_subscription,
    version_of,
)

logger = logging.getLogger(__name__)

UPGRADING: Final = ("bidirectional", "upgrade")
DOWNGRADING: Final = ("bidirectional", "downgrade")


class Migration:
    def __init__(
        self,
        groups: Groups,
        rebalance: Rebalance,
        host: Host,
        image: Callable[[], ClusterImage],
        settings: Callable[[], BrokerSettings],
    ) -> None:
        self._groups = groups
        self._rebalance = rebalance
        self._host = host
        self._image = image
        self._settings = settings

    def drop_empty(self, classic: ClassicGroup, step: Step) -> None:
        """A classic group without members makes way."""
        if classic.is_durable:
            step.records.append(group_forgotten(classic.id))
        step.effects.append(lambda: self._groups.forget(classic))

    # -- upgrade

    def upgrade(self, classic: ClassicGroup, now_ms: int) -> Step:
        """The consumer group that a classic one becomes. KafkaError GROUP_ID_NOT_FOUND with the
        reason where it cannot."""
        self._check_upgrade(classic)
        image, generation = self._image(), classic.generation
        try:
            members = [upgraded(classic, each, image) for each in classic.members.values()]
        except ValueError as error:
            raise _not_upgraded(classic, str(error)) from None
        group = ConsumerGroup(classic.id, Budget())
        made: list[records.ConsumerRecord] = [each.record(group.id) for each in members]
        names = [name for each in members for name in each.topics]
        made.append(records.group_epoch(group.id, generation, metadata_hash(set(names), image)))
        for each in members:
            share = {topic: frozenset(epochs) for topic, epochs in each.assigned.items()}
            made.append(records.target_of_member(group.id, each.id, share))
        # No time: the members that now come must not wait for the assignment interval.
        made.append(records.target_epoch(group.id, generation, 0))
        made += [each.current_record(group.id) for each in members]
        for record in made:
            group.replay(record)
        step = Step(group, now_ms, [group_forgotten(classic.id), *made])
        step.effects.append(lambda: self._retire(classic))
        return step

    def _check_upgrade(self, classic: ClassicGroup) -> None:
        settings = self._settings()
        if settings.group_consumer_migration_policy not in UPGRADING:
            raise _not_upgraded(classic, "online upgrade is disabled")
        if classic.protocol_type != CONSUMER:
            raise _not_upgraded(classic, "the group does not use the consumer embedded protocol")
        if len(classic.members) > settings.group_consumer_max_size:
            raise _not_upgraded(classic, "the group size exceeds the consumer group maximum size")

    def _retire(self, classic: ClassicGroup) -> None:
        """Its waiting members join again, into the consumer group."""
        for name in ("join", "sync"):
            self._host.cancel((name, classic.id))
        for member in classic.members.values():
            self._rebalance.answer_join(classic, member, ErrorCode.REBALANCE_IN_PROGRESS)
            self._rebalance.refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS)
        count = len(classic.members)
        logger.info("group %s of %d members becomes a consumer group", shown(classic.id), count)

    # -- downgrade

    def _may_downgrade(
        self, group: ConsumerGroup, leaving: Sequence[str], joining: ConsumerMember | None
    ) -> bool:
        """Whether those that stay all speak the classic protocol, and may."""
        rest = len(group.members) - len(leaving) + (joining is not None)
        settings = self._settings()
        return (
            0 < rest <= settings.group_max_size
            and settings.group_consumer_migration_policy in DOWNGRADING
            and group.all_classic_but(leaving)
        )

    def downgrade(
        self,
        group: ConsumerGroup,
        leaving: Sequence[str],
        joining: ConsumerMember | None,
        now_ms: int,
    ) -> list[GroupLogRecord] | None:
        """The records that end the consumer group and make the classic one; None where it may not
        become one, or would be one that is too large for the log."""
        if not self._may_downgrade(group, leaving, joining):
            return None
        members = [each for each in group.members.values() if each.id not in leaving]
        if joining is not None:
            members.append(joining)
        classic = ClassicGroup(group.id, Budget(), now_ms)
        classic.generation = max(group.epoch, 0)
        image = self._image()
        for member in members:
            classic.add(_downgraded(member, image), CONSUMER)
        classic.protocol = classic.select_protocol()
        made: list[GroupLogRecord] = [*group.tombstones(), classic.record()]
        if sum(map(size_of_record, made)) > self._host.record_max_bytes:
            return None
        self._host.schedule(("downgrade", group.id), 0, partial(self._rebalanced, group.id))
        logger.info("group %s of %d members becomes a classic group", shown(group.id), len(members))
        return made

    def _rebalanced(self, group_id: str, _: object, now_ms: int) -> Outcome:
        classic = self._groups.find(group_id)
        if classic is None or not classic.members:
            return Outcome()
        for member in classic.members.values():
            self._rebalance.expect_heartbeat(classic, member, member.session_timeout_ms)
        if not classic.is_in(STABLE):
            return Outcome()
        return Outcome(self._rebalance.prepare(classic, now_ms))


def _not_upgraded(classic: ClassicGroup, reason: str) -> KafkaError:
    return KafkaError(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"Cannot upgrade classic group {classic.id[:200]} to consumer group because {reason}.",
    )


# -- members, from one protocol to the other


def upgraded(classic: ClassicGroup, member: Member, image: ClusterImage) -> ConsumerMember:
    """ValueError with a reason where what it said is not a consumer's."""
    try:
        subscription = read_subscription(_metadata(classic, member))
        assignment = read_assignment(member.assignment)
    except ValueError:
        raise ValueError("the embedded consumer protocol is malformed") from None
    if assignment.user_data:
        raise ValueError(
            "an unsupported custom assignor is in use. Please refer to the documentation or "
            "switch to a default assignor before re-attempting the upgrade"
        )
    has = ids_of(assignment.assigned_partitions, image)
    return ConsumerMember(
        member.id,
        epoch=classic.generation,
        previous_epoch=classic.generation,
        instance_id=member.instance_id,
        rack_id=subscription.rack_id or None,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=topics_of(subscription),
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        classic=classic_metadata(member.session_timeout_ms, member.protocols),
        assigned={topic: dict.fromkeys(each, classic.generation) for topic, each in has.items()},
    )


def _metadata(classic: ClassicGroup, member: Member) -> bytes:
    """What it said under the group's protocol, or, before there is one, under its first."""
    if classic.protocol is not None:
        return member.metadata(classic.protocol)
    return member.protocols[0].metadata


def _downgraded(member: ConsumerMember, image: ClusterImage) -> Member:
    assert member.classic is not None
    return Member(
        member.id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        session_timeout_ms=member.classic.session_timeout_ms,
        protocols=member.protocols,
        assignment=told_assignment(member, image),
    )


def told_assignment(member: ConsumerMember, image: ClusterImage) -> bytes:
    """What a member that speaks the classic protocol may read, in its own version."""
    assert member.classic is not None
    by_name: dict[str, list[int]] = {}
    for topic_id in sorted(member.assigned):
        topic = image.topics_by_id.get(topic_id)
        if topic is not None:
            by_name[topic.name] = sorted(member.assigned[topic_id])
    version = version_of(member.classic.supported_protocols[0].metadata)
    return assignment_bytes(by_name, version)


def classic_metadata(
    session_timeout_ms: int, protocols: Sequence[Protocol]
) -> ClassicMemberMetadata:
    return ClassicMemberMetadata(
        session_timeout_ms=session_timeout_ms,
        supported_protocols=[
            ClassicProtocol(name=each.name, metadata=each.metadata) for each in protocols
        ],
    )


def topics_of(subscription: ConsumerProtocolSubscription) -> tuple[str, ...]:
    return tuple(sorted(set(subscription.topics)))


def ids_of(rows: Sequence[TopicPartition], image: ClusterImage) -> Partitions:
    """Of topics that are there; partitions that are not are left out."""
    found: dict[Uuid, frozenset[int]] = {}
    for row in rows:
        topic = image.topics.get(row.topic)
        if topic is not None:
            count = len(topic.partitions)
            indexes = frozenset(each for each in row.partitions if 0 <= each < count)
            if indexes:
                found[topic.id] = found.get(topic.id, frozenset()) | indexes
    return found

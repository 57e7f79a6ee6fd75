"""What follows when a member of a consumer group comes, changes or is heard of.

    member changed ─> record of the member ─> subscriptions changed? ─> next epoch of the group
                                              topics changed?
    epoch of the group ahead of the target's ─> a new target, once the assignment interval is over
    member not at its target ─> its next step (see consumer_member)

Both protocols go this way: heartbeats of members of the new one, and JoinGroups of those that
speak the classic one. The group changes by what is replayed, see `Step`. Timers, by key:

    ("assign", group)              the assignment interval is over
    ("rebalance", group, member)   it did not give back in time what it was told to
"""

import logging
from collections.abc import Callable
from functools import partial

from ottla.base.group_options import consumer_group_settings
from ottla.base.options import BrokerSettings
from ottla.coordinator.group.consumer_expressions import Expressions, next_epoch
from ottla.coordinator.group.consumer_group import NO_PARTITIONS, ConsumerGroup, metadata_hash
from ottla.coordinator.group.consumer_member import (
    UNREVOKED_PARTITIONS,
    ConsumerMember,
    Owned,
    Target,
    reconciled,
)
from ottla.coordinator.group.consumer_records import Partitions
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.consumer_target import new_target, target_records, topic_ids
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.member import shown
from ottla.coordinator.machine import Host, Outcome
from ottla.metadata.image import ClusterImage

logger = logging.getLogger(__name__)

Fence = Callable[[ConsumerGroup, str, int], Outcome]
"""Put a member out of a group, at a time."""


class Advance:
    def __init__(
        self,
        groups: Groups,
        host: Host,
        image: Callable[[], ClusterImage],
        settings: Callable[[], BrokerSettings],
        fence: Fence,
    ) -> None:
        self._groups = groups
        self._host = host
        self._image = image
        self._settings = settings
        self._fence = fence
        self._expressions = Expressions(groups, host, image)

    def advance(self, step: Step, owned: Owned) -> ConsumerMember:
        """Add to a step what follows from it; the member as it is then. KafkaError where its
        subscription cannot be."""
        group, image = step.group, self._image()
        has_new_names = step.member.topics != step.former.topics
        has_new_expression = step.member.regex != step.former.regex
        is_resolved = has_new_expression and self._expressions.changed(step)
        if step.is_new or not step.member.has_same_metadata(step.former):
            step.records.append(step.member.record(group.id))
        epoch = self._bumped(step, image, must=has_new_names or is_resolved or group.epoch == 0)
        target_epoch, share = self._target(step, image, epoch)
        target = Target(
            target_epoch,
            share,
            topic_ids(image, group.topics_of(step.member)),
            has_new_names or has_new_expression,
        )
        if target.has_new_topics or not step.member.is_reconciled_to(target_epoch):
            self._reconcile(step, target, owned)
        self._expressions.maybe_refresh(step)
        return step.member

    def _bumped(self, step: Step, image: ClusterImage, *, must: bool) -> int:
        """The epoch of the group; a new one where there is a reason."""
        group = step.group
        if not must and group.has_checked(image):
            return group.epoch
        found = metadata_hash(group.subscribed_topics(step.members()), image)
        # Only where the step is taken: one that is refused has to be made again.
        step.effects.append(lambda: group.note_checked(image))
        if not must and found == group.metadata_hash:
            return group.epoch
        step.records += next_epoch(group, found)
        return group.epoch + 1

    def _reconcile(self, step: Step, target: Target, owned: Owned) -> None:
        member = reconciled(step.member, target, step.is_free, owned)
        if not member.has_same_assignment(step.member):
            group_id = step.group.id
            step.records.append(member.current_record(group_id))
            step.effects.append(lambda: self._watch(group_id, member))
        step.member = member

    # -- the target

    def _target(self, step: Step, image: ClusterImage, epoch: int) -> tuple[int, Partitions]:
        """Epoch and share of the target that the member is to go to."""
        group, member_id = step.group, step.member.id
        if epoch <= group.target_epoch:
            return group.target_epoch, step.target_of(member_id)
        wait_ms = self._wait_ms(group, step.now_ms)
        if wait_ms > 0:
            group_id = group.id
            step.effects.append(lambda: self._assign_in(group_id, wait_ms))
            return group.target_epoch, step.target_of(member_id)
        default = self._settings().group_consumer_assignors[0]
        shares = new_target(group, step.members(), step.target_of, image, default)
        step.records += target_records(group, shares, epoch, step.now_ms)
        return epoch, shares[member_id]

    def _wait_ms(self, group: ConsumerGroup, now_ms: int) -> int:
        """How long no other target may be made; 0 where there is none yet."""
        if not group.target_time_ms or group.target_epoch <= 0:
            return 0
        configs = self._image().group_configs.get(group.id)
        interval_ms = consumer_group_settings(configs, self._settings()).assignment_interval_ms
        since_ms = now_ms - group.target_time_ms
        return interval_ms - since_ms if since_ms >= 0 else 0

    def _assign_in(self, group_id: str, wait_ms: int) -> None:
        self._host.schedule(("assign", group_id), wait_ms, partial(self._assign, group_id))

    def _assign(self, group_id: str, _: object, now_ms: int) -> Outcome:
        """What changed in an assignment interval leads to one target."""
        group = self._groups.find_consumer(group_id)
        if group is None or not group.members or group.epoch <= group.target_epoch:
            return Outcome()
        if (wait_ms := self._wait_ms(group, now_ms)) > 0:
            self._assign_in(group_id, wait_ms)
            return Outcome()

        def target_of(member_id: str) -> Partitions:
            return group.targets.get(member_id, NO_PARTITIONS)

        default = self._settings().group_consumer_assignors[0]
        shares = new_target(group, group.members, target_of, self._image(), default)
        return Outcome(target_records(group, shares, group.epoch, now_ms))

    # -- members that do not give back

    def _watch(self, group_id: str, member: ConsumerMember) -> None:
        """Members that speak the classic protocol have timers of their own."""
        if member.state is UNREVOKED_PARTITIONS and not member.is_classic:
            self.expect_revocation(group_id, member)
        else:
            self._host.cancel(("rebalance", group_id, member.id))

    def expect_revocation(self, group_id: str, member: ConsumerMember) -> None:
        late = partial(self._expire_revocation, group_id, member.id, member.epoch)
        key = ("rebalance", group_id, member.id)
        self._host.schedule(key, max(member.rebalance_timeout_ms, 0), late)

    def _expire_revocation(
        self, group_id: str, member_id: str, epoch: int, _: object, now_ms: int
    ) -> Outcome:
        group = self._groups.find_consumer(group_id)
        member = group.members.get(member_id) if group is not None else None
        if group is None or member is None or member.epoch != epoch:
            return Outcome()
        if member.state is not UNREVOKED_PARTITIONS:
            return Outcome()
        logger.info(
            "group %s: member %s of %s did not give back its partitions in time, and is out of it",
            shown(group_id),
            shown(member_id),
            member.client_host,
        )
        return self._fence(group, member_id, now_ms)

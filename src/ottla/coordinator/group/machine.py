"""The state machine of one partition of `__consumer_offsets`: its groups and their offsets.

Put together of parts that share `groups`: `joining`, `membership` and `rebalance` move classic
groups, `consumers` and `mixed` consumer groups, and `Migration` makes the one kind of the other;
`offsets` and `admin` answer for both. A request of the classic protocol goes to whom its group
belongs.
Work over all groups (expiry, topics that are gone) is done a piece at a time, so that nobody
waits for it.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.base.options import BrokerSettings
from ottla.base.world import Rng
from ottla.coordinator.group.admin import GroupAdmin
from ottla.coordinator.group.consumer_membership import ConsumerMembership
from ottla.coordinator.group.consumer_migration import Migration
from ottla.coordinator.group.consumer_mixed import MixedMembership
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.joining import Joining
from ottla.coordinator.group.member import Budget, Sender
from ottla.coordinator.group.membership import Membership
from ottla.coordinator.group.offsets import OffsetBook
from ottla.coordinator.group.rebalance import Rebalance
from ottla.coordinator.group.records import GroupLogRecord, decode_record, encode_record
from ottla.coordinator.machine import Host, Outcome
from ottla.coordinator.pending import Pending
from ottla.metadata.image import ClusterImage
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupRequest
from ottla.protocol.messages.leave_group import LeaveGroupRequest
from ottla.protocol.messages.sync_group import SyncGroupRequest

PIECE_GROUPS: Final = 200
PIECE_RECORDS: Final = 2_000
"""Where a piece of work over all groups ends."""

Visit = Callable[[str, int], list[GroupLogRecord]]
"""Of a group's id and the wall clock in ms."""


class GroupMachine:
    def __init__(
        self,
        host: Host,
        rng: Rng,
        settings: Callable[[], BrokerSettings],
        budget: Budget,
        image: Callable[[], ClusterImage],
    ) -> None:
        self._host = host
        self._settings = settings
        self._walks = 0
        self.groups = Groups(budget)
        self.rebalance = Rebalance(self.groups, host, settings)
        self.joining = Joining(self.groups, self.rebalance, host, rng, settings)
        self.membership = Membership(self.groups, self.rebalance, host)
        migration = Migration(self.groups, self.rebalance, host, image, settings)
        self.consumers = ConsumerMembership(self.groups, migration, host, rng, image, settings)
        self.mixed = MixedMembership(
            self.groups, self.consumers, migration, host, rng, image, settings
        )
        self.offsets = OffsetBook(self.groups, self.membership, settings)
        self.admin = GroupAdmin(self.groups, self.offsets)

    # -- as a shard's machine

    def encode(self, record: GroupLogRecord) -> tuple[bytes, bytes | None]:
        return encode_record(record)

    def decode(self, key: bytes, value: bytes | None) -> GroupLogRecord | None:
        return decode_record(key, value)

    def replay(self, record: GroupLogRecord) -> None:
        self.groups.replay(record)

    def replay_pending(self, record: GroupLogRecord, producer_id: int) -> None:
        self.groups.replay_pending(record, producer_id)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        self.groups.end_transaction(producer_id, committed=committed)

    def loaded(self, now_ms: int) -> None:
        self.rebalance.loaded(now_ms)
        self.consumers.loaded()
        self._schedule_expiry()

    def closed(self, code: ErrorCode) -> None:
        for group in self.groups.joined():
            for member in group.members.values():
                for pending in (member.join, member.sync):
                    if pending is not None:
                        pending.fail(code)
        self.groups.close()

    # -- requests of the classic protocol

    def join(
        self, sender: Sender, request: JoinGroupRequest, pending: Pending, now_ms: int
    ) -> Outcome:
        group = self.groups.find_consumer(request.group_id)
        if group is not None and group.members:
            return self.mixed.join(group, sender, request, pending, now_ms)
        outcome = self.joining.join(sender, request, pending, now_ms)
        if group is None or self.groups.find(group.id) is None:
            return outcome
        # An empty consumer group makes way for the classic one.
        return outcome._replace(records=[*group.tombstones(), *outcome.records])

    def sync(self, request: SyncGroupRequest, pending: Pending, now_ms: int) -> Outcome:
        group = self.groups.find_consumer(request.group_id)
        if group is not None:
            return self.mixed.sync(group, request)
        return self.membership.sync(request, pending, now_ms)

    def heartbeat(self, request: HeartbeatRequest) -> Outcome:
        group = self.groups.find_consumer(request.group_id)
        if group is not None:
            return self.mixed.heartbeat(group, request)
        return self.membership.heartbeat(request)

    def leave(self, request: LeaveGroupRequest, now_ms: int) -> Outcome:
        group = self.groups.find_consumer(request.group_id)
        if group is not None:
            return self.mixed.leave(group, request, now_ms)
        return self.membership.leave(request, now_ms)

    # -- work over all groups

    def forget_topics(self, gone: Mapping[str, Uuid], now_ms: int) -> Outcome:
        """Topics were deleted, and the offsets of their partitions with them."""
        self._walks += 1

        def visit(group_id: str, _: int) -> list[GroupLogRecord]:
            return self.offsets.delete_topics(group_id, gone)

        return self._walk(("topics", self._walks), self.groups.ids(), 0, visit, self, now_ms)

    def _schedule_expiry(self) -> None:
        interval_ms = self._settings().offsets_retention_check_interval_ms
        self._host.schedule(("expiry",), interval_ms, self._expire)

    def _expire(self, _: object, now_ms: int) -> Outcome:
        self._schedule_expiry()
        return self._walk(("expire",), self.groups.ids(), 0, self.offsets.expire, self, now_ms)

    def _walk(
        self,
        key: Hashable,
        group_ids: list[str],
        start: int,
        visit: Visit,
        _: object,
        now_ms: int,
    ) -> Outcome:
        """Visit some groups now, and the others in later turns."""
        records: list[GroupLogRecord] = []
        at = start
        while at < len(group_ids) and at - start < PIECE_GROUPS and len(records) < PIECE_RECORDS:
            records += visit(group_ids[at], now_ms)
            at += 1
        if at < len(group_ids):
            self._host.schedule(key, 0, partial(self._walk, key, group_ids, at, visit))
        return Outcome(records, is_divisible=True)

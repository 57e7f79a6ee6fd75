"""How far groups have read: commit, fetch, delete, and what expires.

An offset is kept as long as its group lives, and `offsets.retention.minutes` longer: counted from
when the group became empty, or from the commit where the group never had members, or has members
that read other topics. A commit with a time of its own (OffsetCommit up to 4) keeps that.
An offset carries the id of its topic: where a topic was deleted and made again, what was read of
the former one is not told of the new one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, Uuid
from ottla.base.option import LONG_MAX
from ottla.base.options import BrokerSettings
from ottla.coordinator.group.classic import CONSUMER, EMPTY, STABLE, ClassicGroup
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_offsets import check_commit, check_fetch
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.membership import Membership
from ottla.coordinator.group.records import (
    GroupLogRecord,
    OffsetKey,
    OffsetRecord,
    OffsetValue,
    group_forgotten,
    offset_forgotten,
)
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponsePartition,
)

MINUTE_MS: Final = 60_000
GROUP_KNOWN_VERSION: Final = 9
"""From this OffsetCommit on a group that is not there is called so."""


class Commit(NamedTuple):
    """An offset to commit, of a partition that exists, and its place in the response."""

    topic: str
    topic_id: Uuid
    asked: OffsetCommitRequestPartition
    row: OffsetCommitResponsePartition


class OffsetBook:
    def __init__(
        self, groups: Groups, membership: Membership, settings: Callable[[], BrokerSettings]
    ) -> None:
        self._groups = groups
        self._membership = membership
        self._settings = settings

    # -- commit

    def commit(
        self,
        request: OffsetCommitRequest,
        commits: Iterable[Commit],
        version: int,
        now_ms: int,
        *,
        is_transactional: bool = False,
    ) -> list[OffsetRecord]:
        """The records; a row that cannot be committed is told so. KafkaError for all of them."""
        commits = list(commits)
        consumer_group = self._groups.find_consumer(request.group_id)
        if consumer_group is None:
            self._check_group(request, version, is_transactional=is_transactional)
        else:
            places = ((each.topic_id, each.asked.partition_index) for each in commits)
            check_commit(
                consumer_group, request, places, version, is_transactional=is_transactional
            )
        retention_ms = request.retention_time_ms
        expire_timestamp = -1 if retention_ms == -1 else min(now_ms + retention_ms, LONG_MAX)
        longest = self._settings().offset_metadata_max_bytes
        records = []
        for topic, topic_id, asked, row in commits:
            metadata = asked.committed_metadata or ""
            if len(metadata) > longest:
                row.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                continue
            value = OffsetValue(
                offset=asked.committed_offset,
                leader_epoch=asked.committed_leader_epoch,
                metadata=metadata,
                commit_timestamp=now_ms,
                expire_timestamp=expire_timestamp,
                topic_id=topic_id,
            )
            key = OffsetKey(group=request.group_id, topic=topic, partition=asked.partition_index)
            records.append(OffsetRecord(key, value))
        return records

    def _check_group(
        self, request: OffsetCommitRequest, version: int, *, is_transactional: bool
    ) -> None:
        generation = request.generation_id_or_member_epoch
        group = self._groups.find(request.group_id)
        if group is not None:
            self._membership.check_commit(
                group,
                request.member_id,
                request.group_instance_id,
                generation,
                is_transactional=is_transactional,
            )
        elif generation >= 0:
            is_known = version >= GROUP_KNOWN_VERSION
            raise KafkaError(
                ErrorCode.GROUP_ID_NOT_FOUND if is_known else ErrorCode.ILLEGAL_GENERATION
            )

    # -- fetch

    def check_fetch(self, group_id: str, member_id: str | None, epoch: int) -> None:
        """Members of consumer groups name their epoch; KafkaError where it is not theirs."""
        group = self._groups.find_consumer(group_id)
        if group is not None:
            check_fetch(group, member_id, epoch)

    def fetch(
        self, group_id: str, topic: str, topic_id: Uuid, partitions: Iterable[int]
    ) -> list[tuple[int, OffsetValue | None]]:
        """What the group committed of these partitions of the topic of that id."""
        offsets = self._groups.offsets(group_id)
        return [(each, _of_topic(offsets.get((topic, each)), topic_id)) for each in partitions]

    def topics(self, group_id: str) -> dict[str, list[int]]:
        """The partitions of which the group committed something, by topic."""
        topics: dict[str, list[int]] = {}
        for topic, partition in self._groups.offsets(group_id):
            topics.setdefault(topic, []).append(partition)
        return topics

    # -- delete

    def deletable(self, group_id: str) -> ClassicGroup | ConsumerGroup:
        """The group, if some of its offsets may be deleted: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
        consumer_group = self._groups.find_consumer(group_id)
        if consumer_group is not None:
            return consumer_group
        group = self._groups.known(group_id)
        if not group.is_in(EMPTY) and group.protocol_type != CONSUMER:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        return group

    def delete(
        self, group: ClassicGroup | ConsumerGroup, topic: str, partition: int
    ) -> list[OffsetRecord]:
        """KafkaError GROUP_SUBSCRIBED_TO_TOPIC while a member reads it."""
        if group.is_subscribed_to(topic):
            raise KafkaError(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
        is_there = (topic, partition) in self._groups.offsets(group.id)
        if not (is_there or self._groups.pending.has(group.id, topic, partition)):
            return []
        return [offset_forgotten(group.id, topic, partition)]

    def delete_all(self, group_id: str) -> list[OffsetRecord]:
        places = (*self._groups.offsets(group_id), *self._groups.pending.places(group_id))
        return [offset_forgotten(group_id, *place) for place in dict.fromkeys(places)]

    def delete_topics(self, group_id: str, gone: Mapping[str, Uuid]) -> list[GroupLogRecord]:
        """These topics are gone; what was committed of later ones of their names stays."""
        offsets = {**self._groups.offsets(group_id), **self._groups.pending.latest(group_id)}
        return [
            offset_forgotten(group_id, topic, partition)
            for (topic, partition), value in offsets.items()
            if topic in gone and value.is_of(gone[topic])
        ]

    # -- expire

    def expire(self, group_id: str, now_ms: int) -> list[GroupLogRecord]:
        """Forget the offsets whose time is over, and a group that has none left."""
        consumer_group = self._groups.find_consumer(group_id)
        if consumer_group is not None:
            return self._expire_consumer(consumer_group, now_ms)
        group = self._groups.find(group_id)
        if group is None:
            return []
        offsets = self._groups.offsets(group_id)
        expired: list[GroupLogRecord] = []
        if offsets:
            since = self._expires_since(group)
            if since is None:
                return []
            retention_ms = self._settings().offsets_retention_minutes * MINUTE_MS
            for (topic, partition), value in offsets.items():
                due_ms = value.expire_timestamp
                if due_ms == -1:
                    due_ms = since(value) + retention_ms
                is_pending = self._groups.pending.has(group_id, topic, partition)
                if now_ms >= due_ms and not (is_pending or group.is_subscribed_to(topic)):
                    expired.append(offset_forgotten(group_id, topic, partition))
        is_pending = self._groups.pending.has_group(group_id)
        is_spent = len(expired) == len(offsets) and not is_pending
        if is_spent and group.is_in(EMPTY) and group.is_durable:
            expired.append(group_forgotten(group_id))
        return expired

    def _expire_consumer(self, group: ConsumerGroup, now_ms: int) -> list[GroupLogRecord]:
        """Counted from the commit, of topics that no member reads."""
        offsets, pending = self._groups.offsets(group.id), self._groups.pending
        retention_ms = self._settings().offsets_retention_minutes * MINUTE_MS
        read = group.subscribed_topics()
        expired: list[GroupLogRecord] = []
        for (topic, partition), value in offsets.items():
            due_ms = value.expire_timestamp
            if due_ms == -1:
                due_ms = value.commit_timestamp + retention_ms
            if (
                now_ms >= due_ms
                and topic not in read
                and not pending.has(group.id, topic, partition)
            ):
                expired.append(offset_forgotten(group.id, topic, partition))
        if len(expired) == len(offsets) and not group.members and not pending.has_group(group.id):
            expired += group.tombstones()
        return expired

    @staticmethod
    def _expires_since(group: ClassicGroup) -> Callable[[OffsetValue], int] | None:
        """From when retention counts; None while nothing of the group expires."""
        if group.protocol_type is None:
            return _commit_time
        if group.is_in(EMPTY):
            since_ms = group.state_since_ms
            return _commit_time if since_ms == -1 else lambda _: since_ms
        is_read = group.protocol_type == CONSUMER and group.subscribed_topics() is not None
        return _commit_time if is_read and group.is_in(STABLE) else None


def _commit_time(value: OffsetValue) -> int:
    return value.commit_timestamp


def _of_topic(value: OffsetValue | None, topic_id: Uuid) -> OffsetValue | None:
    if value is None or topic_id == ZERO_UUID or value.is_of(topic_id):
        return value
    return None

"""The records of consumer groups in `__consumer_offsets` (KIP-848), byte for byte Kafka's.

    key     i16 kind | fields              value   i16 version 0 | flexible fields; null forgets

    kind  what                                      key fields
    3     epoch of the group, hash of its topics    group
    4     topics of the group (Kafka 4.0 wrote it)  group
    5     a member, and what it asks for            group, member
    6     epoch of the target assignment            group
    7     target assignment of a member             group, member
    8     what a member has, and must give back     group, member
    16    topics that a regular expression matches  group, expression

A group is the sum of its records. They are written so that none stands without those it needs:
members before the epoch they caused, the target's parts before its epoch.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ottla.base.ids import Uuid
from ottla.protocol.message import Struct, field
from ottla.protocol.types import int8, int32, int64

Partitions = Mapping[Uuid, frozenset[int]]
"""Partitions by topic id; no topic without partitions."""
Epochs = Mapping[Uuid, Mapping[int, int]]
"""Partitions by topic id, each with the epoch in which its member got it."""


class ConsumerGroupKey(Struct, versions="0"):
    group_id: str = field()


class ConsumerGroupValue(Struct, versions="0", flexible="0+"):
    epoch: int = field(int32)
    metadata_hash: int = field(int64, tag=0, default=0)


class PartitionMetadataKey(Struct, versions="0"):
    group_id: str = field()


class PartitionRacks(Struct):
    partition: int = field(int32)
    racks: list[str] = field()


class TopicMetadata(Struct):
    topic_id: Uuid = field()
    topic_name: str = field()
    num_partitions: int = field(int32)
    partition_metadata: list[PartitionRacks] = field()


class PartitionMetadataValue(Struct, versions="0", flexible="0+"):
    topics: list[TopicMetadata] = field()


class ConsumerMemberKey(Struct, versions="0"):
    group_id: str = field()
    member_id: str = field()


class ClassicProtocol(Struct):
    name: str = field()
    metadata: bytes = field()


class ClassicMemberMetadata(Struct):
    session_timeout_ms: int = field(int32)
    supported_protocols: list[ClassicProtocol] = field()


class ConsumerMemberValue(Struct, versions="0", flexible="0+"):
    instance_id: str | None = field(nullable="0+")
    rack_id: str | None = field(nullable="0+")
    client_id: str = field()
    client_host: str = field()
    subscribed_topic_names: list[str] = field()
    subscribed_topic_regex: str | None = field(nullable="0+")
    rebalance_timeout_ms: int = field(int32, default=-1)
    server_assignor: str | None = field(nullable="0+")
    classic_member_metadata: ClassicMemberMetadata | None = field(
        nullable="0+", tag=0, default=None
    )


class TargetKey(Struct, versions="0"):
    group_id: str = field()


class TargetValue(Struct, versions="0", flexible="0+"):
    assignment_epoch: int = field(int32)
    assignment_timestamp: int = field(int64, tag=0, default=0, ignorable=True)


class TargetMemberKey(Struct, versions="0"):
    group_id: str = field()
    member_id: str = field()


class TargetPartitions(Struct):
    topic_id: Uuid = field()
    partitions: list[int] = field(int32)


class TargetMemberValue(Struct, versions="0", flexible="0+"):
    topic_partitions: list[TargetPartitions] = field()


class CurrentKey(Struct, versions="0"):
    group_id: str = field()
    member_id: str = field()


class CurrentPartitions(Struct):
    topic_id: Uuid = field()
    partitions: list[int] = field(int32)
    assignment_epochs: list[int] | None = field(int32, nullable="0+", tag=0, default=None)


class CurrentValue(Struct, versions="0", flexible="0+"):
    member_epoch: int = field(int32)
    previous_member_epoch: int = field(int32)
    state: int = field(int8)
    assigned_partitions: list[CurrentPartitions] = field()
    partitions_pending_revocation: list[CurrentPartitions] = field()


class RegularExpressionKey(Struct, versions="0"):
    group_id: str = field()
    regular_expression: str = field()


class RegularExpressionValue(Struct, versions="0", flexible="0+"):
    topics: list[str] = field()
    version: int = field(int64)
    timestamp: int = field(int64)


class ConsumerRecord(NamedTuple):
    """The class of `key` tells the kind. `value` None forgets what the key names."""

    key: Any
    value: Any


CONSUMER_KINDS: Final[Mapping[int, tuple[type[Struct], type[Struct]]]] = {
    3: (ConsumerGroupKey, ConsumerGroupValue),
    4: (PartitionMetadataKey, PartitionMetadataValue),
    5: (ConsumerMemberKey, ConsumerMemberValue),
    6: (TargetKey, TargetValue),
    7: (TargetMemberKey, TargetMemberValue),
    8: (CurrentKey, CurrentValue),
    16: (RegularExpressionKey, RegularExpressionValue),
}
KIND_OF: Final[Mapping[type[Struct], int]] = {
    key_class: kind for kind, (key_class, _) in CONSUMER_KINDS.items()
}


# -- partitions, as maps and as rows


def partitions_of(rows: Iterable[Any]) -> Partitions:
    """Of any rows with a topic id and partitions; a topic that comes twice is joined."""
    found: dict[Uuid, frozenset[int]] = {}
    for row in rows:
        if row.partitions:
            found[row.topic_id] = found.get(row.topic_id, frozenset()).union(row.partitions)
    return found


def epochs_of(rows: Iterable[CurrentPartitions], epoch: int) -> Epochs:
    """`epoch` for rows that do not tell theirs: Kafka before 4.3 wrote them."""
    found: dict[Uuid, dict[int, int]] = {}
    for row in rows:
        epochs = row.assignment_epochs
        if epochs is None or len(epochs) != len(row.partitions):
            epochs = [epoch] * len(row.partitions)
        if row.partitions:
            found.setdefault(row.topic_id, {}).update(zip(row.partitions, epochs, strict=True))
    return found


def _target_rows(partitions: Partitions) -> list[TargetPartitions]:
    return [
        TargetPartitions(topic_id=topic_id, partitions=sorted(partitions[topic_id]))
        for topic_id in sorted(partitions)
    ]


def _current_rows(epochs: Epochs) -> list[CurrentPartitions]:
    rows = []
    for topic_id in sorted(epochs):
        of_topic = epochs[topic_id]
        indexes = sorted(of_topic)
        rows.append(
            CurrentPartitions(
                topic_id=topic_id,
                partitions=indexes,
                assignment_epochs=[of_topic[index] for index in indexes],
            )
        )
    return rows


# -- records


def group_epoch(group_id: str, epoch: int, metadata_hash: int) -> ConsumerRecord:
    value = ConsumerGroupValue(epoch=epoch, metadata_hash=metadata_hash)
    return ConsumerRecord(ConsumerGroupKey(group_id=group_id), value)


def group_gone(group_id: str) -> ConsumerRecord:
    return ConsumerRecord(ConsumerGroupKey(group_id=group_id), None)


def partition_metadata_gone(group_id: str) -> ConsumerRecord:
    return ConsumerRecord(PartitionMetadataKey(group_id=group_id), None)


def member_record(group_id: str, member_id: str, value: ConsumerMemberValue) -> ConsumerRecord:
    return ConsumerRecord(ConsumerMemberKey(group_id=group_id, member_id=member_id), value)


def target_epoch(group_id: str, epoch: int, now_ms: int) -> ConsumerRecord:
    value = TargetValue(assignment_epoch=epoch, assignment_timestamp=now_ms)
    return ConsumerRecord(TargetKey(group_id=group_id), value)


def target_gone(group_id: str) -> ConsumerRecord:
    return ConsumerRecord(TargetKey(group_id=group_id), None)


def target_of_member(group_id: str, member_id: str, partitions: Partitions) -> ConsumerRecord:
    value = TargetMemberValue(topic_partitions=_target_rows(partitions))
    return ConsumerRecord(TargetMemberKey(group_id=group_id, member_id=member_id), value)


def current_of_member(
    group_id: str,
    member_id: str,
    *,
    epoch: int,
    previous_epoch: int,
    state: int,
    assigned: Epochs,
    revoking: Epochs,
) -> ConsumerRecord:
    value = CurrentValue(
        member_epoch=epoch,
        previous_member_epoch=previous_epoch,
        state=state,
        assigned_partitions=_current_rows(assigned),
        partitions_pending_revocation=_current_rows(revoking),
    )
    return ConsumerRecord(CurrentKey(group_id=group_id, member_id=member_id), value)


def member_gone(group_id: str, member_id: str) -> list[ConsumerRecord]:
    """All that is known of a member."""
    keys = (
        CurrentKey(group_id=group_id, member_id=member_id),
        TargetMemberKey(group_id=group_id, member_id=member_id),
        ConsumerMemberKey(group_id=group_id, member_id=member_id),
    )
    return [ConsumerRecord(key, None) for key in keys]


def expression_record(
    group_id: str, expression: str, topics: Iterable[str], version: int, now_ms: int
) -> ConsumerRecord:
    value = RegularExpressionValue(topics=sorted(topics), version=version, timestamp=now_ms)
    key = RegularExpressionKey(group_id=group_id, regular_expression=expression)
    return ConsumerRecord(key, value)


def expression_gone(group_id: str, expression: str) -> ConsumerRecord:
    key = RegularExpressionKey(group_id=group_id, regular_expression=expression)
    return ConsumerRecord(key, None)

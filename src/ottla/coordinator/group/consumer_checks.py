"""What a ConsumerGroupHeartbeat is held to, before it changes anything (KIP-848).

Every refusal has its words: clients show them to people.
"""

from collections.abc import Sequence
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.options import BrokerSettings
from ottla.coordinator.group.assignors import ASSIGNORS
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_member import STATIC_LEAVE_EPOCH, ConsumerMember
from ottla.coordinator.group.consumer_records import Partitions
from ottla.coordinator.group.expressions import compiled
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest

OWN_ID_VERSION: Final = 1
"""From this version on a member makes its id itself (KIP-1082)."""


def check_request(
    request: ConsumerGroupHeartbeatRequest, version: int, assignors: Sequence[str]
) -> None:
    """KafkaError INVALID_REQUEST, UNSUPPORTED_ASSIGNOR or INVALID_REGULAR_EXPRESSION."""
    epoch = request.member_epoch
    is_joining = epoch == 0
    faults = (
        (not request.group_id, "GroupId can't be empty."),
        (request.instance_id == "", "InstanceId can't be empty."),
        (request.rack_id == "", "RackId can't be empty."),
        (epoch < STATIC_LEAVE_EPOCH, "MemberEpoch is invalid."),
        (
            not request.member_id and (not is_joining or version >= OWN_ID_VERSION),
            "MemberId can't be empty.",
        ),
        (
            epoch == STATIC_LEAVE_EPOCH and request.instance_id is None,
            "InstanceId can't be null.",
        ),
        (
            is_joining and request.rebalance_timeout_ms == -1,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            is_joining and (request.topic_partitions is None or request.topic_partitions),
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            is_joining
            and request.subscribed_topic_names is None
            and request.subscribed_topic_regex is None,
            "SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
    )
    for is_fault, words in faults:
        if is_fault:
            raise KafkaError(ErrorCode.INVALID_REQUEST, words)
    assignor = request.server_assignor
    if assignor is not None and (assignor not in assignors or assignor not in ASSIGNORS):
        raise KafkaError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {assignor[:200]} is not supported. Supported assignors: "
            f"{', '.join(assignors)}.",
        )
    if request.subscribed_topic_regex:
        compiled(request.subscribed_topic_regex)


def check_group_size(group: ConsumerGroup, settings: BrokerSettings) -> None:
    """KafkaError GROUP_MAX_SIZE_REACHED where there is no place for one more."""
    largest = settings.group_consumer_max_size
    if len(group.members) >= largest:
        raise KafkaError(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The consumer group has reached its maximum capacity of {largest} members.",
        )


def check_epoch(member: ConsumerMember, epoch: int, owned: Partitions | None) -> None:
    """KafkaError FENCED_MEMBER_EPOCH. The epoch before is taken from a member that has nothing
    but what it was given: the answer that told it of its new one was lost."""
    if epoch in (0, member.epoch):
        return
    is_behind = epoch < member.epoch
    if is_behind and epoch == member.previous_epoch and _is_part(owned, member):
        return
    raise KafkaError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {'smaller' if is_behind else 'greater'} member epoch "
        f"({epoch}) than the one known by the group coordinator ({member.epoch}). The member "
        "must abandon all its partitions and rejoin.",
    )


def _is_part(owned: Partitions | None, member: ConsumerMember) -> bool:
    if owned is None:
        return False
    return all(indexes <= member.assigned.get(topic, {}).keys() for topic, indexes in owned.items())


def not_a_consumer_group(group_id: str) -> KafkaError:
    return KafkaError(
        ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id[:200]} is not a consumer group."
    )

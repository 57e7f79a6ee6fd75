"""Who may commit and fetch offsets of a consumer group, and which of them expire.

A member names its epoch. An older one than its own will do for a partition that it has had since:
what it read then was its to read (KIP-1251). A newer one, or a partition that it does not have, is
STALE_MEMBER_EPOCH, and ILLEGAL_GENERATION for a member that speaks the classic protocol.
"""

from collections.abc import Iterable
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import Uuid
from ottla.coordinator.group.consumer_group import ConsumerGroup
from ottla.coordinator.group.consumer_member import ConsumerMember
from ottla.protocol.messages.offset_commit import OffsetCommitRequest

EPOCH_VERSION: Final = 9
"""From this OffsetCommit on members of the new protocol may commit."""

Place = tuple[Uuid, int]


def check_commit(
    group: ConsumerGroup,
    request: OffsetCommitRequest,
    places: Iterable[Place],
    version: int,
    *,
    is_transactional: bool,
) -> None:
    """KafkaError UNKNOWN_MEMBER_ID, UNSUPPORTED_VERSION, STALE_MEMBER_EPOCH or
    ILLEGAL_GENERATION where these partitions may not be committed."""
    epoch, member_id = request.generation_id_or_member_epoch, request.member_id
    if epoch < 0 and not group.members:
        return  # an administrator, or a consumer that does not join
    if is_transactional and epoch == -1 and not member_id and request.group_instance_id is None:
        return
    member = group.member(member_id)
    if not is_transactional and not member.is_classic and version < EPOCH_VERSION:
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
    if epoch == member.epoch:
        return
    if epoch > member.epoch:
        raise _stale(member)
    for topic, index in places:
        since = member.assigned.get(topic, {}).get(index)
        if since is None:
            since = member.revoking.get(topic, {}).get(index)
        if since is None or epoch < since:
            raise _stale(member)


def check_fetch(group: ConsumerGroup, member_id: str | None, epoch: int) -> None:
    """KafkaError UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH or ILLEGAL_GENERATION. Who names no member
    may fetch."""
    if member_id is None and epoch < 0:
        return
    member = group.member(member_id or "")
    if epoch != member.epoch:
        raise _stale(member)


def _stale(member: ConsumerMember) -> KafkaError:
    code = ErrorCode.ILLEGAL_GENERATION if member.is_classic else ErrorCode.STALE_MEMBER_EPOCH
    return KafkaError(code)

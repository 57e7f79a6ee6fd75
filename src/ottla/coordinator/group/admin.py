"""What administrators ask of groups: describe, list, delete.

Describing and listing read what is in memory, soft state included, and are answered when what
they saw is committed. Only an empty group can be deleted, and its offsets with it.
"""

from collections.abc import Collection
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.coordinator.group.classic import DEAD, EMPTY, STABLE, ClassicGroup
from ottla.coordinator.group.consumer_admin import consumer_rows
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.group.offsets import OffsetBook
from ottla.coordinator.group.records import GroupLogRecord, group_forgotten
from ottla.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from ottla.protocol.messages.list_groups import ListedGroup

CLASSIC: Final = "classic"
CONSUMER: Final = "consumer"
MISSING_VERSION: Final = 6
"""From this DescribeGroups on a group that is not there is called so (KIP-1043)."""


class GroupAdmin:
    def __init__(self, groups: Groups, offsets: OffsetBook) -> None:
        self._groups = groups
        self._offsets = offsets

    def describe(self, group_id: str, version: int) -> DescribedGroup:
        group = self._groups.find(group_id)
        if group is None:
            row = DescribedGroup(group_id=group_id, group_state=DEAD.value)
            if version >= MISSING_VERSION:
                is_other = self._groups.find_consumer(group_id) is not None
                fault = "is not a classic group" if is_other else "not found"
                row.error_code = ErrorCode.GROUP_ID_NOT_FOUND
                row.error_message = f"Group {group_id[:200]} {fault}."
            return row
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=(group.protocol or "") if group.is_in(STABLE) else "",
            members=_members_of(group),
        )

    def listed(self, states: Collection[str], types: Collection[str]) -> list[ListedGroup]:
        """Groups in one of these states (lower case), of one of these types; none means all."""
        rows = []
        if not types or CONSUMER in types:
            rows += consumer_rows(self._groups, states)
        if types and CLASSIC not in types:
            return rows
        for group_id in self._groups.ids():
            group = self._groups.find(group_id)
            if group is not None and (not states or group.state.value.lower() in states):
                rows.append(
                    ListedGroup(
                        group_id=group_id,
                        protocol_type=group.protocol_type or "",
                        group_state=group.state.value,
                        group_type=CLASSIC,
                    )
                )
        return rows

    def delete(self, group_id: str) -> list[GroupLogRecord]:
        """KafkaError GROUP_ID_NOT_FOUND or NON_EMPTY_GROUP."""
        consumer_group = self._groups.find_consumer(group_id)
        if consumer_group is not None:
            if consumer_group.members:
                raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
            return [*self._offsets.delete_all(group_id), *consumer_group.tombstones()]
        group = self._groups.known(group_id)
        if not group.is_in(EMPTY):
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        records: list[GroupLogRecord] = [*self._offsets.delete_all(group_id)]
        if group.is_durable:
            records.append(group_forgotten(group_id))
        else:
            self._groups.forget(group)
        return records


def _members_of(group: ClassicGroup) -> list[DescribedGroupMember]:
    """What they said and got is told of a stable group only."""
    is_stable = group.is_in(STABLE)
    return [
        DescribedGroupMember(
            member_id=member.id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            member_metadata=member.metadata(group.protocol) if is_stable else b"",
            member_assignment=member.assignment if is_stable else b"",
        )
        for member in group.members.values()
    ]

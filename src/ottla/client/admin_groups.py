"""Groups of both protocols, and their members.

Whoever asks for a group need not know which protocol it has: a broker that has the new one
(KIP-848) is asked for that first, and for what it says it is not, as a classic group.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.asking import Asking, partition_of, refusal
from ottla.client.cluster import KeyType
from ottla.client.errand import one_by_one
from ottla.client.errors import ClientError, code_of
from ottla.client.rows import GroupDescription, GroupListing, GroupMember
from ottla.protocol.api_key import ApiKey
from ottla.protocol.consumer_protocol import read_assignment
from ottla.protocol.messages import (
    consumer_group_describe,
    describe_groups,
    leave_group,
    list_groups,
)
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from ottla.rpc.errors import RpcError

Refusals = Mapping[str, KafkaError | RpcError | None]
MANY_MEMBERS: Final = 3
"""Of LeaveGroup: the first version that names several members, and instances."""
DEAD: Final = "Dead"
CONSUMER: Final = "consumer"
PERHAPS_CLASSIC: Final = (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION)
"""What ConsumerGroupDescribe answers of a group that has another protocol."""


class GroupAdmin(Asking):
    async def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """All groups, or those in these states ("Stable", "Empty" ...; brokers from 2.6) and of
        these types ("classic", "consumer" ...; brokers with KIP-848)."""
        request = list_groups.ListGroupsRequest(
            states_filter=list(states), types_filter=list(types)
        )

        async def ask(node: int, _: object) -> dict[int, list[GroupListing]]:
            response = await self._send(node, request, list_groups.ListGroupsResponse)
            return {
                node: [
                    GroupListing(row.group_id, row.protocol_type, row.group_state, row.group_type)
                    for row in response.groups
                ]
            }

        nodes = await self._all_nodes("list_groups")
        found = await self._each("list_groups", nodes, self._nodes_of(), ask)
        by_id = {row.group_id: row for rows in found.values() for row in rows}
        return [by_id[group_id] for group_id in sorted(by_id)]

    async def describe_groups(self, *group_ids: str) -> dict[str, GroupDescription]:
        """Groups of both protocols, by id. A group that is not there is GROUP_ID_NOT_FOUND."""

        async def ask(node: int, ids: Sequence[str]) -> dict[str, GroupDescription | KafkaError]:
            found: dict[str, GroupDescription | KafkaError] = {}
            if await self._has_api(node, ApiKey.CONSUMER_GROUP_DESCRIBE):
                found = _of_consumers(
                    await self._send(
                        node,
                        consumer_group_describe.ConsumerGroupDescribeRequest(
                            group_ids=list(ids), include_authorized_operations=False
                        ),
                        consumer_group_describe.ConsumerGroupDescribeResponse,
                    )
                )
            classic = [group_id for group_id in ids if group_id not in found]
            if classic:
                request = describe_groups.DescribeGroupsRequest(groups=classic)
                response = await self._send(node, request, describe_groups.DescribeGroupsResponse)
                found.update((row.group_id, _classic(row)) for row in response.groups)
            return found

        route = self._coordinators(KeyType.GROUP)
        return await self._each("describe_groups", group_ids, route, ask)

    async def delete_groups(self, *group_ids: str) -> None:
        """Forget groups without members, and what they have committed."""

        async def ask(node: int, ids: Sequence[str]) -> dict[str, KafkaError | None]:
            request = DeleteGroupsRequest(groups_names=list(ids))
            response = await self._send(node, request, DeleteGroupsResponse)
            return {
                row.group_id: refusal(row.error_code, row.error_message, row.group_id)
                for row in response.results
            }

        await self._each("delete_groups", group_ids, self._coordinators(KeyType.GROUP), ask)

    async def remove_group_members(
        self,
        group_id: str,
        *,
        member_ids: Iterable[str] = (),
        instance_ids: Iterable[str] = (),
        reason: str | None = None,
    ) -> None:
        """Put members out of a classic group: by their ids, static ones by those of their
        instances (brokers from 2.4). A consumer that lives joins again."""
        members = {each: leave_group.MemberIdentity(member_id=each) for each in member_ids}
        members |= {
            each: leave_group.MemberIdentity(group_instance_id=each) for each in instance_ids
        }
        if not members:
            raise ClientError("remove_group_members: no member is named")
        for member in members.values():
            member.reason = reason

        async def ask(node: int, names: Sequence[str]) -> Refusals:
            return await self._leave(node, group_id, {name: members[name] for name in names})

        route = self._coordinators(KeyType.GROUP, lambda _: group_id)
        await self._each("remove_group_members", members, route, ask)

    async def _leave(
        self, node: int, group_id: str, members: Mapping[str, leave_group.MemberIdentity]
    ) -> Refusals:
        channel = await self._cluster.peer(node).connected()
        if channel.versions.pick(ApiKey.LEAVE_GROUP) < MANY_MEMBERS:

            async def leave(name: str) -> None:
                if members[name].group_instance_id is not None:
                    raise KafkaError(
                        ErrorCode.UNSUPPORTED_VERSION, "the broker knows no instance ids"
                    )
                one = leave_group.LeaveGroupRequest(group_id=group_id, member_id=name)
                await self._send(node, one, leave_group.LeaveGroupResponse)

            return await one_by_one(list(members), leave)
        request = leave_group.LeaveGroupRequest(group_id=group_id, members=list(members.values()))
        response = await self._send(node, request, leave_group.LeaveGroupResponse)
        return {
            (name := row.group_instance_id or row.member_id): refusal(row.error_code, None, name)
            for row in response.members
        }


def _classic(row: describe_groups.DescribedGroup) -> GroupDescription | KafkaError:
    error = refusal(row.error_code, row.error_message, row.group_id)
    if error is None and row.group_state == DEAD:
        error = KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"{row.group_id}: GROUP_ID_NOT_FOUND")
    if error is not None:
        return error
    members = tuple(
        GroupMember(
            each.member_id,
            each.client_id,
            each.client_host,
            each.group_instance_id,
            _assigned(each.member_assignment) if row.protocol_type == CONSUMER else (),
        )
        for each in row.members
    )
    return GroupDescription(
        row.group_id, "classic", row.group_state, row.protocol_type, row.protocol_data, members
    )


def _assigned(assignment: bytes) -> tuple[TopicPartition, ...]:
    """What a member says it reads. It may be anything: then it is nothing."""
    try:
        rows = read_assignment(bytes(assignment)).assigned_partitions
    except ValueError:
        return ()
    return tuple(partition_of((row.topic, index)) for row in rows for index in row.partitions)


def _of_consumers(
    response: consumer_group_describe.ConsumerGroupDescribeResponse,
) -> dict[str, GroupDescription | KafkaError]:
    """The groups that are of the new protocol, or cannot be told of."""
    found: dict[str, GroupDescription | KafkaError] = {}
    for row in response.groups:
        if code_of(row.error_code) in PERHAPS_CLASSIC:
            continue
        members = tuple(
            GroupMember(
                each.member_id,
                each.client_id,
                each.client_host,
                each.instance_id,
                tuple(
                    partition_of((topic.topic_name, index))
                    for topic in each.assignment.topic_partitions
                    for index in topic.partitions
                ),
                each.member_epoch,
            )
            for each in row.members
        )
        found[row.group_id] = refusal(
            row.error_code, row.error_message, row.group_id
        ) or GroupDescription(
            row.group_id,
            CONSUMER,
            row.group_state,
            CONSUMER,
            row.assignor_name,
            members,
            row.group_epoch,
        )
    return found

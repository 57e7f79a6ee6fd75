"""How far groups have read: what is committed, set and forgotten on their behalf."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from ottla.base.errors import KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.asking import Asking, Key, by_topic, partition_of, refusal
from ottla.client.cluster import KeyType
from ottla.client.errand import one_by_one
from ottla.client.offsets import LAST_BY_NAME, OffsetAndMetadata
from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ottla.rpc.errors import RpcError

Place = tuple[str, TopicPartition]
"""A group and a partition."""
Refusals = dict[Place, KafkaError | RpcError | None]
Committed = dict[TopicPartition, OffsetAndMetadata]
MANY_GROUPS: Final = 8
"""Of OffsetFetch: the first version that asks for several groups at once."""


class OffsetAdmin(Asking):
    async def group_offsets(
        self,
        group_id: str,
        partitions: Iterable[Key] | None = None,
        *,
        require_stable: bool = False,
    ) -> Committed:
        """What a group has committed of these partitions (None: of all); those without a commit are
        left out. `require_stable` waits for transactions that are about to commit offsets."""
        found = await self.list_group_offsets({group_id: partitions}, require_stable=require_stable)
        return found[group_id]

    async def list_group_offsets(
        self, wanted: Mapping[str, Iterable[Key] | None], *, require_stable: bool = False
    ) -> dict[str, Committed]:
        """As `group_offsets`, of several groups."""
        topics = {
            group_id: None if keys is None else by_topic(keys) for group_id, keys in wanted.items()
        }

        async def ask(
            node: int, ids: Sequence[str]
        ) -> Mapping[str, Committed | KafkaError | RpcError]:
            channel = await self._cluster.peer(node).connected()
            if channel.versions.pick(ApiKey.OFFSET_FETCH, LAST_BY_NAME) < MANY_GROUPS:

                async def one(group_id: str) -> Committed | KafkaError:
                    rows = topics[group_id]
                    return await self._offsets_of_one(node, group_id, rows, require_stable)

                return await one_by_one(ids, one)
            request = OffsetFetchRequest(
                groups=[_asked_group(each, topics[each]) for each in ids],
                require_stable=require_stable,
            )
            response = await self._send(node, request, OffsetFetchResponse, last=LAST_BY_NAME)
            return {
                group.group_id: refusal(group.error_code, None, group.group_id)
                or _committed(group.topics)
                for group in response.groups
            }

        route = self._coordinators(KeyType.GROUP)
        return await self._each("list_group_offsets", topics, route, ask)

    async def _offsets_of_one(
        self, node: int, group_id: str, topics: dict[str, list[int]] | None, require_stable: bool
    ) -> Committed | KafkaError:
        rows = None
        if topics is not None:
            rows = [
                OffsetFetchRequestTopic(name=name, partition_indexes=indexes)
                for name, indexes in topics.items()
            ]
        request = OffsetFetchRequest(group_id=group_id, topics=rows, require_stable=require_stable)
        response = await self._send(node, request, OffsetFetchResponse, last=LAST_BY_NAME)
        return _committed(response.topics)

    async def alter_group_offsets(
        self, places: Mapping[str, Mapping[Key, int | OffsetAndMetadata]]
    ) -> None:
        """Set what groups without members have committed: by group and partition."""
        wanted = {
            (group_id, partition_of(key)): _with_metadata(each)
            for group_id, found in places.items()
            for key, each in found.items()
        }

        async def ask_group(node: int, group_id: str, keys: Sequence[Key]) -> Refusals:
            topics = [
                OffsetCommitRequestTopic(
                    name=name,
                    partitions=[
                        _commit_row(index, wanted[group_id, partition_of((name, index))])
                        for index in indexes
                    ],
                )
                for name, indexes in by_topic(keys).items()
            ]
            request = OffsetCommitRequest(group_id=group_id, topics=topics)
            response = await self._send(node, request, OffsetCommitResponse, last=LAST_BY_NAME)
            return _refusals(group_id, response)

        await self._each_place("alter_group_offsets", wanted, ask_group)

    async def delete_group_offsets(self, partitions: Mapping[str, Iterable[Key]]) -> None:
        """Forget what groups have committed of these partitions, whose topics no member of theirs
        may be reading: by group (brokers from 2.4)."""
        wanted = [
            (group_id, partition_of(key)) for group_id, keys in partitions.items() for key in keys
        ]

        async def ask_group(node: int, group_id: str, keys: Sequence[Key]) -> Refusals:
            topics = [
                OffsetDeleteRequestTopic(
                    name=name,
                    partitions=[
                        OffsetDeleteRequestPartition(partition_index=index) for index in indexes
                    ],
                )
                for name, indexes in by_topic(keys).items()
            ]
            request = OffsetDeleteRequest(group_id=group_id, topics=topics)
            return _refusals(group_id, await self._send(node, request, OffsetDeleteResponse))

        await self._each_place("delete_group_offsets", wanted, ask_group)

    async def _each_place(
        self,
        what: str,
        places: Iterable[Place],
        ask_group: Callable[[int, str, Sequence[Key]], Awaitable[Refusals]],
    ) -> None:
        """Ask group by group: what concerns all of one does not concern another."""

        async def ask(node: int, items: Sequence[Place]) -> Refusals:
            keys: dict[str, list[Key]] = {}
            for group_id, key in items:
                keys.setdefault(group_id, []).append(key)
            asked = await one_by_one(list(keys), lambda each: ask_group(node, each, keys[each]))
            found: Refusals = {}
            for group_id, outcome in asked.items():
                if isinstance(outcome, KafkaError | RpcError):
                    outcome = {(group_id, partition_of(key)): outcome for key in keys[group_id]}
                found |= outcome
            return found

        route = self._coordinators(KeyType.GROUP, lambda place: place[0])
        await self._each(what, places, route, ask)


def _asked_group(group_id: str, topics: dict[str, list[int]] | None) -> OffsetFetchRequestGroup:
    rows = None
    if topics is not None:
        rows = [
            OffsetFetchRequestTopics(name=name, partition_indexes=indexes)
            for name, indexes in topics.items()
        ]
    return OffsetFetchRequestGroup(group_id=group_id, topics=rows)


def _committed(
    topics: Sequence[OffsetFetchResponseTopic | OffsetFetchResponseTopics],
) -> Committed | KafkaError:
    found: Committed = {}
    for topic in topics:
        for row in topic.partitions:
            key = partition_of((topic.name, row.partition_index))
            error = refusal(row.error_code, None, key)
            if error is not None:
                return error
            if row.committed_offset >= 0:
                found[key] = OffsetAndMetadata(
                    row.committed_offset, row.metadata or "", row.committed_leader_epoch
                )
    return found


def _with_metadata(place: int | OffsetAndMetadata) -> OffsetAndMetadata:
    return place if isinstance(place, OffsetAndMetadata) else OffsetAndMetadata(place)


def _commit_row(index: int, place: OffsetAndMetadata) -> OffsetCommitRequestPartition:
    return OffsetCommitRequestPartition(
        partition_index=index,
        committed_offset=place.offset,
        committed_leader_epoch=place.leader_epoch,
        committed_metadata=place.metadata,
    )


def _refusals(group_id: str, response: OffsetCommitResponse | OffsetDeleteResponse) -> Refusals:
    return {
        (group_id, key := partition_of((topic.name, row.partition_index))): refusal(
            row.error_code, None, f"{group_id}: {key}"
        )
        for topic in response.topics
        for row in topic.partitions
    }

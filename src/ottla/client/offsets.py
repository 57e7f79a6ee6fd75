"""Offsets asked of brokers: by time of the leaders, committed ones of a group's coordinator.

Each call asks again, with back-off, until all is answered or `default_api_timeout_ms` is over
(TimedOutError, whose cause is the last failure). What a retry cannot mend is raised at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, PartitionIndex, TopicPartition, Uuid
from ottla.client.cluster import Cluster, KeyType
from ottla.client.errors import (
    OUTDATED,
    RETRIABLE,
    STALE_COORDINATOR,
    STALE_METADATA,
    CommitFailedError,
    NoBrokersError,
    TimedOutError,
    code_of,
    raise_for,
)
from ottla.protocol.api_key import ApiKey
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from ottla.rpc.errors import ConnectError, RpcError, VersionMismatchError

T = TypeVar("T")


class OffsetAndTimestamp(NamedTuple):
    offset: int
    timestamp_ms: int
    leader_epoch: int = -1


class OffsetAndMetadata(NamedTuple):
    """A committed offset: of the next record to be read."""

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


LAST_BY_NAME = 9
"""Of OffsetCommit and OffsetFetch: the last version that names topics; the next has their ids."""


GONE = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)
"""Of a commit: what was read there was deleted since. To wait would hold up the others."""

CONCURRENT_PAUSE_S = 0.02
"""While the transaction before is still being written out, which takes some milliseconds."""


async def patiently(
    cluster: Cluster,
    what: str,
    timeout_ms: int,
    attempt: Callable[[], Awaitable[T]],
    *,
    final: Collection[ErrorCode] = (),
) -> T:
    """Try until it succeeds, fails for good (as with a code of `final`), or the time is over."""
    failures_count = 0
    last: Exception | None = None
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            while True:
                try:
                    return await attempt()
                except VersionMismatchError as failure:
                    raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, str(failure)) from failure
                except (RpcError, NoBrokersError) as failure:
                    last = failure
                    cluster.refresh_soon()
                except KafkaError as failure:
                    if failure.code not in RETRIABLE or failure.code in final:
                        raise
                    last = failure
                    if failure.code in STALE_METADATA:
                        cluster.refresh_soon()
                failures_count += 1
                pause_s = cluster.settings.retry_backoff.seconds(failures_count, cluster.world.rng)
                if isinstance(last, KafkaError) and last.code is ErrorCode.CONCURRENT_TRANSACTIONS:
                    pause_s = min(pause_s, CONCURRENT_PAUSE_S)
                await asyncio.sleep(pause_s)
    except TimeoutError:
        raise TimedOutError(f"{what}: not in {timeout_ms} ms: {last}") from last


async def list_offsets(
    cluster: Cluster,
    wanted: Mapping[TopicPartition, int],
    *,
    isolation: int = 0,
    timeout_ms: int = 60_000,
) -> dict[TopicPartition, OffsetAndTimestamp]:
    """The offset of each partition at a time: milliseconds, or -1 latest, -2 earliest. Of a time
    behind the last record: offset -1."""
    for name in dict.fromkeys(key.topic for key in wanted):
        await cluster.topic(name, timeout_ms)
    left = dict(wanted)
    found: dict[TopicPartition, OffsetAndTimestamp] = {}

    async def attempt() -> dict[TopicPartition, OffsetAndTimestamp]:
        by_leader: dict[int, dict[TopicPartition, int]] = {}
        for key, timestamp in left.items():
            view = await cluster.topic(key.topic, timeout_ms)
            if key.partition >= len(view.partitions):
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{key} does not exist")
            leader = view.partitions[key.partition].leader
            by_leader.setdefault(leader, {})[key] = timestamp
        for leader, rows in by_leader.items():
            if leader < 0:
                raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE)
            answered = await _ask_leader(cluster, leader, rows, isolation)
            found.update(answered)
            for key in answered:
                del left[key]
        return found

    return await patiently(cluster, "offsets", timeout_ms, attempt)


async def _ask_leader(
    cluster: Cluster, leader: int, wanted: Mapping[TopicPartition, int], isolation: int
) -> dict[TopicPartition, OffsetAndTimestamp]:
    topics: dict[str, ListOffsetsTopic] = {}
    for key, timestamp in wanted.items():
        rows = topics.setdefault(key.topic, ListOffsetsTopic(name=key.topic, partitions=[]))
        rows.partitions.append(
            ListOffsetsPartition(partition_index=key.partition, timestamp=timestamp)
        )
    request = ListOffsetsRequest(
        replica_id=-1, isolation_level=isolation, topics=list(topics.values())
    )
    response = await cluster.peer(leader).ask(request, ListOffsetsResponse)
    found = {}
    for topic in response.topics:
        for row in topic.partitions:
            key = TopicPartition(topic.name, PartitionIndex(row.partition_index))
            raise_for(row.error_code, f"{key}: {code_of(row.error_code).name}")
            found[key] = OffsetAndTimestamp(row.offset, row.timestamp, row.leader_epoch)
    if not found:
        raise ConnectError(f"node {leader} answers for no partition")
    return found


class GroupMetadata(NamedTuple):
    """Who commits: a member of a group in a generation, or nobody (-1, "") for the group."""

    group_id: str
    generation_id: int = -1
    """The member's epoch, where the group has the protocol of KIP-848."""
    member_id: str = ""
    group_instance_id: str | None = None


async def commit(
    cluster: Cluster,
    offsets: Mapping[TopicPartition, OffsetAndMetadata],
    member: Callable[[], GroupMetadata],
    timeout_ms: int,
    ids: Mapping[TopicPartition, Uuid] | None = None,
) -> None:
    """Keep offsets as a group's, on behalf of whom `member` names at each try. `ids` are those of
    the topics that the offsets are of: one of the same name that was made anew gets none.

    CommitFailedError where the member is none any more, or of an older generation; KafkaError
    where a partition is refused: none of it may be taken to be kept then.
    """
    ids = ids or {}
    topics = _commit_rows(offsets, ids)
    names = {topic.topic_id: topic.name for topic in topics}
    last = None if ZERO_UUID not in names else LAST_BY_NAME

    async def attempt() -> None:
        group = member()
        request = OffsetCommitRequest(
            group_id=group.group_id,
            generation_id_or_member_epoch=group.generation_id,
            member_id=group.member_id,
            group_instance_id=group.group_instance_id,
            topics=topics,
        )
        node = await cluster.coordinator(KeyType.GROUP, group.group_id)
        with minding(cluster, group.group_id):
            response = await cluster.peer(node, apart=True).ask(
                request, OffsetCommitResponse, last=last
            )
            for topic in response.topics:
                name = topic.name or names.get(topic.topic_id, "?")
                for row in topic.partitions:
                    where = f"{name}-{row.partition_index}"
                    _check_commit(row.error_code, where, group, member)

    what = f"commit of group {member().group_id!r}"
    await patiently(cluster, what, timeout_ms, attempt, final=GONE)


def _check_commit(
    number: int, where: str, group: GroupMetadata, member: Callable[[], GroupMetadata]
) -> None:
    code = code_of(number)
    if code not in OUTDATED or not group.member_id:
        raise_for(number, f"{where}: {code.name}")
        return
    if code is ErrorCode.STALE_MEMBER_EPOCH and member() != group:
        # The epoch moved on while the request was under way, and the member still is one.
        raise KafkaError(ErrorCode.UNSTABLE_OFFSET_COMMIT, "the member epoch moved on")
    raise CommitFailedError(
        f"{where}: {code.name}: the partition may be another member's by now", code=code
    )


def _commit_rows(
    offsets: Mapping[TopicPartition, OffsetAndMetadata], ids: Mapping[TopicPartition, Uuid]
) -> list[OffsetCommitRequestTopic]:
    topics: dict[tuple[str, Uuid], OffsetCommitRequestTopic] = {}
    for key, committed in offsets.items():
        which = key.topic, ids.get(key, ZERO_UUID)
        made = OffsetCommitRequestTopic(name=which[0], topic_id=which[1], partitions=[])
        rows = topics.setdefault(which, made)
        rows.partitions.append(
            OffsetCommitRequestPartition(
                partition_index=key.partition,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                committed_metadata=committed.metadata,
            )
        )
    return list(topics.values())


async def committed(
    cluster: Cluster, group_id: str, keys: Sequence[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a group has committed; partitions without a commit are left out."""
    names: dict[str, list[int]] = {}
    for key in keys:
        names.setdefault(key.topic, []).append(key.partition)

    async def attempt() -> dict[TopicPartition, OffsetAndMetadata]:
        node = await cluster.coordinator(KeyType.GROUP, group_id)
        with minding(cluster, group_id):
            channel = await cluster.peer(node, apart=True).connected()
            version = channel.versions.pick(ApiKey.OFFSET_FETCH, LAST_BY_NAME)
            if version < 8:
                old = _old_request(group_id, names, require_stable=version >= 7)
                return _of_old(await channel.ask(old, OffsetFetchResponse))
            response = await channel.ask(
                _new_request(group_id, names), OffsetFetchResponse, last=LAST_BY_NAME
            )
            return _of_new(response)

    return await patiently(cluster, f"offsets of group {group_id!r}", timeout_ms, attempt)


def _new_request(group_id: str, names: Mapping[str, list[int]]) -> OffsetFetchRequest:
    topics = [
        OffsetFetchRequestTopics(name=name, partition_indexes=found)
        for name, found in names.items()
    ]
    return OffsetFetchRequest(
        groups=[OffsetFetchRequestGroup(group_id=group_id, topics=topics)], require_stable=True
    )


def _old_request(
    group_id: str, names: Mapping[str, list[int]], *, require_stable: bool
) -> OffsetFetchRequest:
    topics = [
        OffsetFetchRequestTopic(name=name, partition_indexes=found) for name, found in names.items()
    ]
    return OffsetFetchRequest(group_id=group_id, topics=topics, require_stable=require_stable)


def _of_new(response: OffsetFetchResponse) -> dict[TopicPartition, OffsetAndMetadata]:
    found = {}
    for group in response.groups:
        raise_for(group.error_code)
        for topic in group.topics:
            for row in topic.partitions:
                raise_for(row.error_code)
                if row.committed_offset >= 0:
                    key = TopicPartition(topic.name, PartitionIndex(row.partition_index))
                    found[key] = OffsetAndMetadata(
                        row.committed_offset, row.metadata or "", row.committed_leader_epoch
                    )
    return found


def _of_old(response: OffsetFetchResponse) -> dict[TopicPartition, OffsetAndMetadata]:
    raise_for(response.error_code)
    found = {}
    for topic in response.topics:
        for row in topic.partitions:
            raise_for(row.error_code)
            if row.committed_offset >= 0:
                key = TopicPartition(topic.name, PartitionIndex(row.partition_index))
                found[key] = OffsetAndMetadata(
                    row.committed_offset, row.metadata or "", row.committed_leader_epoch
                )
    return found


class minding:
    """Forgets the coordinator where it says that it is none, or cannot be reached."""

    def __init__(self, cluster: Cluster, key: str, key_type: KeyType = KeyType.GROUP) -> None:
        self._cluster = cluster
        self._key_type = key_type
        self._key = key

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_refusal = isinstance(error, KafkaError) and error.code in STALE_COORDINATOR
        if is_refusal or isinstance(error, RpcError):
            self._cluster.forget_coordinator(self._key_type, self._key)

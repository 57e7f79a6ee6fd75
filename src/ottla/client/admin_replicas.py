"""Where the copies of partitions are: log directories, moves between them and between brokers, and
who leads."""

from collections.abc import Iterable, Mapping, Sequence

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.client.asking import (
    Asking,
    Key,
    by_partition,
    by_topic,
    partition_of,
    refusal,
    settled,
)
from ottla.client.errors import code_of
from ottla.client.rows import FutureReplica, LogDir, Reassignment
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
from ottla.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
)
from ottla.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    TopicPartitions,
)
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    ListPartitionReassignmentsTopics,
)

Replica = tuple[str, int, int]
"""Topic, partition and broker id."""


class ReplicaAdmin(Asking):
    async def describe_log_dirs(self, *broker_ids: int) -> list[LogDir]:
        """The log directories of these brokers (of all, where none is named)."""

        async def ask(node: int, _: object) -> dict[int, list[LogDir]]:
            request = DescribeLogDirsRequest(topics=None)
            response = await self._send(node, request, DescribeLogDirsResponse)
            return {node: [_log_dir(node, row) for row in response.results]}

        nodes = broker_ids or await self._all_nodes("describe_log_dirs")
        found = await self._each("describe_log_dirs", nodes, self._nodes_of(), ask)
        return [row for rows in found.values() for row in rows]

    async def alter_replica_log_dirs(self, moves: Mapping[Replica, str]) -> None:
        """Move replicas to these directories of their brokers. The brokers copy beside:
        `describe_log_dirs` tells how far they are."""

        async def ask(node: int, replicas: Sequence[Replica]) -> dict[Replica, KafkaError | None]:
            by_path: dict[str, list[Key]] = {}
            for name, index, broker_id in replicas:
                by_path.setdefault(moves[name, index, broker_id], []).append((name, index))
            dirs = [
                AlterReplicaLogDir(
                    path=path,
                    topics=[
                        AlterReplicaLogDirTopic(name=name, partitions=indexes)
                        for name, indexes in by_topic(keys).items()
                    ],
                )
                for path, keys in by_path.items()
            ]
            request = AlterReplicaLogDirsRequest(dirs=dirs)
            response = await self._send(node, request, AlterReplicaLogDirsResponse)
            return {
                (topic.topic_name, row.partition_index, node): refusal(
                    row.error_code, None, f"{topic.topic_name}-{row.partition_index}"
                )
                for topic in response.results
                for row in topic.partitions
            }

        await self._each(
            "alter_replica_log_dirs", moves, self._nodes_of(lambda replica: replica[2]), ask
        )

    async def elect_leaders(
        self, partitions: Iterable[Key] | None = None, *, unclean: bool = False
    ) -> list[TopicPartition]:
        """Let partitions (None: all) be led by their preferred replica; `unclean`, where there is
        no leader, by any that lives, though records may be lost. The partitions that have a new
        leader; those that needed none are left out."""

        def request(keys: Iterable[Key] | None) -> ElectLeadersRequest:
            rows = None
            if keys is not None:
                rows = [
                    TopicPartitions(topic=name, partitions=indexes)
                    for name, indexes in by_topic(keys).items()
                ]
            return ElectLeadersRequest(
                election_type=int(unclean),
                topic_partitions=rows,
                timeout_ms=self.settings.request_timeout_ms,
            )

        async def ask(node: int, keys: Sequence[TopicPartition]) -> Elections:
            return _elections(await self._send(node, request(keys), ElectLeadersResponse))

        controller = self._controller()
        if partitions is None:
            response = await self._one(controller, request(None), ElectLeadersResponse)
            found = settled(_elections(response))
        else:
            wanted = [partition_of(key) for key in partitions]
            found = await self._each("elect_leaders", wanted, controller, ask)
        return [key for key, is_new in found.items() if is_new]

    async def alter_partition_reassignments(
        self, replicas: Mapping[Key, Sequence[int] | None]
    ) -> None:
        """Give partitions these replicas (broker ids, the preferred leader first), or (None) take
        back what is under way."""
        wanted = by_partition(replicas)

        def row(key: TopicPartition) -> ReassignablePartition:
            ids = wanted[key]
            return ReassignablePartition(
                partition_index=key.partition, replicas=None if ids is None else list(ids)
            )

        async def ask(
            node: int, keys: Sequence[TopicPartition]
        ) -> dict[TopicPartition, KafkaError | None]:
            topics = [
                ReassignableTopic(
                    name=name,
                    partitions=[row(partition_of((name, index))) for index in indexes],
                )
                for name, indexes in by_topic(keys).items()
            ]
            request = AlterPartitionReassignmentsRequest(
                timeout_ms=self.settings.request_timeout_ms, topics=topics
            )
            response = await self._send(node, request, AlterPartitionReassignmentsResponse)
            return {
                (key := partition_of((topic.name, row.partition_index))): refusal(
                    row.error_code, row.error_message, key
                )
                for topic in response.responses
                for row in topic.partitions
            }

        await self._each("alter_partition_reassignments", wanted, self._controller(), ask)

    async def list_partition_reassignments(
        self, partitions: Iterable[Key] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """Of these partitions (None: of all), those that are on their way to other replicas."""
        topics = None if partitions is None else by_topic(partitions)
        request = ListPartitionReassignmentsRequest(
            timeout_ms=self.settings.request_timeout_ms,
            topics=None
            if topics is None
            else [
                ListPartitionReassignmentsTopics(name=name, partition_indexes=indexes)
                for name, indexes in topics.items()
            ],
        )
        response = await self._one(self._controller(), request, ListPartitionReassignmentsResponse)
        return {
            partition_of((topic.name, row.partition_index)): Reassignment(
                tuple(row.replicas), tuple(row.adding_replicas), tuple(row.removing_replicas)
            )
            for topic in response.topics
            for row in topic.partitions
        }


Elections = dict[TopicPartition, KafkaError | bool]
"""Whether the partition has a new leader."""


def _elections(response: ElectLeadersResponse) -> Elections:
    found: Elections = {}
    for topic in response.replica_election_results:
        for row in topic.partition_result:
            key = partition_of((topic.topic, row.partition_id))
            error = refusal(row.error_code, row.error_message, key)
            is_needless = error is not None and error.code is ErrorCode.ELECTION_NOT_NEEDED
            found[key] = not is_needless if error is None or is_needless else error
    return found


def _log_dir(node_id: int, row: DescribeLogDirsResult) -> LogDir:
    sizes: dict[TopicPartition, int] = {}
    moving: dict[TopicPartition, FutureReplica] = {}
    for topic in row.topics:
        for each in topic.partitions:
            key = partition_of((topic.name, each.partition_index))
            if each.is_future_key:
                moving[key] = FutureReplica(each.partition_size, each.offset_lag)
            else:
                sizes[key] = each.partition_size
    error = code_of(row.error_code).name if row.error_code else None
    return LogDir(node_id, row.log_dir, error, row.total_bytes, row.usable_bytes, sizes, moving)

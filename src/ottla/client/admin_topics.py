"""Topics, partitions, the offsets of partitions and the records in front of them."""

from collections.abc import Mapping, Sequence

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, TopicPartition
from ottla.client.asking import Asking, Key, by_partition, by_topic, partition_of, refusal
from ottla.client.offsets import OffsetAndTimestamp
from ottla.client.rows import CreatedTopic, NewTopic
from ottla.client.topology import TopicView, topic_view
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

TOPICS_BY_ID = 6
"""Of DeleteTopics: the first version that has rows of names and ids."""
DEFAULT_COUNTS = 4
"""Of CreateTopics: the first version that knows -1 for the broker's defaults."""
TIMES = {-3: 7, -4: 8, -5: 9, -6: 11}
"""Of ListOffsets: the first version that knows a time that is none: the largest timestamp
(KIP-734), the first offset on local disks, the last in remote storage, the first that waits for
it."""


class TopicAdmin(Asking):
    async def create_topics(
        self, *topics: NewTopic, validate_only: bool = False
    ) -> list[CreatedTopic]:
        """Make topics. A try that got no answer may have made one: then the next try says
        TOPIC_ALREADY_EXISTS, as in Kafka."""
        wanted = {topic.name: topic for topic in topics}

        async def ask(node: int, names: Sequence[str]) -> dict[str, CreatedTopic | KafkaError]:
            rows = [_creatable(wanted[name]) for name in names]

            def request(version: int) -> CreateTopicsRequest:
                if version < DEFAULT_COUNTS and any(_leaves_counts(row) for row in rows):
                    raise KafkaError(
                        ErrorCode.UNSUPPORTED_VERSION,
                        "a broker before 2.4 needs num_partitions and replication_factor",
                    )
                timeout_ms = self.settings.request_timeout_ms
                return CreateTopicsRequest(
                    topics=rows, timeout_ms=timeout_ms, validate_only=validate_only
                )

            response = await self._send(node, request, CreateTopicsResponse)
            return {
                row.name: refusal(row.error_code, row.error_message, row.name)
                or CreatedTopic(row.name, row.topic_id, row.num_partitions, row.replication_factor)
                for row in response.topics
            }

        return list((await self._each("create_topics", wanted, self._controller(), ask)).values())

    async def delete_topics(self, *names: str) -> None:
        async def ask(node: int, names: Sequence[str]) -> dict[str, KafkaError | None]:
            def request(version: int) -> DeleteTopicsRequest:
                if version < TOPICS_BY_ID:
                    return DeleteTopicsRequest(topic_names=list(names), timeout_ms=timeout_ms)
                rows = [DeleteTopicState(name=name, topic_id=ZERO_UUID) for name in names]
                return DeleteTopicsRequest(topics=rows, timeout_ms=timeout_ms)

            response = await self._send(node, request, DeleteTopicsResponse)
            return {
                row.name or "": refusal(row.error_code, row.error_message, row.name)
                for row in response.responses
            }

        timeout_ms = self.settings.request_timeout_ms
        await self._each("delete_topics", names, self._controller(), ask)

    async def create_partitions(
        self,
        counts: Mapping[str, int],
        *,
        assignments: Mapping[str, Sequence[Sequence[int]]] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Raise the number of partitions of topics to these totals. `assignments`: the broker ids
        of each new partition."""

        async def ask(node: int, names: Sequence[str]) -> dict[str, KafkaError | None]:
            rows = [
                CreatePartitionsTopic(
                    name=name,
                    count=counts[name],
                    assignments=[
                        CreatePartitionsAssignment(broker_ids=list(ids)) for ids in given[name]
                    ]
                    if name in given
                    else None,
                )
                for name in names
            ]
            request = CreatePartitionsRequest(
                topics=rows,
                timeout_ms=self.settings.request_timeout_ms,
                validate_only=validate_only,
            )
            response = await self._send(node, request, CreatePartitionsResponse)
            return {
                row.name: refusal(row.error_code, row.error_message, row.name)
                for row in response.results
            }

        given = assignments or {}
        await self._each("create_partitions", counts, self._controller(), ask)

    async def list_topics(self, *, include_internal: bool = False) -> list[str]:
        found = await self._one(self._anyone(), _metadata(None), MetadataResponse)
        return sorted(
            row.name or "" for row in found.topics if include_internal or not row.is_internal
        )

    async def describe_topics(self, *names: str) -> dict[str, TopicView]:
        async def ask(node: int, names: Sequence[str]) -> dict[str, TopicView | KafkaError]:
            found = await self._send(node, _metadata(names), MetadataResponse)
            return {
                row.name or "": refusal(row.error_code, None, row.name)
                or topic_view(row, None, self._cluster.nodes)
                for row in found.topics
            }

        return await self._each("describe_topics", names, self._anyone(), ask)

    async def delete_records(self, before: Mapping[Key, int]) -> dict[TopicPartition, int]:
        """Forget the records before these offsets (-1: all that there are); where each partition
        begins now."""
        offsets = by_partition(before)

        async def ask(
            node: int, keys: Sequence[TopicPartition]
        ) -> dict[TopicPartition, int | KafkaError]:
            request = DeleteRecordsRequest(
                topics=[
                    DeleteRecordsTopic(
                        name=name,
                        partitions=[
                            DeleteRecordsPartition(
                                partition_index=index,
                                offset=offsets[partition_of((name, index))],
                            )
                            for index in indexes
                        ],
                    )
                    for name, indexes in by_topic(keys).items()
                ],
                timeout_ms=self.settings.request_timeout_ms,
            )
            response = await self._send(node, request, DeleteRecordsResponse)
            return {
                (key := partition_of((topic.name, row.partition_index))): (
                    refusal(row.error_code, None, key) or row.low_watermark
                )
                for topic in response.topics
                for row in topic.partitions
            }

        return await self._each("delete_records", offsets, self._leaders(), ask)

    async def list_offsets(
        self, times: Mapping[Key, int], *, isolation_level: int = 0
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """Offsets by time: milliseconds, or -1 latest, -2 earliest, -3 that of the largest
        timestamp. Of a time behind the last record: offset -1. `isolation_level` 1: the latest is
        the end of what is committed."""
        wanted = by_partition(times)

        async def ask(
            node: int, keys: Sequence[TopicPartition]
        ) -> dict[TopicPartition, OffsetAndTimestamp | KafkaError]:
            def request(version: int) -> ListOffsetsRequest:
                for key in keys:
                    if version < TIMES.get(wanted[key], 0):
                        raise KafkaError(
                            ErrorCode.UNSUPPORTED_VERSION,
                            f"the broker does not know the time {wanted[key]}",
                        )
                rows = _offset_rows(keys, wanted)
                return ListOffsetsRequest(
                    replica_id=-1, isolation_level=isolation_level, topics=rows
                )

            response = await self._send(node, request, ListOffsetsResponse)
            return {
                (key := partition_of((topic.name, row.partition_index))): (
                    refusal(row.error_code, None, key)
                    or OffsetAndTimestamp(row.offset, row.timestamp, row.leader_epoch)
                )
                for topic in response.topics
                for row in topic.partitions
            }

        return await self._each("list_offsets", wanted, self._leaders(), ask)


def _metadata(names: Sequence[str] | None) -> MetadataRequest:
    rows = None if names is None else [MetadataRequestTopic(name=name) for name in names]
    return MetadataRequest(topics=rows, allow_auto_topic_creation=False)


def _offset_rows(
    keys: Sequence[TopicPartition], times: Mapping[TopicPartition, int]
) -> list[ListOffsetsTopic]:
    return [
        ListOffsetsTopic(
            name=name,
            partitions=[
                ListOffsetsPartition(
                    partition_index=index,
                    timestamp=times[partition_of((name, index))],
                )
                for index in indexes
            ],
        )
        for name, indexes in by_topic(keys).items()
    ]


def _creatable(topic: NewTopic) -> CreatableTopic:
    is_assigned = bool(topic.replica_assignment)
    return CreatableTopic(
        name=topic.name,
        num_partitions=-1 if is_assigned else topic.num_partitions,
        replication_factor=-1 if is_assigned else topic.replication_factor,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=list(ids))
            for index, ids in topic.replica_assignment.items()
        ],
        configs=[
            CreatableTopicConfig(name=key, value=value) for key, value in topic.configs.items()
        ],
    )


def _leaves_counts(row: CreatableTopic) -> bool:
    return not row.assignments and -1 in (row.num_partitions, row.replication_factor)

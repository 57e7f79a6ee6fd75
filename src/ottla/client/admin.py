"""The admin: topics, partitions, configs, records, log directories, groups and their offsets.

Every call asks the node that has to be asked (the controller, a leader, a coordinator, or any),
again with back-off while that may help, until `request_timeout_ms` is over. Where several things
are asked for in one call, the first that is refused raises its KafkaError, with its name; what the
broker has done of the others is done (Kafka answers each by itself, and there is no undoing).
"""

from collections.abc import Iterable, Mapping

from ottla.base.ids import ZERO_UUID, PartitionIndex, TopicPartition
from ottla.client import offsets
from ottla.client.asking import Asking, raise_named
from ottla.client.errors import code_of, raise_for
from ottla.client.offsets import GroupMetadata, OffsetAndMetadata, OffsetAndTimestamp
from ottla.client.rows import (
    ClusterRow,
    ConfigEntry,
    CreatedTopic,
    GroupDescription,
    GroupListing,
    GroupMember,
    LogDir,
    NewTopic,
    Resource,
)
from ottla.client.topology import TopicView, topic_view
from ottla.protocol.message import Request
from ottla.protocol.messages import (
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    incremental_alter_configs,
    list_groups,
    offset_delete,
)

Key = TopicPartition | tuple[str, int]


class Admin(Asking):
    """Changes and describes a cluster. Options are those of `ClientSettings`.

    async with Admin(world=world, bootstrap_servers="127.0.0.1:9092") as admin:
        await admin.create_topics(NewTopic("greetings", num_partitions=3))
    """

    # ---- topics

    async def create_topics(
        self, *topics: NewTopic, validate_only: bool = False
    ) -> list[CreatedTopic]:
        rows = [_creatable(topic) for topic in topics]
        request = create_topics.CreateTopicsRequest(
            topics=rows, timeout_ms=self.settings.request_timeout_ms, validate_only=validate_only
        )
        response = await self._ask_controller(request, create_topics.CreateTopicsResponse)
        for row in response.topics:
            raise_named(row.error_code, row.error_message, row.name)
        return [
            CreatedTopic(row.name, row.topic_id, row.num_partitions, row.replication_factor)
            for row in response.topics
        ]

    async def delete_topics(self, *names: str) -> None:
        def request(version: int) -> Request:
            if version >= 6:
                states = [
                    delete_topics.DeleteTopicState(name=name, topic_id=_NO_ID) for name in names
                ]
                return delete_topics.DeleteTopicsRequest(topics=states, timeout_ms=timeout_ms)
            return delete_topics.DeleteTopicsRequest(topic_names=list(names), timeout_ms=timeout_ms)

        timeout_ms = self.settings.request_timeout_ms
        response = await self._ask_controller(request, delete_topics.DeleteTopicsResponse)
        for row in response.responses:
            raise_named(row.error_code, row.error_message, row.name or "")

    async def create_partitions(self, counts: Mapping[str, int]) -> None:
        """Raise the number of partitions of topics to these totals."""
        rows = [
            create_partitions.CreatePartitionsTopic(name=name, count=count)
            for name, count in counts.items()
        ]
        request = create_partitions.CreatePartitionsRequest(
            topics=rows, timeout_ms=self.settings.request_timeout_ms, validate_only=False
        )
        response = await self._ask_controller(request, create_partitions.CreatePartitionsResponse)
        for row in response.results:
            raise_named(row.error_code, row.error_message, row.name)

    async def list_topics(self, *, include_internal: bool = False) -> list[str]:
        found = await self._metadata(None)
        return sorted(
            row.name or "" for row in found.topics if include_internal or not row.is_internal
        )

    async def describe_topics(self, *names: str) -> dict[str, TopicView]:
        found = await self._metadata(list(names))
        for row in found.topics:
            raise_named(row.error_code, None, row.name or "")
        return {row.name or "": topic_view(row, None, self._cluster.nodes) for row in found.topics}

    async def describe_cluster(self) -> ClusterRow:
        await self._cluster.refresh()
        nodes = tuple(node for _, node in sorted(self._cluster.nodes.items()))
        return ClusterRow(self._cluster.cluster_id, self._cluster.controller_id, nodes)

    async def delete_records(self, before: Mapping[Key, int]) -> dict[TopicPartition, int]:
        """Forget the records before these offsets (-1: all that there are); where each partition
        begins now."""
        wanted = _by_key(before)
        response_rows: dict[TopicPartition, int] = {}
        left = dict(wanted)

        async def attempt() -> dict[TopicPartition, int]:
            for leader, keys in (await self._by_leader(left)).items():
                request = delete_records.DeleteRecordsRequest(
                    topics=[
                        delete_records.DeleteRecordsTopic(
                            name=name,
                            partitions=[
                                delete_records.DeleteRecordsPartition(
                                    partition_index=key.partition, offset=left[key]
                                )
                                for key in keys
                                if key.topic == name
                            ],
                        )
                        for name in dict.fromkeys(key.topic for key in keys)
                    ],
                    timeout_ms=self.settings.request_timeout_ms,
                )
                peer = self._cluster.peer(leader)
                response = await peer.ask(request, delete_records.DeleteRecordsResponse)
                for topic in response.topics:
                    for row in topic.partitions:
                        key = TopicPartition(topic.name, PartitionIndex(row.partition_index))
                        raise_named(row.error_code, None, str(key))
                        response_rows[key] = row.low_watermark
                        left.pop(key, None)
            return response_rows

        return await self._patiently("delete_records", attempt)

    # ---- configs

    async def describe_configs(
        self, resource: Resource, name: str, keys: Iterable[str] | None = None
    ) -> dict[str, ConfigEntry]:
        """The configs of one resource (of a broker: its id as a text), by key."""
        row = describe_configs.DescribeConfigsResource(
            resource_type=resource,
            resource_name=name,
            configuration_keys=None if keys is None else list(keys),
        )
        request = describe_configs.DescribeConfigsRequest(resources=[row])
        response = await self._ask_for(
            resource, name, request, describe_configs.DescribeConfigsResponse
        )
        for result in response.results:
            raise_named(result.error_code, result.error_message, name)
        return {
            entry.name: ConfigEntry(
                entry.name, entry.value, entry.config_source, entry.read_only, entry.is_sensitive
            )
            for result in response.results
            for entry in result.configs
        }

    async def alter_configs(
        self, resource: Resource, name: str, changes: Mapping[str, str | None]
    ) -> None:
        """Set configs of one resource, or (None) take them back; others stay as they are."""
        rows = [
            incremental_alter_configs.AlterableConfig(
                name=key, config_operation=1 if value is None else 0, value=value
            )
            for key, value in changes.items()
        ]
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[
                incremental_alter_configs.AlterConfigsResource(
                    resource_type=resource, resource_name=name, configs=rows
                )
            ],
            validate_only=False,
        )
        response = await self._ask_for(
            resource, name, request, incremental_alter_configs.IncrementalAlterConfigsResponse
        )
        for row in response.responses:
            raise_named(row.error_code, row.error_message, name)

    async def describe_log_dirs(self, *broker_ids: int) -> list[LogDir]:
        """The log directories of these brokers (of all, where none is named)."""
        request = describe_log_dirs.DescribeLogDirsRequest(topics=None)
        found: list[LogDir] = []
        for node_id in broker_ids or sorted(self._nodes()):
            response = await self._ask_node(
                node_id, request, describe_log_dirs.DescribeLogDirsResponse
            )
            raise_for(response.error_code)
            for row in response.results:
                sizes = {
                    TopicPartition(topic.name, PartitionIndex(each.partition_index)): (
                        each.partition_size
                    )
                    for topic in row.topics
                    for each in topic.partitions
                }
                error = code_of(row.error_code).name if row.error_code else None
                found.append(
                    LogDir(node_id, row.log_dir, error, row.total_bytes, row.usable_bytes, sizes)
                )
        return found

    # ---- offsets

    async def list_offsets(
        self, times: Mapping[Key, int], *, isolation_level: int = 0
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """Offsets by time: milliseconds, or -1 latest, -2 earliest."""
        self._nodes()
        timeout_ms = self.settings.request_timeout_ms
        return await offsets.list_offsets(
            self._cluster, _by_key(times), isolation=isolation_level, timeout_ms=timeout_ms
        )

    # ---- groups

    async def list_groups(self) -> list[GroupListing]:
        found: dict[str, GroupListing] = {}
        for node_id in sorted(self._nodes()):
            response = await self._ask_node(
                node_id, list_groups.ListGroupsRequest(), list_groups.ListGroupsResponse
            )
            raise_for(response.error_code)
            for row in response.groups:
                found[row.group_id] = GroupListing(
                    row.group_id, row.protocol_type, row.group_state, row.group_type
                )
        return [found[group_id] for group_id in sorted(found)]

    async def describe_group(self, group_id: str) -> GroupDescription:
        """A classic group. KafkaError (GROUP_ID_NOT_FOUND) from brokers that say so; older ones
        answer a group in state Dead."""
        request = describe_groups.DescribeGroupsRequest(groups=[group_id])
        response = await self._ask_coordinator(
            group_id, request, describe_groups.DescribeGroupsResponse, _first_error
        )
        row = response.groups[0]
        members = tuple(
            GroupMember(each.member_id, each.client_id, each.client_host, each.group_instance_id)
            for each in row.members
        )
        return GroupDescription(
            row.group_id, row.group_state, row.protocol_type, row.protocol_data, members
        )

    async def delete_group(self, group_id: str) -> None:
        request = delete_groups.DeleteGroupsRequest(groups_names=[group_id])
        await self._ask_coordinator(
            group_id, request, delete_groups.DeleteGroupsResponse, _first_result
        )

    async def group_offsets(
        self, group_id: str, partitions: Iterable[Key]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed of these; partitions without a commit are left out."""
        self._nodes()
        keys = [TopicPartition(name, PartitionIndex(index)) for name, index in partitions]
        timeout_ms = self.settings.request_timeout_ms
        return await offsets.committed(self._cluster, group_id, keys, timeout_ms)

    async def alter_group_offsets(self, group_id: str, places: Mapping[Key, int]) -> None:
        """Set what a group without members has committed."""
        self._nodes()
        wanted = {key: OffsetAndMetadata(offset) for key, offset in _by_key(places).items()}
        timeout_ms = self.settings.request_timeout_ms
        await offsets.commit(self._cluster, wanted, lambda: GroupMetadata(group_id), timeout_ms)

    async def delete_group_offsets(self, group_id: str, partitions: Iterable[Key]) -> None:
        topics: dict[str, offset_delete.OffsetDeleteRequestTopic] = {}
        for name, index in partitions:
            rows = topics.setdefault(
                name, offset_delete.OffsetDeleteRequestTopic(name=name, partitions=[])
            )
            rows.partitions.append(
                offset_delete.OffsetDeleteRequestPartition(partition_index=index)
            )
        request = offset_delete.OffsetDeleteRequest(group_id=group_id, topics=list(topics.values()))
        response = await self._ask_coordinator(
            group_id,
            request,
            offset_delete.OffsetDeleteResponse,
            lambda answer: raise_for(answer.error_code),
        )
        for topic in response.topics:
            for row in topic.partitions:
                raise_named(row.error_code, None, f"{topic.name}-{row.partition_index}")


_NO_ID = ZERO_UUID


def _first_error(response: describe_groups.DescribeGroupsResponse) -> None:
    for row in response.groups:
        raise_named(row.error_code, row.error_message, row.group_id)


def _first_result(response: delete_groups.DeleteGroupsResponse) -> None:
    for row in response.results:
        raise_named(row.error_code, row.error_message, row.group_id)


def _by_key(values: Mapping[Key, int]) -> dict[TopicPartition, int]:
    return {
        TopicPartition(name, PartitionIndex(index)): value
        for (name, index), value in values.items()
    }


def _creatable(topic: NewTopic) -> create_topics.CreatableTopic:
    is_assigned = bool(topic.replica_assignment)
    return create_topics.CreatableTopic(
        name=topic.name,
        num_partitions=-1 if is_assigned else topic.num_partitions,
        replication_factor=-1 if is_assigned else topic.replication_factor,
        assignments=[
            create_topics.CreatableReplicaAssignment(partition_index=index, broker_ids=list(ids))
            for index, ids in topic.replica_assignment.items()
        ],
        configs=[
            create_topics.CreatableTopicConfig(name=key, value=value)
            for key, value in topic.configs.items()
        ],
    )

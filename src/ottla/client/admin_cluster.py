"""The cluster: its nodes, who keeps its metadata, and the levels of its features."""

from collections.abc import Mapping

from ottla.base.errors import ErrorCode, KafkaError
from ottla.client.asking import Asking, raise_named
from ottla.client.rows import ClusterRow, FeatureChange, Features, Quorum, QuorumReplica
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.describe_quorum import (
    AskedPartitions,
    AskedTopics,
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    PartitionData,
    ReplicaState,
)
from ottla.protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

METADATA_TOPIC = "__cluster_metadata"
KINDS_OF_CHANGE = 1
"""Of UpdateFeatures: the first version that tells a safe downgrade from an unsafe one."""


class ClusterAdmin(Asking):
    async def describe_cluster(self) -> ClusterRow:
        await self._patiently("describe_cluster", lambda: self._cluster.refresh())
        nodes = tuple(node for _, node in sorted(self._cluster.nodes.items()))
        return ClusterRow(self._cluster.cluster_id, self._cluster.controller_id, nodes)

    async def describe_quorum(self) -> Quorum:
        """Who keeps the metadata, and how far each has come (KIP-595; brokers with KRaft)."""
        partition = AskedPartitions.PartitionData(partition_index=0)
        topic = AskedTopics.TopicData(topic_name=METADATA_TOPIC, partitions=[partition])
        response = await self._one(
            self._anyone(),
            DescribeQuorumRequest(topics=[topic]),
            DescribeQuorumResponse,
            _quorum_of,
        )
        row = _quorum_of(response)
        return Quorum(
            row.leader_id,
            row.leader_epoch,
            row.high_watermark,
            tuple(map(_quorum_replica, row.current_voters)),
            tuple(map(_quorum_replica, row.observers)),
        )

    async def describe_features(self) -> Features:
        """Levels that a broker supports, and those that the cluster has finalised (KIP-584)."""
        request = ApiVersionsRequest(client_software_name="ottla", client_software_version="0")
        response = await self._one(self._anyone(), request, ApiVersionsResponse)
        return Features(
            {row.name: (row.min_version, row.max_version) for row in response.supported_features},
            {row.name: row.max_version_level for row in response.finalized_features},
            response.finalized_features_epoch,
        )

    async def update_features(
        self,
        levels: Mapping[str, int],
        *,
        change: FeatureChange = FeatureChange.UPGRADE,
        validate_only: bool = False,
    ) -> None:
        """Finalise these levels (0: none), all of them or none. `change` has to say that they go
        down, where they do."""

        def request(version: int) -> UpdateFeaturesRequest:
            is_old = version < KINDS_OF_CHANGE
            updates = [
                FeatureUpdateKey(
                    feature=name,
                    max_version_level=level,
                    allow_downgrade=is_old and change is not FeatureChange.UPGRADE,
                    upgrade_type=FeatureChange.UPGRADE if is_old else change,
                )
                for name, level in levels.items()
            ]
            return UpdateFeaturesRequest(
                timeout_ms=self.settings.request_timeout_ms,
                feature_updates=updates,
                validate_only=validate_only,
            )

        def check(answer: UpdateFeaturesResponse) -> None:
            for row in answer.results:
                raise_named(row.error_code, row.error_message, row.feature)

        await self._one(self._controller(), request, UpdateFeaturesResponse, check)


def _quorum_of(response: DescribeQuorumResponse) -> PartitionData:
    """The one that there is; KafkaError where there is none, or another number of them."""
    rows = [row for topic in response.topics for row in topic.partitions]
    if len(rows) != 1:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"the broker tells of {len(rows)} quorums")
    raise_named(rows[0].error_code, rows[0].error_message, METADATA_TOPIC)
    return rows[0]


def _quorum_replica(row: ReplicaState) -> QuorumReplica:
    return QuorumReplica(
        row.replica_id,
        row.log_end_offset,
        row.last_fetch_timestamp,
        row.last_caught_up_timestamp,
        row.replica_directory_id,
    )

"""Fetch (key 1): read batches: consumers, followers and mirrors alike.

A request may belong to a session, and then names only what changed; what it no longer wants is
in `forgotten_topics_data`. The records of a response may be file ranges.
Versions. 4 is the first with batches of format 2 and an isolation level; 5 has log start
offsets; 7 sessions; 9 the leader epoch the reader knows; 10 zstd; 11 racks and the preferred
replica; 12 is flexible, and tells of a diverging epoch; 13 has topic ids instead of names; 15
moves the replica id into a tagged struct; 16 answers where new leaders are; 17 has directory
ids, 18 the high watermark that a follower knows (both from replicas alone).
"""

from ottla.base.ids import ZERO_UUID, Uuid
from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import Records, int8, int16, int32, int64, records


class ReplicaState(Struct):
    replica_id: int = field(int32, default=-1)
    replica_epoch: int = field(int64, default=-1)


class FetchPartition(Struct):
    partition: int = field(int32)
    current_leader_epoch: int = field(int32, versions="9+", default=-1, ignorable=True)
    fetch_offset: int = field(int64)
    last_fetched_epoch: int = field(int32, versions="12+", default=-1)
    log_start_offset: int = field(int64, versions="5+", default=-1, ignorable=True)
    partition_max_bytes: int = field(int32)
    replica_directory_id: Uuid = field(versions="17+", tag=0, default=ZERO_UUID, ignorable=True)
    high_watermark: int = field(
        int64, versions="18+", tag=1, default=0x7FFF_FFFF_FFFF_FFFF, ignorable=True
    )


class FetchTopic(Struct):
    topic: str = field(versions="0-12", default="", ignorable=True)
    topic_id: Uuid = field(versions="13+", default=ZERO_UUID, ignorable=True)
    partitions: list[FetchPartition] = field()


class ForgottenTopic(Struct):
    topic: str = field(versions="7-12", default="", ignorable=True)
    topic_id: Uuid = field(versions="13+", default=ZERO_UUID, ignorable=True)
    partitions: list[int] = field(int32)


class FetchRequest(Request, api=ApiKey.FETCH, versions="4-18", flexible="12+"):
    cluster_id: str | None = field(
        versions="12+", nullable="0+", tag=0, default=None, ignorable=True
    )
    replica_id: int = field(int32, versions="0-14", default=-1)
    replica_state: ReplicaState | None = field(versions="15+", tag=1, default=None)
    max_wait_ms: int = field(int32)
    min_bytes: int = field(int32)
    max_bytes: int = field(int32, default=0x7FFF_FFFF, ignorable=True)
    isolation_level: int = field(int8, default=0, ignorable=True)
    session_id: int = field(int32, versions="7+", default=0, ignorable=True)
    session_epoch: int = field(int32, versions="7+", default=-1, ignorable=True)
    topics: list[FetchTopic] = field()
    forgotten_topics_data: list[ForgottenTopic] = field(versions="7+", default_factory=list)
    rack_id: str = field(versions="11+", default="", ignorable=True)


class EpochEndOffset(Struct):
    epoch: int = field(int32, default=-1)
    end_offset: int = field(int64, default=-1)


class LeaderIdAndEpoch(Struct):
    leader_id: int = field(int32, default=-1)
    leader_epoch: int = field(int32, default=-1)


class SnapshotId(Struct):
    end_offset: int = field(int64, default=-1)
    epoch: int = field(int32, default=-1)


class AbortedTransaction(Struct):
    producer_id: int = field(int64)
    first_offset: int = field(int64)


class PartitionData(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)
    high_watermark: int = field(int64)
    last_stable_offset: int = field(int64, default=-1, ignorable=True)
    log_start_offset: int = field(int64, versions="5+", default=-1, ignorable=True)
    diverging_epoch: EpochEndOffset | None = field(versions="12+", tag=0, default=None)
    current_leader: LeaderIdAndEpoch | None = field(versions="12+", tag=1, default=None)
    snapshot_id: SnapshotId | None = field(versions="12+", tag=2, default=None)
    aborted_transactions: list[AbortedTransaction] | None = field(
        nullable="0+", default=None, ignorable=True
    )
    preferred_read_replica: int = field(int32, versions="11+", default=-1)
    records: Records | None = field(records, nullable="0+", default=None)


class FetchableTopicResponse(Struct):
    topic: str = field(versions="0-12", default="", ignorable=True)
    topic_id: Uuid = field(versions="13+", default=ZERO_UUID, ignorable=True)
    partitions: list[PartitionData] = field()


class NodeEndpoint(Struct):
    node_id: int = field(int32)
    host: str = field()
    port: int = field(int32)
    rack: str | None = field(nullable="0+", default=None)


class FetchResponse(Response, api=ApiKey.FETCH, versions="4-18", flexible="12+"):
    throttle_time_ms: int = field(int32, default=0, ignorable=True)
    error_code: int = field(int16, versions="7+", default=0, ignorable=True)
    session_id: int = field(int32, versions="7+", default=0)
    responses: list[FetchableTopicResponse] = field()
    node_endpoints: list[NodeEndpoint] = field(versions="16+", tag=0, default_factory=list)

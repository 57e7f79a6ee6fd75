"""The whole grammar of file and directory names in a log directory.

    <log dir>/
        .lock  meta.properties  .kafka_cleanshutdown
        recovery-point-offset-checkpoint  log-start-offset-checkpoint
        replication-offset-checkpoint                        (high watermarks)
        cleaner-offset-checkpoint                            (where the uncompacted part begins)
        <topic>-<partition>/
            <20 digits>.log .index .timeindex .txnindex      named by their base offset
            <20 digits>.snapshot                             producers before that offset
            leader-epoch-checkpoint  partition.metadata
        <topic>-<partition>.<32 hex>-delete/                 being deleted
        <topic>-<partition>.<32 hex>-future/ …-stray/        being moved; nobody's

A file's name gets `.deleted`, `.cleaned` or `.swap` behind it while it is on its way out or in.
No other file makes these texts, and none parses them.
"""

import re
from typing import Final, NamedTuple

from ottla.base.ids import PartitionIndex, TopicPartition

LOCK: Final = ".lock"
META_PROPERTIES: Final = "meta.properties"
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
SYNC_FAILED: Final = ".ottla_sync_failed"
"""Ottla's own. Kafka, which looks for directories there, passes over it."""
RECOVERY_POINTS: Final = "recovery-point-offset-checkpoint"
LOG_STARTS: Final = "log-start-offset-checkpoint"
HIGH_WATERMARKS: Final = "replication-offset-checkpoint"
CLEANER_OFFSETS: Final = "cleaner-offset-checkpoint"
LEADER_EPOCHS: Final = "leader-epoch-checkpoint"
PARTITION_METADATA: Final = "partition.metadata"
TEMPORARY: Final = ".tmp"
KRAFT_TOPIC: Final = "__cluster_metadata"
"""Where Apache Kafka's controllers keep what they agree on: in its form a topic, and none."""

LOG: Final = ".log"
OFFSET_INDEX: Final = ".index"
TIME_INDEX: Final = ".timeindex"
TRANSACTION_INDEX: Final = ".txnindex"
SNAPSHOT: Final = ".snapshot"

DELETED: Final = ".deleted"
CLEANED: Final = ".cleaned"
SWAP: Final = ".swap"

DELETE_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"
FUTURE_SUFFIX: Final = "-future"
NAME_BYTES: Final = 255
"""Longest name that file systems take."""

_FILE = re.compile(
    r"(\d{20})(\.log|\.index|\.timeindex|\.txnindex|\.snapshot)(|\.deleted|\.cleaned|\.swap)",
    re.ASCII,
)
_PARTITION = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9]\d{0,9})", re.ASCII)
_LEAVING = re.compile(r".+\.[0-9a-f]{32}-(delete|future|stray)", re.ASCII)


class SegmentFile(NamedTuple):
    offset: int
    kind: str
    state: str
    """Empty, or DELETED, CLEANED, SWAP."""


def file_name(offset: int, kind: str) -> str:
    return f"{offset:020d}{kind}"


def parse_file(name: str) -> SegmentFile | None:
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    return SegmentFile(int(match[1]), match[2], match[3])


def partition_directory(topic_partition: TopicPartition) -> str:
    return f"{topic_partition.topic}-{topic_partition.partition}"


def parse_partition_directory(name: str) -> TopicPartition | None:
    """The partition that lives in a directory of this name; None if none does."""
    match = _PARTITION.fullmatch(name)
    if match is None or match[1] in (".", "..") or int(match[2]) > 0x7FFFFFFF:
        return None
    return TopicPartition(match[1], PartitionIndex(int(match[2])))


def leaving_directory(topic_partition: TopicPartition, unique: bytes, suffix: str) -> str:
    """Name for a partition directory on its way out; the topic's name is cut to what fits."""
    tail = f"-{topic_partition.partition}.{unique.hex()}{suffix}"
    return topic_partition.topic[: NAME_BYTES - len(tail)] + tail


def leaving_state(name: str) -> str | None:
    """`delete`, `future` or `stray` for such a directory's name, else None."""
    match = _LEAVING.fullmatch(name)
    return match[1] if match else None


def parse_future_directory(name: str) -> TopicPartition | None:
    """The partition that was being copied into a directory of this name."""
    if leaving_state(name) != "future":
        return None
    return parse_partition_directory(name.rpartition(".")[0])


def has_future_name(topic_partition: TopicPartition) -> bool:
    """Whether its directory's name has room for what is behind a `-future` one's."""
    name = leaving_directory(topic_partition, bytes(16), FUTURE_SUFFIX)
    return name.startswith(f"{partition_directory(topic_partition)}.")

"""Opening the logs of one directory, some at a time, on any thread.

A `GroupOpening` is what is known of the directory once it was surveyed; `open` touches nothing
else, so that several helper threads may open several groups of one directory at once. What an
unclean start finds is flushed group by group, and its descriptors are closed: they are few.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition, Uuid
from ottla.base.world import Clock, Disk, Rng
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.identity import read_topic_id
from ottla.storage.log import Log
from ottla.storage.names import partition_directory
from ottla.storage.opening import Opening
from ottla.storage.recovery import open_log

logger = logging.getLogger(__name__)

GROUP_LOGS: Final = 200
"""Opened, or closed, and flushed at once."""
SCANNED_LOGS: Final = 20
"""Opened at once where they may have to be read whole: those are served when they are ready."""
Wanted = Sequence[tuple[TopicPartition, LogConfig]]


class Opened(NamedTuple):
    """What became of a log that was found."""

    topic_partition: TopicPartition
    topic_id: Uuid | None
    log: Log | None
    damage: CorruptionError | None
    """Where there is no log."""


@dataclass(frozen=True, slots=True)
class GroupOpening:
    disk: Disk
    rng: Rng
    clock: Clock
    path: str
    """Of the log directory."""
    is_trusted: bool
    """It was left cleanly, and no sync had failed."""
    sync_failed: bool
    recovery_points: Mapping[TopicPartition, int]
    log_starts: Mapping[TopicPartition, int]
    high_watermarks: Mapping[TopicPartition, int]

    def open(self, wanted: Wanted) -> list[Opened]:
        """Open these logs. Blocks; OSError where the disk does not let us."""
        opened = [self._open(each, config) for each, config in wanted]
        if not self.is_trusted:
            flush_in_groups(self.disk, [each.log for each in opened if each.log is not None])
        return opened

    def _open(self, topic_partition: TopicPartition, config: LogConfig) -> Opened:
        opening = Opening(
            self.disk,
            self.rng,
            self.clock.time_ms(),
            self.is_trusted,
            sync_failed=self.sync_failed,
            recovery_point=self.recovery_points.get(topic_partition, 0),
            log_start_offset=self.log_starts.get(topic_partition, 0),
            high_watermark=self.high_watermarks.get(topic_partition, 0),
        )
        directory = f"{self.path}/{partition_directory(topic_partition)}"
        topic_id = None
        try:
            topic_id = _read_topic_id(directory, opening)
            log = open_log(opening, topic_partition, directory, config)
        except CorruptionError as error:
            logger.error("%s is not served: %s", topic_partition, error)
            return Opened(topic_partition, topic_id, None, error)
        log.close()
        return Opened(topic_partition, topic_id, log, None)


def _read_topic_id(directory: str, opening: Opening) -> Uuid | None:
    try:
        return read_topic_id(opening.disk, directory)
    except CorruptionError as error:
        if opening.recovery_point:
            raise
        # It becomes durable with the first flush: none has been, nothing is lost.
        logger.warning("%s", error)
        return None


def flush_in_groups(disk: Disk, logs: Sequence[Log]) -> None:
    """What a flush opens is closed before the next group."""
    for start in range(0, len(logs), GROUP_LOGS):
        group = logs[start : start + GROUP_LOGS]
        flush_now(disk, group)
        for log in group:
            log.close()

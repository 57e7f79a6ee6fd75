"""The partitions of this node: made from the image, found by name or id, kept up in background.

`follow` is told of every delta of the cluster's image, and starts, changes and ends partitions
for it. A new log goes to the directory with the fewest. Logs that no topic of the image owns are
left where they are, unserved: the image being short of a topic is no reason to lose its data.

Flushing. An append marks its log dirty; what became dirty in one turn of the loop is handed to
the flusher of its directory once, at the end of the turn; what nobody waits for (acks=1, and no
consumer at the end of the log), a few milliseconds later. After a round the high watermarks
move, and with them whoever waits. A directory whose disk fails goes offline alone; one that is
full refuses what needs room, goes on serving reads, and takes more when there is room again.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import TopicPartition
from ottla.base.options import BrokerSettings, TopicSettings, effective_topic
from ottla.base.world import World
from ottla.metadata.delta import Delta
from ottla.metadata.image import ClusterImage, PartitionImage, TopicImage
from ottla.replica.partition import Partition
from ottla.storage.config import LogConfig
from ottla.storage.flusher import Flusher
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir

logger = logging.getLogger(__name__)

SOON_S: Final = 0.005
"""How long an append that nobody waits for (acks=1, no consumer) may wait for others."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Directory:
    """A log directory, its flusher, and the partitions in it."""

    __slots__ = (
        "_due",
        "_loop",
        "_partitions",
        "_soon",
        "_soon_timer",
        "flusher",
        "is_kick_due",
        "log_dir",
    )

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop, log_dir: LogDir) -> None:
        self.log_dir = log_dir
        self.is_kick_due = False
        self._loop = loop
        self._partitions: dict[Log, Partition] = {}
        self._due: dict[Log, asyncio.TimerHandle] = {}
        self._soon: dict[Log, None] = {}
        self._soon_timer: asyncio.TimerHandle | None = None
        self.flusher = Flusher(
            world.disk,
            world.offload,
            world.clock,
            on_flushed=self._flushed,
            on_offline=self.go_offline,
        )

    def add(self, partition: Partition) -> None:
        self._partitions[partition.log] = partition

    def remove(self, partition: Partition) -> None:
        """No flush of it may begin any more: its files are on their way out."""
        log = partition.log
        self._partitions.pop(log, None)
        self._soon.pop(log, None)
        timer = self._due.pop(log, None)
        if timer is not None:
            timer.cancel()
        self.flusher.forget(log)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    # hot: produce
    def mark_dirty(self, log: Log) -> None:
        """The log has more than was flushed: see to it at the end of this turn."""
        self.flusher.mark_dirty(log)
        if not self.is_kick_due:
            self.is_kick_due = True
            self._loop.call_soon(self._kick)

    # hot: produce
    def mark_dirty_soon(self, log: Log) -> None:
        """Nobody waits for it: it goes with the others of the next few milliseconds."""
        self._soon[log] = None
        if self._soon_timer is None:
            self._soon_timer = self._loop.call_later(SOON_S, self._soon_is_now)

    def _soon_is_now(self) -> None:
        self._soon_timer = None
        logs, self._soon = self._soon, {}
        for log in logs:
            self.flusher.mark_dirty(log)
        self.flusher.kick()

    def mark_dirty_within(self, log: Log, ms: int) -> None:
        if log not in self._due:
            self._due[log] = self._loop.call_later(ms / 1000, self._fall_due, log)

    def _fall_due(self, log: Log) -> None:
        del self._due[log]
        self.mark_dirty(log)

    def _kick(self) -> None:
        self.is_kick_due = False
        self.flusher.kick()

    def _flushed(self, logs: list[Log]) -> None:
        for log in logs:
            partition = self._partitions.get(log)
            if partition is None:
                continue
            try:
                partition.advance_high_watermark()
            except Exception:  # who waits on the other partitions is told all the same
                logger.exception("%s: a waiter failed", log.topic_partition)

    def hurry(self) -> None:
        """The node stops: what was to be flushed later is flushed now."""
        if self._soon_timer is not None:
            self._soon_timer.cancel()
            self._soon_is_now()
        for log, timer in self._due.items():
            timer.cancel()
            self.flusher.mark_dirty(log)
        self._due.clear()

    def high_watermarks(self) -> dict[TopicPartition, int]:
        return {
            partition.log.topic_partition: partition.high_watermark
            for partition in self._partitions.values()
        }

    def failed(self, error: OSError) -> None:
        """Something in the background could not be done. A full disk is waited out: what was
        there stands. Whatever else takes the directory offline."""
        if error.errno in FULL:
            logger.warning("log directory %s: %s", self.log_dir.path, error)
        else:
            self.go_offline(error)

    def go_offline(self, error: OSError) -> None:
        """Its disk failed: nothing in it is served until the next start."""
        if self.log_dir.is_offline:
            return
        logger.error("log directory %s goes offline: %s", self.log_dir.path, error)
        self.log_dir.go_offline()
        for partition in self._partitions.values():
            partition.close(ErrorCode.KAFKA_STORAGE_ERROR)


class ReplicaManager:
    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        node_id: int,
        settings: BrokerSettings,
        log_dirs: Sequence[LogDir],
    ) -> None:
        self._world = world
        self._node_id = node_id
        self._settings = settings
        self.directories = [Directory(world, loop, log_dir) for log_dir in log_dirs]
        self._partitions: dict[str | bytes, dict[int, Partition]] = {}
        """By topic name and, the same object, by topic id."""
        self._unserved: dict[tuple[str | bytes, int], None] = {}
        """Partitions whose log could not be opened, by topic name and by topic id."""
        self._homes: dict[Partition, Directory] = {}

    # hot: produce, fetch
    def leader_of(self, topic: str | bytes, index: int) -> Partition:
        """The partition of a topic, named by name or id, that this node leads and serves."""
        partitions = self._partitions.get(topic)
        partition = partitions.get(index) if partitions is not None else None
        if partition is not None:
            if partition.refusal:
                raise KafkaError(partition.refusal)
            return partition
        if partitions is None and isinstance(topic, bytes):
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        if partitions is not None and (topic, index) in self._unserved:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._homes)

    # -- following the image

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        for topic in delta.topics_deleted:
            self._delete_topic(topic)
        for topic in delta.topics_created:
            self._partitions[topic.name] = self._partitions[topic.id] = {}
        for topic in delta.topic_configs_changed:
            self._configure(topic)
        settings: dict[str, TopicSettings] = {}
        for topic, _, partition in delta.partitions_added:
            if self._node_id not in partition.replicas:
                continue
            if topic.name not in settings:
                settings[topic.name] = effective_topic(topic.configs, self._settings)
            self._create(topic, partition, settings[topic.name])

    def reconfigure(self, settings: BrokerSettings, image: ClusterImage) -> None:
        """The broker's options changed: the defaults of every topic with them."""
        self._settings = settings
        for topic in image.topics.values():
            self._configure(topic)

    def _create(
        self, topic: TopicImage, partition: PartitionImage, settings: TopicSettings
    ) -> None:
        topic_partition = TopicPartition(topic.name, partition.index)
        directory = self._home_of(topic_partition)
        config = log_config(settings, self._settings)
        try:
            if directory.log_dir.is_offline:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "its log directory is offline")
            log = directory.log_dir.create(topic_partition, topic.id, config)
        except (KafkaError, OSError) as error:
            logger.error("%s is not served: %s", topic_partition, error)
            if isinstance(error, OSError):
                directory.failed(error)
            for key in (topic.name, topic.id):
                self._unserved[key, partition.index] = None
            return
        log.config = config
        made = Partition(
            topic.name,
            partition.index,
            log,
            settings,
            leader_epoch=partition.leader_epoch,
            flushing=directory,
        )
        directory.add(made)
        self._homes[made] = directory
        self._partitions[topic.name][partition.index] = made

    def _home_of(self, topic_partition: TopicPartition) -> Directory:
        """Where its log is, or else where a new one goes."""
        for directory in self.directories:
            log_dir = directory.log_dir
            if topic_partition in log_dir.logs or topic_partition in log_dir.offline_logs:
                return directory
        online = [each for each in self.directories if not each.log_dir.is_offline]
        return min(online or self.directories, key=len)

    def _delete_topic(self, topic: TopicImage) -> None:
        partitions = self._partitions.pop(topic.id, {})
        for index in range(len(topic.partitions)):
            for key in (topic.name, topic.id):
                self._unserved.pop((key, index), None)
        if self._partitions.get(topic.name) is partitions:
            del self._partitions[topic.name]
        for partition in partitions.values():
            directory = self._homes.pop(partition)
            directory.remove(partition)
            partition.close(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            try:
                directory.log_dir.delete(partition.log.topic_partition)
            except OSError as error:
                directory.go_offline(error)

    def _configure(self, topic: TopicImage) -> None:
        settings = effective_topic(topic.configs, self._settings)
        config = log_config(settings, self._settings)
        for partition in self._partitions.get(topic.id, {}).values():
            partition.configure(settings)
            partition.log.config = config

    # -- background

    def clean_up(self) -> None:
        """Retention, and files whose delay is over. Called every
        `log.retention.check.interval.ms`."""
        now_ms = self._world.clock.time_ms()
        for directory in self.directories:
            if directory.log_dir.is_offline:
                continue
            try:
                directory.log_dir.remove_deleted()
                for partition in directory:
                    partition.log.retire_old_segments(now_ms, partition.high_watermark)
            except OSError as error:
                directory.failed(error)
            logs = [each.log for each in directory if each.log.has_retired]
            retired = [(log, log.log_start_offset) for log in logs]
            if retired and not directory.log_dir.is_offline:
                self.checkpoint(directory, partial(self._drop_retired, directory, retired))

    def _drop_retired(
        self, directory: Directory, retired: list[tuple[Log, int]], error: OSError | None
    ) -> None:
        """Segments of which the disk knows that the log starts behind them. A full disk cannot
        be told: then one of each log goes, behind what went before, and makes room."""
        log_dir = directory.log_dir
        now_ms = self._world.clock.time_ms()
        try:
            for log, end_offset in retired:
                if log_dir.is_offline or log_dir.logs.get(log.topic_partition) is not log:
                    continue
                if error is not None and log.has_retired:
                    self._world.disk.sync_directory(log.directory)
                    end_offset = log.segments[1].base_offset
                log.drop_retired(now_ms, end_offset)
        except OSError as failure:
            directory.failed(failure)

    def write_checkpoints(self) -> None:
        for directory in self.directories:
            if not directory.log_dir.is_offline:
                self.checkpoint(directory)

    def checkpoint(
        self, directory: Directory, then: Callable[[OSError | None], None] = lambda _: None
    ) -> None:
        """Make a directory's offsets durable, then call back, with the error if that failed."""

        def done(error: OSError | None) -> None:
            if error is not None:
                directory.failed(error)
            then(error)

        directory.log_dir.write_checkpoints(directory.high_watermarks(), self._world.offload, done)

    async def close(self) -> None:
        """Flush, and leave every directory as a clean stop does."""
        loop = asyncio.get_running_loop()
        for directory in self.directories:
            directory.hurry()
            idle: asyncio.Future[None] = loop.create_future()
            directory.flusher.when_idle(partial(idle.set_result, None))
            await idle
            try:
                directory.log_dir.close(directory.high_watermarks())
            except OSError as error:  # the others are left clean all the same
                logger.error("log directory %s: no clean stop: %s", directory.log_dir.path, error)


def log_config(settings: TopicSettings, broker: BrokerSettings) -> LogConfig:
    """What a topic's logs need of its settings."""
    return LogConfig(
        segment_bytes=settings.segment_bytes,
        segment_ms=settings.segment_ms,
        segment_jitter_ms=settings.segment_jitter_ms,
        segment_index_bytes=settings.segment_index_bytes,
        index_interval_bytes=settings.index_interval_bytes,
        retention_ms=settings.retention_ms,
        retention_bytes=settings.retention_bytes,
        file_delete_delay_ms=settings.file_delete_delay_ms,
        flush_messages=settings.flush_messages,
        flush_ms=settings.flush_ms,
        producer_id_expiration_ms=broker.producer_id_expiration_ms,
        is_deleted_by_retention="delete" in settings.cleanup_policy,
    )

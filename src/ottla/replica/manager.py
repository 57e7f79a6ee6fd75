"""The partitions of this node: made from the image, found by name or id, kept up in background.

`follow` is told of every delta of the cluster's image, and starts, changes and ends partitions
for it. A new log goes to the directory with the fewest. Logs that no topic of the image owns are
left where they are, unserved: the image being short of a topic is no reason to lose its data.

A partition without a log is not served, and `leader_of` says why: its log is not open yet
(`opened` tells of those that are), its directory has failed, or there was no room to make it,
which is tried again. One that was there before this start and is nowhere now, while a directory is
offline or missing, is not made anew, as in Kafka: it is in there.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from ottla.base.disk_errors import is_shortage
from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition, Uuid
from ottla.base.options import BrokerSettings, TopicSettings, effective_topic
from ottla.base.world import World
from ottla.metadata.delta import Delta
from ottla.metadata.image import ClusterImage, PartitionImage, TopicImage
from ottla.replica.directory import Directory
from ottla.replica.mover import Mover
from ottla.replica.partition import Partition
from ottla.replica.topic_rules import log_config
from ottla.storage.group_opening import Opened
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.names import has_future_name
from ottla.storage.open_segments import OpenSegments, capacity_for

logger = logging.getLogger(__name__)

PREFERRED_MAX: Final = 10_000
"""Partitions that are not here and whose directory is remembered."""


class Waiting(NamedTuple):
    """A partition whose log cannot be had yet."""

    topic_id: Uuid
    is_new: bool
    """It was made since this node started."""


class ReplicaManager:
    def __init__(
        self,
        world: World,
        loop: asyncio.AbstractEventLoop,
        node_id: int,
        settings: BrokerSettings,
        log_dirs: Sequence[LogDir],
    ) -> None:
        self._node_id = node_id
        self._settings = settings
        self.directories = [
            Directory(world, loop, log_dir, self._try_again) for log_dir in log_dirs
        ]
        shelf = OpenSegments(capacity_for(world.disk.open_files_max()), self._hurry)
        for log_dir in log_dirs:
            log_dir.shelf = shelf
        self._homes: dict[Partition, Directory] = {}
        self.mover = Mover(world.offload, moved=self._homes.__setitem__)
        self._partitions: dict[str | bytes, dict[int, Partition]] = {}
        """By topic name and, the same object, by topic id."""
        self._refusals: dict[tuple[str | bytes, int], ErrorCode] = {}
        """Why partitions have no log, by topic name and by topic id."""
        self._waiting: dict[TopicPartition, Waiting] = {}
        self._doomed: dict[TopicPartition, Uuid] = {}
        """Logs of deleted topics, by their id, that could not be deleted yet."""
        self.is_short = False
        """A directory of this node is not in log.dirs, and partitions may be in it."""
        self._image: ClusterImage | None = None
        self.preferred: dict[TopicPartition, Directory] = {}
        """Where partitions go that are not made yet, if they are."""

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
        refusal = self._refusals.get((topic, index), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        raise KafkaError(refusal)

    @property
    def has_offline(self) -> bool:
        """Whether some partition may be in a directory that has failed."""
        return self.is_short or any(each.log_dir.is_offline for each in self.directories)

    def is_offline(self, topic: str, index: int) -> bool:
        try:
            self.leader_of(topic, index)
        except KafkaError as error:
            return error.code == ErrorCode.KAFKA_STORAGE_ERROR
        return False

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._homes)

    def _hurry(self, log: object) -> None:
        """Its descriptors are wanted."""
        for directory in self.directories:
            if isinstance(log, Log) and directory.has(log):
                directory.mark_dirty(log)

    def move(self, topic: str, index: int, path: str) -> None:
        """Begin to move a partition to another log directory. KafkaError says why not; where
        the partition is not here, it goes there should it be made."""
        topic_partition = TopicPartition(topic, PartitionIndex(index))
        if not has_future_name(topic_partition):
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "the topic's name is too long")
        homes = [each for each in self.directories if each.log_dir.path == path]
        if not homes:
            raise KafkaError(ErrorCode.LOG_DIR_NOT_FOUND, f"{path} is not in log.dirs")
        if homes[0].log_dir.is_offline:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{path} is offline")
        partition = self._partitions.get(topic, {}).get(index)
        if partition is None:
            if len(self.preferred) < PREFERRED_MAX:
                self.preferred[topic_partition] = homes[0]
            refusal = self._refusals.get((topic, index), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            is_here = refusal == ErrorCode.NOT_LEADER_OR_FOLLOWER
            raise KafkaError(ErrorCode.REPLICA_NOT_AVAILABLE if is_here else refusal)
        if partition.refusal:
            raise KafkaError(partition.refusal)
        source = self._homes[partition]
        if source is not homes[0] and any(each.log_dir.is_offline for each in self.directories):
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "a log directory is offline")
        self.mover.start(partition, source, homes[0])

    # -- following the image

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        is_new = self._image is not None
        self._image = image
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
            self._create(topic, partition, settings[topic.name], is_new=is_new)
        for topic, _, partition in delta.partitions_changed:
            served = self._partitions[topic.id].get(partition.index)
            if served is not None:
                served.leader_epoch = partition.leader_epoch

    def reconfigure(self, settings: BrokerSettings, image: ClusterImage) -> None:
        """The broker's options changed: the defaults of every topic with them."""
        self._settings = settings
        for topic in image.topics.values():
            self._configure(topic)

    def _create(
        self,
        topic: TopicImage,
        partition: PartitionImage,
        settings: TopicSettings,
        *,
        is_new: bool,
    ) -> None:
        topic_partition = TopicPartition(topic.name, partition.index)
        waiting = Waiting(topic.id, is_new)
        if self._is_pending(topic_partition):
            self._refuse(topic_partition, waiting, ErrorCode.NOT_LEADER_OR_FOLLOWER)
            return
        config = log_config(settings, self._settings)
        directory = None
        try:
            directory = self._home_of(topic_partition, topic.id, is_new=is_new)
            if directory is None or directory.log_dir.is_offline:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "a log directory is offline")
            log = directory.log_dir.create(topic_partition, topic.id, config)
        except (KafkaError, OSError) as error:
            logger.log(
                logging.DEBUG if topic_partition in self._waiting else logging.ERROR,
                "%s is not served: %s",
                topic_partition,
                error,
            )
            self._refuse(topic_partition, waiting, ErrorCode.KAFKA_STORAGE_ERROR)
            if not is_shortage(error):
                del self._waiting[topic_partition]
            if isinstance(error, OSError) and directory is not None:
                directory.failed(error)
            return
        self._serve(topic, partition, settings, log, directory)

    def _serve(
        self,
        topic: TopicImage,
        partition: PartitionImage,
        settings: TopicSettings,
        log: Log,
        directory: Directory,
    ) -> None:
        config = log_config(settings, self._settings)
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
        for other in self.directories:
            if log.topic_partition in other.log_dir.wanted:
                self.mover.start(made, directory, other)
        self._partitions[topic.name][partition.index] = made
        topic_partition = log.topic_partition
        if self._waiting.pop(topic_partition, None) is not None:
            for key in (topic.name, topic.id):
                self._refusals.pop((key, partition.index), None)
            directory.has_room()

    def _refuse(
        self, topic_partition: TopicPartition, waiting: Waiting, refusal: ErrorCode
    ) -> None:
        self._waiting[topic_partition] = waiting
        for key in (topic_partition.topic, waiting.topic_id):
            self._refusals[key, topic_partition.partition] = refusal

    def _is_pending(self, topic_partition: TopicPartition) -> bool:
        """Whether its log, or that of a topic of the same name before it, is to be opened yet,
        or to be deleted."""
        return topic_partition in self._doomed or any(
            topic_partition in each.log_dir.pending
            for each in self.directories
            if not each.log_dir.is_offline
        )

    def _home_of(
        self, topic_partition: TopicPartition, topic_id: Uuid, *, is_new: bool
    ) -> Directory | None:
        """Where its log is, or else where a new one goes; None where that must not be made."""
        homes = [each for each in self.directories if topic_partition in each.log_dir]
        if homes:
            return self._chosen(topic_partition, topic_id, homes)
        online = [each for each in self.directories if not each.log_dir.is_offline]
        is_short = self.is_short or len(online) < len(self.directories)
        if not online or (is_short and not is_new):
            return None
        preferred = self.preferred.pop(topic_partition, None)
        return preferred if preferred in online else min(online, key=len)

    def _chosen(
        self, topic_partition: TopicPartition, topic_id: Uuid, homes: list[Directory]
    ) -> Directory:
        """Of directories that hold a partition of the same name: this topic's, rather than that of
        one before it, whose directory was away when it was deleted. Of two of this topic the
        longest log: a crash came between the end of a move and the deletion of what it left
        (`FutureLog`)."""

        def rank(directory: Directory) -> tuple[bool, int]:
            log = directory.log_dir.logs.get(topic_partition)
            found = directory.log_dir.topic_ids.get(topic_partition, topic_id)
            return found == topic_id, log.log_end_offset if log is not None else -1

        chosen = max(homes, key=rank)
        for directory in homes:
            if directory is not chosen and not directory.log_dir.is_offline:
                logger.warning("%s is in %s too: a stray", topic_partition, directory.log_dir.path)
                directory.log_dir.make_stray(topic_partition)
        return chosen

    def _delete_topic(self, topic: TopicImage) -> None:
        partitions = self._partitions.pop(topic.id, {})
        if self._partitions.get(topic.name) is partitions:
            del self._partitions[topic.name]
        for index in range(len(topic.partitions)):
            topic_partition = TopicPartition(topic.name, PartitionIndex(index))
            for key in (topic.name, topic.id):
                self._refusals.pop((key, index), None)
            self._waiting.pop(topic_partition, None)
            if self._is_pending(topic_partition):
                self._doomed.setdefault(topic_partition, topic.id)
        for partition in partitions.values():
            directory = self._homes.pop(partition)
            directory.remove(partition)
            partition.close(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            self._delete_log(directory, partition.log.topic_partition, topic.id)
            left = self.mover.forget(partition.log.topic_partition)
            if left is not None:
                self._delete_log(left, partition.log.topic_partition, topic.id)

    def _delete_log(
        self, directory: Directory, topic_partition: TopicPartition, topic_id: Uuid
    ) -> None:
        try:
            directory.log_dir.delete(topic_partition)
        except OSError as error:
            if is_shortage(error):
                self._doomed[topic_partition] = topic_id
            directory.failed(error)

    def read_failed(self, path: str, error: OSError) -> None:
        """A file of a log directory cannot be read."""
        for directory in self.directories:
            if path.startswith(directory.log_dir.path + "/"):
                directory.failed(error)

    # -- what had to wait

    def opened(self, log_dir: LogDir, opened: Sequence[Opened]) -> None:
        """These logs of a directory are open now: serve their partitions."""
        for topic_partition, *_ in opened:
            self._settle(topic_partition)

    def failed(self, log_dir: LogDir, error: OSError) -> None:
        """The directory failed while its logs were being opened."""
        for directory in self.directories:
            if directory.log_dir is log_dir:
                directory.go_offline(error)
        for topic_partition in log_dir.pending:
            self._settle(topic_partition)

    def _try_again(self, _: Directory) -> None:
        for topic_partition in [*self._doomed, *self._waiting]:
            self._settle(topic_partition)

    def _settle(self, topic_partition: TopicPartition) -> None:
        """Delete its log if that is due, and make the partition that waits for it."""
        doomed = self._doomed.pop(topic_partition, None)
        if doomed is not None:
            if self._is_pending(topic_partition):
                self._doomed[topic_partition] = doomed
                return
            for directory in self.directories:
                log_dir = directory.log_dir
                is_here = topic_partition in log_dir and not log_dir.is_offline
                if is_here and log_dir.topic_ids.get(topic_partition) == doomed:
                    self._delete_log(directory, topic_partition, doomed)
        waiting = self._waiting.get(topic_partition)
        if waiting is None or self._image is None:
            return
        topic = self._image.topics_by_id[waiting.topic_id]
        settings = effective_topic(topic.configs, self._settings)
        partition = topic.partitions[topic_partition.partition]
        self._create(topic, partition, settings, is_new=waiting.is_new)

    def _configure(self, topic: TopicImage) -> None:
        settings = effective_topic(topic.configs, self._settings)
        config = log_config(settings, self._settings)
        for partition in self._partitions.get(topic.id, {}).values():
            partition.configure(settings)
            partition.log.config = config

    # -- background

    def clean_up(self) -> None:
        """Called every `log.retention.check.interval.ms`."""
        for directory in self.directories:
            if not directory.log_dir.is_offline:
                directory.clean_up()

    def write_checkpoints(self) -> None:
        for directory in self.directories:
            if not directory.log_dir.is_offline:
                directory.checkpoint()

    async def close(self) -> None:
        """Flush, and leave every directory as a clean stop does."""
        loop = asyncio.get_running_loop()
        await self.mover.close()
        for directory in self.directories:
            directory.hurry()
            idle: asyncio.Future[None] = loop.create_future()
            directory.flusher.when_idle(partial(idle.set_result, None))
            await idle
            if directory.removing is not None:
                await directory.removing
        for directory in self.directories:
            is_clean = not directory.flusher.has_given_up
            try:
                directory.log_dir.close(directory.high_watermarks(), is_clean=is_clean)
            except OSError as error:  # the others are left clean all the same
                logger.error("log directory %s: no clean stop: %s", directory.log_dir.path, error)

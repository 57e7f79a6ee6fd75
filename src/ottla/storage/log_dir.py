"""One directory of `log.dirs`: whose it is, how it was left, and all the logs in it.

`claim` takes the directory for this node: the identity is compared before anything is touched,
then the lock is taken. `open_logs` reads and removes the mark of a clean stop, durably, so that a
crash from here on is seen as one; reads the checkpoints; deletes what was being deleted; and opens
the logs of the topics that there are. Two kinds of logs are left as they are, and their lines in
the checkpoints with them: `unowned` ones, of no topic that is known (the metadata being short of
a topic is no reason to lose its data), and `offline_logs`, whose flushed bytes are damaged, with
their CorruptionError.

A checkpoint says of a partition what was flushed. A topic that is made anew under the name of a
deleted one must not meet the old one's lines, so they are written out of the checkpoints before
its log is made, and what is being written of them meanwhile is written anew.

Deleting renames the partition's directory first, so that its name is free at once, and removes
its files when `file.delete.delay.ms` is over and no flush is using them.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import ZERO_UUID, TopicPartition, Uuid, id_text
from ottla.base.world import Clock, Disk, Lock, Offload, Rng
from ottla.storage.checkpoints import (
    directory_of,
    offsets_text,
    read_offsets,
    replace_whole,
    write_whole,
)
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.identity import (
    Identity,
    MetaProperties,
    read_meta_properties,
    read_topic_id,
    topic_id_text,
    write_meta_properties,
)
from ottla.storage.log import Log
from ottla.storage.names import (
    CLEAN_SHUTDOWN,
    DELETE_SUFFIX,
    HIGH_WATERMARKS,
    KRAFT_TOPIC,
    LOCK,
    LOG_STARTS,
    RECOVERY_POINTS,
    STRAY_SUFFIX,
    SYNC_FAILED,
    leaving_directory,
    leaving_state,
    parse_partition_directory,
    partition_directory,
)
from ottla.storage.recovery import Opening, open_log

logger = logging.getLogger(__name__)

CHECKPOINTS: Final = (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS)
GROUP_LOGS: Final = 200
NEXT: Final = ".next"
"""Last name of a checkpoint that a helper thread writes."""
Offsets = dict[TopicPartition, int]
ConfigOf = Callable[[str], LogConfig | None]
"""The config of a topic's logs; None where there is no such topic."""


class LogDirError(Exception):
    """A directory that this node must not or cannot use: one line that says why."""


class Leaving(NamedTuple):
    """A log whose directory has been renamed."""

    due_ms: int
    log: Log | None
    remove_path: str
    """Empty: the files stay."""


class Checkpoints(NamedTuple):
    files: list[tuple[str, bytes]]
    partitions: dict[TopicPartition, None]
    """Of which they speak."""


class LogDir:
    def __init__(self, path: str, disk: Disk, rng: Rng, clock: Clock) -> None:
        self.path = path
        self.disk = disk
        self.rng = rng
        self.clock = clock
        self.directory_id = ZERO_UUID
        self.was_clean = False
        self.is_offline = False
        self.sync_failed = False
        """In the life before this start."""
        self.logs: dict[TopicPartition, Log] = {}
        self.topic_ids: dict[TopicPartition, Uuid] = {}
        """Of the logs here, offline ones too; one that a crash left without its id is missing."""
        self.offline_logs: dict[TopicPartition, CorruptionError] = {}
        self.unowned: dict[TopicPartition, None] = {}
        self.high_watermarks: Offsets = {}
        """As the last checkpoint had them."""
        self._lines: dict[TopicPartition, None] = {}
        """Partitions of which the checkpoints on the disk speak."""
        self._found: list[Offsets] = [{}, {}, {}]
        """The checkpoints as the last start found them."""
        self._leaving: list[Leaving] = []
        self._lock: Lock | None = None
        self._writing: Checkpoints | None = None
        self._is_stale = False
        """Lines were forgotten since that began to be written."""
        self._writes: deque[Callable[[], None]] = deque()

    # -- opening

    @classmethod
    def open(
        cls,
        path: str,
        identity: Identity,
        config_of: ConfigOf,
        *,
        disk: Disk,
        rng: Rng,
        clock: Clock,
    ) -> "LogDir":
        """`claim` and `open_logs` in one."""
        self = cls.claim(path, identity, disk=disk, rng=rng, clock=clock)
        self.open_logs(config_of)
        return self

    @classmethod
    def claim(
        cls, path: str, identity: Identity, *, disk: Disk, rng: Rng, clock: Clock
    ) -> "LogDir":
        """Take the directory for this node. LogDirError where it is another's, in use, or not
        writable."""
        self = cls(path, disk, rng, clock)
        try:
            meta = self._read_meta(identity)
            _make_durable_directory(disk, path)
            self._lock = disk.lock(f"{path}/{LOCK}")
            if meta is None:
                meta = MetaProperties(identity, Uuid(rng.randbytes(16)))
                write_meta_properties(disk, path, meta)
        except BlockingIOError as error:
            raise LogDirError(f"{path} is in use by another process") from error
        except OSError as error:
            self._let_go()
            raise _not_usable(path, error) from error
        self.directory_id = meta.directory_id
        return self

    def open_logs(self, config_of: ConfigOf) -> None:
        """Open the logs of all topics of which `config_of` knows. LogDirError where the disk
        does not let us."""
        try:
            self._take_marker()
            self._open_logs(config_of)
        except OSError as error:
            self.go_offline()
            self._let_go()
            raise _not_usable(self.path, error) from error

    def _read_meta(self, identity: Identity) -> MetaProperties | None:
        try:
            meta = read_meta_properties(self.disk, self.path)
        except CorruptionError as error:
            raise LogDirError(str(error)) from error
        if meta is not None and meta.identity != identity:
            found = meta.identity
            raise LogDirError(
                f"{self.path} belongs to node {found.node_id} of cluster {found.cluster_id},"
                f" this is node {identity.node_id} of cluster {identity.cluster_id}"
            )
        return meta

    def _take_marker(self) -> None:
        """See how the directory was left."""
        marker = f"{self.path}/{CLEAN_SHUTDOWN}"
        self.was_clean = self.disk.exists(marker)
        if self.was_clean:
            self.disk.remove(marker)
            self.disk.sync_directory(self.path)
        self.sync_failed = self.disk.exists(f"{self.path}/{SYNC_FAILED}")

    def go_offline(self) -> None:
        """The disk failed. A mark is left for a start that finds the page cache as it is: what a
        failed sync did not write counts as written there. It lives and dies with that cache, so
        it needs no sync."""
        self.is_offline = True
        with suppress(OSError):
            self.disk.open(f"{self.path}/{SYNC_FAILED}", create=True).close()

    def _open_logs(self, config_of: ConfigOf) -> None:
        self._found = [self._read_checkpoint(name) for name in CHECKPOINTS]
        points, starts, self.high_watermarks = self._found
        self._lines = dict.fromkeys(each for offsets in self._found for each in offsets)
        now_ms = self.clock.time_ms()
        for name in self.disk.list_directory(self.path):
            topic_partition = parse_partition_directory(name)
            directory = f"{self.path}/{name}"
            if leaving_state(name) == "delete" and self.disk.is_directory(directory):
                self.disk.sync_directory(self.path)  # its new name first: see remove_deleted
                self.disk.remove_directory(directory)
                continue
            if topic_partition is None or not self.disk.is_directory(directory):
                continue
            config = config_of(topic_partition.topic)
            if config is None:
                self._leave_alone(topic_partition)
                continue
            opening = Opening(
                self.disk,
                self.rng,
                now_ms,
                self.was_clean and not self.sync_failed,
                sync_failed=self.sync_failed,
                recovery_point=points.get(topic_partition, 0),
                log_start_offset=starts.get(topic_partition, 0),
            )
            self._open_log(opening, topic_partition, directory, config)
        if not self.was_clean or self.sync_failed:
            self._flush_in_groups(list(self.logs.values()))
        if self.sync_failed and not (self.unowned or self.offline_logs):
            self.disk.remove(f"{self.path}/{SYNC_FAILED}")

    def _leave_alone(self, topic_partition: TopicPartition) -> None:
        self.unowned[topic_partition] = None
        if topic_partition.topic != KRAFT_TOPIC:
            logger.warning(
                "%s/%s belongs to no topic: left as it is, not served", self.path, topic_partition
            )

    def _flush_in_groups(self, logs: list[Log]) -> None:
        """What a flush opens is closed before the next group: descriptors are few."""
        for start in range(0, len(logs), GROUP_LOGS):
            group = logs[start : start + GROUP_LOGS]
            flush_now(self.disk, group)
            for log in group:
                log.close()

    def _open_log(
        self,
        opening: Opening,
        topic_partition: TopicPartition,
        directory: str,
        config: LogConfig,
    ) -> None:
        try:
            topic_id = self._read_topic_id(directory, opening)
            if topic_id is not None:
                self.topic_ids[topic_partition] = topic_id
            log = open_log(opening, topic_partition, directory, config)
        except CorruptionError as error:
            logger.error("%s is not served: %s", topic_partition, error)
            self.offline_logs[topic_partition] = error
            return
        log.close()
        self.logs[topic_partition] = log

    def _read_topic_id(self, directory: str, opening: Opening) -> Uuid | None:
        try:
            return read_topic_id(self.disk, directory)
        except CorruptionError as error:
            if opening.recovery_point:
                raise
            # It becomes durable with the first flush: none has been, nothing is lost.
            logger.warning("%s", error)
            return None

    def _read_checkpoint(self, name: str) -> Offsets:
        """What it says; nothing where it cannot be read, which costs a scan, or a step back of
        the log start, but no record."""
        try:
            return read_offsets(self.disk, f"{self.path}/{name}")
        except CorruptionError as error:
            logger.warning("checkpoint passed over: %s", error)
            return {}

    # -- logs come and go

    def create(self, topic_partition: TopicPartition, topic_id: Uuid, config: LogConfig) -> Log:
        """The log of a partition, made where it is not there. Durable with its first flush.

        One that is there under another topic's id is moved away as a stray."""
        log = self.logs.get(topic_partition)
        damage = self.offline_logs.get(topic_partition)
        found = self.topic_ids.get(topic_partition)
        if damage is not None and found in (None, topic_id):
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(damage))
        is_here = log is not None or damage is not None
        if is_here and found is not None and found != topic_id:
            logger.warning(
                "%s of topic id %s is a stray, the topic is %s now",
                topic_partition,
                id_text(found),
                id_text(topic_id),
            )
            self._move_away(topic_partition, STRAY_SUFFIX)
            log = None
        if topic_partition in self.unowned:
            logger.warning("%s of a topic that is not known becomes a stray", topic_partition)
            self._move_away(topic_partition, STRAY_SUFFIX)
        if log is None:
            log = self._make(topic_partition, topic_id, config)
        elif found is None:
            log.name_topic(topic_id_text(topic_id))
        self.logs[topic_partition] = log
        self.topic_ids[topic_partition] = topic_id
        return log

    def _make(self, topic_partition: TopicPartition, topic_id: Uuid, config: LogConfig) -> Log:
        self._forget_lines(topic_partition)
        directory = f"{self.path}/{partition_directory(topic_partition)}"
        self.disk.make_directory(directory)
        log = Log(self.disk, self.rng, topic_partition, directory, config)
        log.start_at(0, self.clock.time_ms())
        log.name_topic(topic_id_text(topic_id))
        return log

    def delete(self, topic_partition: TopicPartition) -> None:
        """The partition is gone at once, its files when their delay is over."""
        self._move_away(topic_partition, DELETE_SUFFIX)

    def _move_away(self, topic_partition: TopicPartition, suffix: str) -> None:
        log = self.logs.pop(topic_partition, None)
        self.topic_ids.pop(topic_partition, None)
        self.offline_logs.pop(topic_partition, None)
        self.unowned.pop(topic_partition, None)
        self.high_watermarks.pop(topic_partition, None)
        name = leaving_directory(topic_partition, self.rng.randbytes(16), suffix)
        path = f"{self.path}/{name}"
        self.disk.rename(f"{self.path}/{partition_directory(topic_partition)}", path)
        delay_ms = 0
        if log is not None:
            log.move(path)
            delay_ms = log.config.file_delete_delay_ms
        due_ms = self.clock.time_ms() + delay_ms
        self._leaving.append(Leaving(due_ms, log, path if suffix == DELETE_SUFFIX else ""))

    def remove_deleted(self) -> None:
        """Close and remove what was deleted long enough ago. Call it now and then."""
        now_ms = self.clock.time_ms()
        staying: list[Leaving] = []
        going: list[Leaving] = []
        for leaving in self._leaving:
            is_flushing = leaving.log is not None and leaving.log.is_flushing
            stays = now_ms < leaving.due_ms or is_flushing
            (staying if stays else going).append(leaving)
        if not going:
            return
        # Their new names first: else a power cut might bring one back under the old one, half
        # empty, as a log that lost what was flushed.
        self.disk.sync_directory(self.path)
        self._leaving = staying
        for leaving in going:
            if leaving.log is not None:
                leaving.log.close()
            if leaving.remove_path:
                self.disk.remove_directory(leaving.remove_path)

    # -- checkpoints

    def write_checkpoints(
        self,
        high_watermarks: Mapping[TopicPartition, int],
        offload: Offload,
        done: Callable[[OSError | None], None],
    ) -> None:
        """Write all three on a helper thread, as things stand now; then `done`, with the error
        if there was one. Writes follow one another.

        The helper writes files beside them, which get their names on this thread: a partition
        that is made meanwhile must not find lines of its namesake under them later."""
        if self._writing is not None:
            self._writes.append(partial(self.write_checkpoints, high_watermarks, offload, done))
            return
        self.high_watermarks = dict(high_watermarks)
        writing = self._writing = self._checkpoints(high_watermarks)
        self._is_stale = False

        def written(_: None, error: BaseException | None) -> None:
            if error is None and self._is_stale:
                self._writing = None
                self.write_checkpoints(self.high_watermarks, offload, done)
                return
            error = error or _name_next(self.disk, writing.files)
            if error is not None:
                ended(None, error)
            else:
                offload.submit(partial(self.disk.sync_directory, self.path), ended)

        def ended(_: None, error: BaseException | None) -> None:
            self._writing = None
            if error is not None and not isinstance(error, OSError):
                raise error
            if error is None and not self._is_stale:
                self._lines = writing.partitions
            done(error)
            if self._writes and self._writing is None:
                self._writes.popleft()()

        offload.submit(partial(_write_next, self.disk, writing.files), written)

    def _checkpoints(self, high_watermarks: Mapping[TopicPartition, int]) -> Checkpoints:
        points = {each: log.flushed_end_offset for each, log in self.logs.items()}
        # Kafka leaves out a start that the first segment tells by its name: but a power cut may
        # bring segments back that were dropped a moment ago.
        starts = {
            each: log.log_start_offset
            for each, log in self.logs.items()
            if log.log_start_offset > 0
        }
        marks = {each: high_watermarks[each] for each in self.logs if each in high_watermarks}
        offsets = (points, starts, marks)
        for each, found in zip(offsets, self._found, strict=True):
            for log in (*self.unowned, *self.offline_logs):
                if log in found:
                    each[log] = found[log]
        files = [
            (f"{self.path}/{name}", offsets_text(each))
            for name, each in zip(CHECKPOINTS, offsets, strict=True)
        ]
        return Checkpoints(files, dict.fromkeys([*points, *starts, *marks]))

    def _forget_lines(self, topic_partition: TopicPartition) -> None:
        """No checkpoint may speak of a partition that is about to be made: neither those that
        are there nor those that are being written."""
        writing = self._writing.partitions if self._writing is not None else {}
        if topic_partition in self._lines or topic_partition in writing:
            checkpoints = self._checkpoints(self.high_watermarks)
            _replace_all(self.disk, checkpoints.files)
            self._lines = checkpoints.partitions
            self._is_stale = True

    # -- closing

    def close(
        self, high_watermarks: Mapping[TopicPartition, int] | None = None, *, is_clean: bool = True
    ) -> None:
        """Let go of everything. A clean stop makes all logs durable first and leaves its mark,
        which is the last thing that is written; none while a log is offline, which the next
        start would trust then. Call it when no flush is running."""
        try:
            if is_clean and not self.is_offline:
                self._settle(high_watermarks or {})
        except OSError:
            self.go_offline()
            raise
        finally:
            self._let_go()

    def _settle(self, high_watermarks: Mapping[TopicPartition, int]) -> None:
        unsettled = [log for log in self.logs.values() if not log.is_settled]
        for log in unsettled:
            log.settle()
        self._flush_in_groups(unsettled)
        _replace_all(self.disk, self._checkpoints(high_watermarks).files)
        if self.offline_logs:
            return
        mark = json.dumps({"version": 0, "brokerEpoch": -1}, separators=(",", ":"))
        replace_whole(self.disk, f"{self.path}/{CLEAN_SHUTDOWN}", mark.encode())

    def _let_go(self) -> None:
        for log in self.logs.values():
            log.close()
        for leaving in self._leaving:
            if leaving.log is not None:
                leaving.log.close()
        self.logs.clear()
        self._leaving.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _not_usable(path: str, error: OSError) -> LogDirError:
    return LogDirError(f"{error.filename or path} cannot be used: {error.strerror}")


def _make_durable_directory(disk: Disk, path: str) -> None:
    """Make it, and sync the names of all that had to be made."""
    missing = []
    while path not in ("", ".", "/") and not disk.is_directory(path):
        missing.append(path)
        path = directory_of(path)
    if missing:
        disk.make_directory(missing[0])
    for each in missing:
        disk.sync_directory(directory_of(each))


def _write_next(disk: Disk, contents: Sequence[tuple[str, bytes]]) -> None:
    for path, data in contents:
        write_whole(disk, path + NEXT, data, sync=True)


def _name_next(disk: Disk, contents: Sequence[tuple[str, bytes]]) -> OSError | None:
    try:
        for path, _ in contents:
            disk.rename(path + NEXT, path)
    except OSError as error:
        return error
    return None


def _replace_all(disk: Disk, contents: Sequence[tuple[str, bytes]]) -> None:
    for path, data in contents:
        replace_whole(disk, path, data)

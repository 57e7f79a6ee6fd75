"""One directory of `log.dirs`: whose it is, how it was left, and all the logs in it.

`claim` takes the directory for this node: the identity is compared before anything is touched,
then the lock is taken; `format` makes one that is nobody's this node's. `survey` reads and removes
the mark of a clean stop, durably, so that a crash from here on is seen as one; reads the
checkpoints; deletes what was being deleted; and finds the logs of the topics that there are, which
are `pending` until they are opened (by `opening`, on any thread, some at a time) and taken. Two
kinds of logs are left as they are, and their lines in the checkpoints with them: `unowned` ones, of
no topic that is known (the metadata being short of a topic is no reason to lose its data), and
`offline_logs`, whose flushed bytes are damaged, with their CorruptionError.

Its checkpoints and the logs that are leaving it have modules of their own.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError, check
from ottla.base.ids import ZERO_UUID, TopicPartition, Uuid, id_text
from ottla.base.world import Clock, Disk, Lock, Offload, Rng
from ottla.storage.checkpoints import replace_whole
from ottla.storage.claim import LogDirError as LogDirError
from ottla.storage.claim import LogDirFailedError as LogDirFailedError
from ottla.storage.claim import claim_directory, format_directory, not_usable
from ottla.storage.config import LogConfig
from ottla.storage.directory_checkpoints import DirectoryCheckpoints, Offsets, offsets_of
from ottla.storage.group_opening import (
    GROUP_LOGS,
    SCANNED_LOGS,
    GroupOpening,
    Opened,
    Wanted,
    flush_in_groups,
)
from ottla.storage.identity import Identity, MetaProperties, topic_id_text
from ottla.storage.leaving import LeavingLogs
from ottla.storage.log import Log
from ottla.storage.names import (
    CLEAN_SHUTDOWN,
    DELETE_SUFFIX,
    KRAFT_TOPIC,
    STRAY_SUFFIX,
    SYNC_FAILED,
    leaving_directory,
    leaving_state,
    parse_future_directory,
    parse_partition_directory,
    partition_directory,
)
from ottla.storage.open_segments import OpenSegments

logger = logging.getLogger(__name__)

ConfigOf = Callable[[str], LogConfig | None]
"""The config of a topic's logs; None where there is no such topic."""


class LogDir:
    def __init__(self, path: str, disk: Disk, rng: Rng, clock: Clock) -> None:
        self.path = path
        self.disk = disk
        self.rng = rng
        self.clock = clock
        self.directory_id = ZERO_UUID
        self.is_formatted = False
        """It is this node's; else it is nobody's yet."""
        self.was_clean = False
        self.is_offline = False
        self.failure: LogDirFailedError | None = None
        """Why the start did without it."""
        self.sync_failed = False
        """In the life before this start."""
        self.pending: dict[TopicPartition, LogConfig] = {}
        """Found and not opened yet."""
        self.logs: dict[TopicPartition, Log] = {}
        self.topic_ids: dict[TopicPartition, Uuid] = {}
        """Of the logs here, offline ones too; one that a crash left without its id is missing."""
        self.offline_logs: dict[TopicPartition, CorruptionError] = {}
        self.unowned: dict[TopicPartition, None] = {}
        self.futures: Offsets = {}
        """Log starts of what is being moved here, for the checkpoint."""
        self.wanted: list[TopicPartition] = []
        """Were being moved here when the node stopped."""
        self.shelf: OpenSegments | None = None
        self._checkpoints = DirectoryCheckpoints(disk, path, self._offsets)
        self._leaving = LeavingLogs(disk, path, clock)
        self._lock: Lock | None = None

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
        """`claim`, `format` where it is nobody's, and `open_logs` in one."""
        self = cls.claim(path, identity, disk=disk, rng=rng, clock=clock)
        if not self.is_formatted:
            self.format(identity)
        self.open_logs(config_of)
        return self

    @classmethod
    def claim(
        cls, path: str, identity: Identity | None, *, disk: Disk, rng: Rng, clock: Clock
    ) -> "LogDir":
        """Take the directory for this node. LogDirError where it is another's or in use,
        LogDirFailedError where it cannot be read or written."""
        self = cls(path, disk, rng, clock)
        meta, self._lock = claim_directory(disk, path, identity)
        if meta is not None:
            self.directory_id, self.is_formatted = meta.directory_id, True
        return self

    def format(self, identity: Identity) -> None:
        """It was nobody's, and is this node's now, durably. LogDirFailedError."""
        self.directory_id = Uuid(self.rng.randbytes(16))
        try:
            format_directory(self.disk, self.path, MetaProperties(identity, self.directory_id))
        except LogDirFailedError:
            self._let_go()
            raise
        self.is_formatted = True

    def shut(self, failure: LogDirFailedError) -> "LogDir":
        """One that could not be claimed or formatted: listed, and not used."""
        self.is_offline, self.failure = True, failure
        return self

    def open_logs(self, config_of: ConfigOf) -> None:
        """Find and open the logs of all topics of which `config_of` knows.
        LogDirFailedError where the disk does not let us."""
        try:
            self.survey(config_of)
            opening = self.opening
            for wanted in self.groups():
                self.take(opening.open(wanted))
        except OSError as error:
            self._let_go()
            raise self.fail_opening(error) from error
        self.finish_opening()

    def survey(self, config_of: ConfigOf) -> None:
        """See how the directory was left, and what is in it. Blocks; OSError where the disk does
        not let us: `fail_opening` then."""
        self._take_marker()
        self._checkpoints.read()
        self._survey(config_of)

    def fail_opening(self, error: OSError) -> LogDirFailedError:
        """The directory stays, as one that has failed; the error that tells of it."""
        self.go_offline()
        self.failure = not_usable(self.path, error)
        return self.failure

    def groups(self) -> list[Wanted]:
        """What is pending, in pieces for `opening`."""
        pending = list(self.pending.items())
        step = GROUP_LOGS if self.opening.is_trusted else SCANNED_LOGS
        return [pending[at : at + step] for at in range(0, len(pending), step)]

    @property
    def opening(self) -> GroupOpening:
        """By which the logs of a piece are opened."""
        points, starts, marks, *_ = self._checkpoints.found
        is_trusted = self.was_clean and not self.sync_failed
        known = (self.disk, self.rng, self.clock, self.path)
        return GroupOpening(*known, is_trusted, self.sync_failed, points, starts, marks)

    def take(self, opened: Sequence[Opened]) -> None:
        """These are open now, or have been found damaged."""
        for topic_partition, topic_id, log, damage in opened:
            self.pending.pop(topic_partition, None)
            if topic_id is not None:
                self.topic_ids[topic_partition] = topic_id
            if log is not None:
                log.shelf = self.shelf
                log.cleaner_offset = self._checkpoints.cleaner_offsets.get(topic_partition)
                self.logs[topic_partition] = log
            elif damage is not None:
                self.offline_logs[topic_partition] = damage

    def finish_opening(self) -> None:
        """Nothing is pending any more: all that a failed sync may have lost is written."""
        if self.sync_failed and not (self.unowned or self.offline_logs):
            with suppress(OSError):
                self.disk.remove(f"{self.path}/{SYNC_FAILED}")

    @property
    def high_watermarks(self) -> Offsets:
        """As the last checkpoint had them."""
        return self._checkpoints.high_watermarks

    def _take_marker(self) -> None:
        marker = f"{self.path}/{CLEAN_SHUTDOWN}"
        self.was_clean = self.disk.exists(marker)
        if self.was_clean:
            self.disk.remove(marker)
        # The checkpoints too: who renamed them may have died before it synced their names, and
        # what they tell must not be taken back when segments have been dropped for it.
        self.disk.sync_directory(self.path)
        self.sync_failed = self.disk.exists(f"{self.path}/{SYNC_FAILED}")

    def go_offline(self) -> None:
        """The disk failed. A mark is left for a start that finds the page cache as it is: what a
        failed sync did not write counts as written there. It lives and dies with that cache, so
        it needs no sync."""
        self.is_offline = True
        with suppress(OSError):
            self.disk.open(f"{self.path}/{SYNC_FAILED}", create=True).close()

    def _survey(self, config_of: ConfigOf) -> None:
        for name in self.disk.list_directory(self.path):
            topic_partition = parse_partition_directory(name)
            directory = f"{self.path}/{name}"
            if leaving_state(name) == "delete" and self.disk.is_directory(directory):
                self.disk.sync_directory(self.path)  # its new name first: see LeavingLogs
                self.disk.remove_directory(directory)
                continue
            future = parse_future_directory(name)
            if future is not None and self.disk.is_directory(directory):
                self.disk.remove_directory(directory)
                self.wanted.append(future)
                continue
            if topic_partition is None or not self.disk.is_directory(directory):
                continue
            config = config_of(topic_partition.topic)
            if config is None:
                self._leave_alone(topic_partition)
            else:
                self.pending[topic_partition] = config

    def _leave_alone(self, topic_partition: TopicPartition) -> None:
        self.unowned[topic_partition] = None
        if topic_partition.topic != KRAFT_TOPIC:
            logger.warning(
                "%s/%s belongs to no topic: left as it is, not served", self.path, topic_partition
            )

    # -- logs come and go

    def __contains__(self, topic_partition: TopicPartition) -> bool:
        """Whether its log is here, sound or not."""
        return topic_partition in self.logs or topic_partition in self.offline_logs

    def create(self, topic_partition: TopicPartition, topic_id: Uuid, config: LogConfig) -> Log:
        """The log of a partition, made where it is not there. Durable with its first flush.

        One that is there under another topic's id is moved away as a stray."""
        check(topic_partition not in self.pending, "what is pending is opened first")
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
        log.shelf = self.shelf
        self.logs[topic_partition] = log
        self.topic_ids[topic_partition] = topic_id
        return log

    def _make(self, topic_partition: TopicPartition, topic_id: Uuid, config: LogConfig) -> Log:
        self._checkpoints.forget(topic_partition)
        directory = f"{self.path}/{partition_directory(topic_partition)}"
        self.disk.make_directory(directory)
        log = Log(self.disk, self.rng, topic_partition, directory, config)
        log.start_at(0, self.clock.time_ms())
        log.name_topic(topic_id_text(topic_id))
        return log

    def forget_lines(self, topic_partition: TopicPartition) -> None:
        """The checkpoints must not speak of it: its log is about to be made."""
        self._checkpoints.forget(topic_partition)

    def adopt(self, topic_partition: TopicPartition, topic_id: Uuid | None, log: Log) -> None:
        """A log that was moved here."""
        log.shelf = self.shelf
        self.logs[topic_partition] = log
        if topic_id is not None:
            self.topic_ids[topic_partition] = topic_id

    def make_stray(self, topic_partition: TopicPartition) -> None:
        """It is no partition's any more; its files stay."""
        self._move_away(topic_partition, STRAY_SUFFIX)

    def delete(self, topic_partition: TopicPartition) -> None:
        """The partition is gone at once, its files when their delay is over."""
        self._move_away(topic_partition, DELETE_SUFFIX)

    def truncate(self, topic_partition: TopicPartition, offset: int, now_ms: int) -> None:
        """Cut a log back. The disk knows of the lower recovery point before anything goes: a start
        after a crash must not miss what went on purpose."""
        log = self.logs[topic_partition]
        if log.lower_recovery_point(offset):
            self._checkpoints.write_over()
        log.truncate_to(offset, now_ms)

    def _move_away(self, topic_partition: TopicPartition, suffix: str) -> None:
        name = leaving_directory(topic_partition, self.rng.randbytes(16), suffix)
        path = f"{self.path}/{name}"
        self.disk.rename(f"{self.path}/{partition_directory(topic_partition)}", path)
        log = self.logs.pop(topic_partition, None)
        self.topic_ids.pop(topic_partition, None)
        self.offline_logs.pop(topic_partition, None)
        self.unowned.pop(topic_partition, None)
        self.high_watermarks.pop(topic_partition, None)
        self._leaving.add(log, path, is_removed=suffix == DELETE_SUFFIX)

    def take_deleted(self) -> list[str]:
        """Close what was deleted long enough ago; its directories, for `remove_directories`, and
        `removed` when that was done."""
        return self._leaving.take_due()

    def removed(self, paths: Sequence[str]) -> None:
        self._leaving.removed(paths)

    # -- checkpoints

    def write_checkpoints(
        self,
        high_watermarks: Mapping[TopicPartition, int],
        offload: Offload,
        done: Callable[[OSError | None], None],
    ) -> None:
        """Write all of them on a helper thread, as things stand now; then `done`, with the error
        if there was one."""
        self._checkpoints.write(high_watermarks, offload, done)

    def _offsets(self, high_watermarks: Mapping[TopicPartition, int]) -> Sequence[Offsets]:
        offsets = offsets_of(self.logs, self.futures, high_watermarks)
        for each, found in zip(offsets, self._checkpoints.found, strict=True):
            for log in (*self.unowned, *self.offline_logs, *self.pending):
                if log in found:
                    each[log] = found[log]
        return offsets

    # -- closing

    def close(
        self, high_watermarks: Mapping[TopicPartition, int] | None = None, *, is_clean: bool = True
    ) -> None:
        """Let go of everything. A clean stop makes all logs durable first and leaves its mark,
        which is the last thing that is written; none while a log is offline or not opened yet,
        which the next start would trust then. Call it when no flush is running."""
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
        flush_in_groups(self.disk, unsettled)
        self._checkpoints.write_now(high_watermarks)
        if self.offline_logs or self.pending:
            return
        mark = json.dumps({"version": 0, "brokerEpoch": -1}, separators=(",", ":"))
        replace_whole(self.disk, f"{self.path}/{CLEAN_SHUTDOWN}", mark.encode())

    def _let_go(self) -> None:
        for log in self.logs.values():
            log.close()
        self._leaving.close()
        self.logs.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

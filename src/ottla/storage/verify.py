"""A log directory, or one partition of it, looked at while no broker has it.

Of the directory itself: whose it is, the mark of a clean stop, the checkpoints and what stands in
them, the ids of the partitions of one topic, which must agree, and directories that are on their
way out. Each partition is a matter of `verify_log`. Nothing is written, and memory is bounded by
one batch, one file of lines and the producers of one partition.

What has no second source cannot be held to anything: a `directory.id`, or the topic id of a topic
of one partition, that was changed into another valid one.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition, Uuid, id_text
from ottla.base.world import Disk
from ottla.storage.checkpoints import directory_of, offsets_text, read_offsets, read_whole
from ottla.storage.directory_checkpoints import NEXT
from ottla.storage.findings import AT_START, HARMLESS, LOST, REBUILD, Finding, damage, note
from ottla.storage.identity import read_meta_properties, read_topic_id
from ottla.storage.names import (
    CLEAN_SHUTDOWN,
    CLEANER_OFFSETS,
    HIGH_WATERMARKS,
    KRAFT_TOPIC,
    LOG_STARTS,
    META_PROPERTIES,
    PARTITION_METADATA,
    RECOVERY_POINTS,
    SYNC_FAILED,
    TEMPORARY,
    leaving_state,
    parse_partition_directory,
)
from ottla.storage.verify_known import Known
from ottla.storage.verify_log import LogCheck, Tally

CHECKPOINTS: Final = (RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_OFFSETS)
Offsets = dict[TopicPartition, int]
Watch = Callable[[str], None]


class NotALogDirectoryError(Exception):
    """What was named is neither a log directory nor a partition's: one line that says why."""


@dataclass(slots=True)
class Found:
    """What a log directory says, as far as it can be read."""

    is_clean: bool = False
    offsets: dict[str, Offsets] = field(default_factory=dict)
    """By the name of the checkpoint."""
    unreadable: dict[str, None] = field(default_factory=dict)
    topic_ids: dict[str, dict[Uuid, list[str]]] = field(default_factory=dict)
    """By topic, then id: the directories that have it."""

    def known(self, topic_partition: TopicPartition) -> Known:
        points, starts, marks, cleaned = (self.offsets.get(name, {}) for name in CHECKPOINTS)
        return Known(
            self.is_clean,
            points.get(topic_partition),
            starts.get(topic_partition),
            marks.get(topic_partition),
            cleaned.get(topic_partition),
        )


def is_partition(disk: Disk, path: str) -> bool:
    """Whether a path is a partition's directory, and not a log directory; NotALogDirectoryError
    where it is neither."""
    if not disk.is_directory(path):
        raise NotALogDirectoryError(f"{path} is no directory")
    names = disk.list_directory(path)
    has_segments = any(name.endswith(".log") for name in names) or PARTITION_METADATA in names
    if has_segments and parse_partition_directory(path.rpartition("/")[2]) is not None:
        return True
    is_log_dir = META_PROPERTIES in names or any(name in names for name in CHECKPOINTS)
    if not is_log_dir and not any(parse_partition_directory(name) for name in names):
        raise NotALogDirectoryError(
            f"{path} is neither a log directory nor a partition's: it has no {META_PROPERTIES},"
            " no checkpoints and no partitions"
        )
    return False


def look_around(disk: Disk, log_dir: str) -> tuple[Found, list[Finding]]:
    """What the directory's own files say, and what is wrong with them."""
    found, findings = Found(), list[Finding]()
    names = disk.list_directory(log_dir)
    found.is_clean = CLEAN_SHUTDOWN in names and SYNC_FAILED not in names
    findings += _identity(disk, log_dir, names)
    findings += _marks(disk, log_dir, names)
    for name in CHECKPOINTS:
        findings += _checkpoint(disk, log_dir, name, found)
    for name in names:
        findings += _entry(disk, f"{log_dir}/{name}", name, found)
    findings += _disagreeing_ids(found)
    findings += _lines_of_nobody(log_dir, names, found)
    return found, findings


def verify(
    disk: Disk,
    path: str,
    tally: Tally,
    *,
    with_records: bool = True,
    watch: Watch = lambda path: None,
) -> Iterator[Finding]:
    """Everything that is wrong in a log directory or a partition's; `watch` is told of each
    partition before it is read."""
    if is_partition(disk, path):
        found, _ = look_around(disk, directory_of(path))
        directories = [path]
    else:
        found, findings = look_around(disk, path)
        yield from findings
        names = disk.list_directory(path)
        directories = [f"{path}/{name}" for name in names if parse_partition_directory(name)]
    for directory in directories:
        topic_partition = parse_partition_directory(directory.rpartition("/")[2])
        if topic_partition is None or not disk.is_directory(directory):
            continue
        if topic_partition.topic == KRAFT_TOPIC:
            yield note(directory, "Kafka's metadata, which is not looked into", HARMLESS)
            continue
        watch(directory)
        known = found.known(topic_partition)
        check = LogCheck(disk, directory, known, tally, with_records=with_records)
        yield from readable(check.findings(), directory)


def readable(findings: Iterator[Finding], directory: str) -> Iterator[Finding]:
    """A disk that does not let itself be read is a finding too, and the next partition is
    looked at."""
    try:
        yield from findings
    except OSError as error:
        path = str(error.filename or directory)
        yield damage(path, f"cannot be read: {error.strerror}", LOST)
    except CorruptionError as error:
        yield damage(
            error.path, error.cause, LOST, position=error.position, size_bytes=error.size_bytes
        )


def _identity(disk: Disk, log_dir: str, names: list[str]) -> Iterator[Finding]:
    path = f"{log_dir}/{META_PROPERTIES}"
    if META_PROPERTIES not in names:
        yield note(path, "is not there; a start makes it", AT_START)
        return
    try:
        meta = read_meta_properties(disk, log_dir)
    except CorruptionError as error:
        yield damage(path, error.cause, LOST, size_bytes=error.size_bytes)
        return
    if meta is None:
        return
    cluster_id, node_id = meta.identity
    text = read_whole(disk, path).decode()
    if (
        len(cluster_id) != 22
        or node_id < 0
        or f"directory.id={id_text(meta.directory_id)}"
        not in (line.strip() for line in text.splitlines())
    ):
        cause = f"cluster id {cluster_id[:40]!r}, node id {node_id}: not as it was written"
        yield damage(path, cause, LOST, size_bytes=len(text))


def _marks(disk: Disk, log_dir: str, names: list[str]) -> Iterator[Finding]:
    path = f"{log_dir}/{CLEAN_SHUTDOWN}"
    if SYNC_FAILED in names:
        cause = "a sync failed in the life before: the next start writes anew what it left"
        yield note(f"{log_dir}/{SYNC_FAILED}", cause, AT_START)
    if CLEAN_SHUTDOWN not in names:
        yield note(path, "is not there: the broker was not stopped cleanly", AT_START)
        return
    data = read_whole(disk, path)
    try:
        mark = json.loads(data) if data else {"version": 0}
        is_sound = isinstance(mark, dict) and mark.get("version") == 0
    except ValueError:
        is_sound = False
    if not is_sound:
        yield note(path, "is not as it was written; that it is there is enough", HARMLESS)


def _checkpoint(disk: Disk, log_dir: str, name: str, found: Found) -> Iterator[Finding]:
    path = f"{log_dir}/{name}"
    try:
        offsets = read_offsets(disk, path)
    except CorruptionError as error:
        found.unreadable[name] = None
        yield damage(path, error.cause, REBUILD, size_bytes=error.size_bytes)
        return
    found.offsets[name] = offsets
    if offsets:
        data = read_whole(disk, path)
        if sorted(data.splitlines()) != sorted(offsets_text(offsets).splitlines()):
            yield damage(path, "not as it was written", REBUILD, size_bytes=len(data))


def _entry(disk: Disk, path: str, name: str, found: Found) -> Iterator[Finding]:
    if not disk.is_directory(path):
        if name.endswith((TEMPORARY, NEXT)):
            yield note(path, f"left over, {disk.size(path)} bytes", HARMLESS)
        return
    state = leaving_state(name)
    if state is not None:
        size = sum(disk.size(f"{path}/{each}") for each in disk.list_directory(path))
        what = {"delete": AT_START, "future": AT_START, "stray": HARMLESS}[state]
        yield note(path, f"left over ({state}), {size} bytes", what)
        return
    topic_partition = parse_partition_directory(name)
    if topic_partition is None:
        yield note(path, "no directory of a partition", HARMLESS)
        return
    try:
        topic_id = read_topic_id(disk, path)
    except CorruptionError:
        return  # the partition's own look tells
    if topic_id is not None:
        ids = found.topic_ids.setdefault(topic_partition.topic, {})
        ids.setdefault(topic_id, []).append(path)


def _disagreeing_ids(found: Found) -> Iterator[Finding]:
    for topic, ids in found.topic_ids.items():
        most = max(len(paths) for paths in ids.values())
        common = [topic_id for topic_id, paths in ids.items() if len(paths) == most]
        for topic_id, paths in ids.items():
            if len(ids) > 1 and (len(common) > 1 or topic_id not in common):
                cause = f"topic id {id_text(topic_id)}: other partitions of {topic} have another"
                remedy = LOST if len(common) > 1 else REBUILD
                for path in paths:
                    yield damage(f"{path}/{PARTITION_METADATA}", cause, remedy)


def _lines_of_nobody(log_dir: str, names: list[str], found: Found) -> Iterator[Finding]:
    for name, offsets in found.offsets.items():
        for each in offsets:
            if str(each) not in names:
                cause = f"a line of {each}, which is not there"
                yield note(f"{log_dir}/{name}", cause, HARMLESS)
    points = found.offsets.get(RECOVERY_POINTS)
    if points is None or not found.is_clean:
        return
    for topic_partition in filter(None, map(parse_partition_directory, names)):
        if topic_partition not in points and topic_partition.topic != KRAFT_TOPIC:
            yield note(f"{log_dir}/{RECOVERY_POINTS}", f"no line of {topic_partition}", REBUILD)

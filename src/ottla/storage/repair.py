"""What was found damaged in a log directory and can be built anew, built anew.

Each partition is checked as `verify` does, and what it found decides:

    indexes, snapshots, epochs    anew from the batches, where those are sound
    partition.metadata            from the other partitions of its topic, where they agree
    checkpoints                   anew, where a file cannot be read or a line does not fit its log
    a torn tail                   stays, for the next start cuts it; cut with `truncate_torn_tail`
    a log that ends too early     stays offline; with `accept_log_end` its lines are made to fit

A `.log` is never written to. It is cut by `truncate_torn_tail` alone, and only where an unclean
stop left, past the recovery point, what is no sound batch. Of two files that contradict each other
in where a log starts, the lower start is taken: what had been deleted may come back, nothing goes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.ids import TopicPartition, id_text
from ottla.base.world import Disk
from ottla.storage.checkpoints import directory_of, offsets_text, replace_whole
from ottla.storage.findings import ACCEPT, REBUILD, Finding
from ottla.storage.identity import topic_id_text
from ottla.storage.leader_epochs import read_leader_epochs
from ottla.storage.names import (
    HIGH_WATERMARKS,
    KRAFT_TOPIC,
    LEADER_EPOCHS,
    LOG,
    LOG_STARTS,
    OFFSET_INDEX,
    PARTITION_METADATA,
    RECOVERY_POINTS,
    SNAPSHOT,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
    parse_file,
    parse_partition_directory,
)
from ottla.storage.rebuild import (
    rebuild_epochs,
    rebuild_indexes,
    rebuild_snapshot,
    rebuild_transactions,
)
from ottla.storage.segment_files import KINDS
from ottla.storage.verify import CHECKPOINTS, Found, is_partition, look_around, readable
from ottla.storage.verify_log import LogCheck, Tally


@dataclass(frozen=True, slots=True)
class RepairOptions:
    is_dry: bool = False
    truncate_torn_tail: bool = False
    accept_log_end: bool = False


class Deed(NamedTuple):
    path: str
    what: str
    is_left: bool = False
    """Damage that stays."""


def repair(disk: Disk, path: str, options: RepairOptions, tally: Tally) -> Iterator[Deed]:
    """Mend a log directory, or one partition of it; what is done, and what is left, as it goes.
    The caller holds the directory's lock."""
    is_single = is_partition(disk, path)
    log_dir = directory_of(path) if is_single else path
    found, findings = look_around(disk, log_dir)
    for each in () if is_single else findings:
        if not each.is_note and each.remedy != REBUILD:
            yield _left(each)
    directories = [path] if is_single else _partitions(disk, path)
    lines = _Lines(found)
    for directory in directories:
        log = _LogRepair(disk, directory, found, options, lines, tally)
        yield from log.run()
    if not is_single or not found.unreadable:
        yield from lines.write(disk, log_dir, options)


def _partitions(disk: Disk, log_dir: str) -> list[str]:
    parsed = {name: parse_partition_directory(name) for name in disk.list_directory(log_dir)}
    return [
        f"{log_dir}/{name}"
        for name, each in parsed.items()
        if each is not None and each.topic != KRAFT_TOPIC and disk.is_directory(f"{log_dir}/{name}")
    ]


def _left(finding: Finding) -> Deed:
    return Deed(finding.path, f"left: {finding.cause} ({finding.remedy})", is_left=True)


class _Lines:
    """The checkpoints as they shall be."""

    def __init__(self, found: Found) -> None:
        self.offsets = {name: dict(found.offsets.get(name, {})) for name in CHECKPOINTS}
        self.changed: dict[str, list[str]] = {name: [] for name in CHECKPOINTS}
        for name in found.unreadable:
            self.changed[name].append("could not be read")

    def set(self, name: str, whose: TopicPartition, offset: int | None) -> None:
        offsets = self.offsets[name]
        if offsets.get(whose) == offset:
            return
        if offset is None:
            del offsets[whose]
        else:
            offsets[whose] = offset
        self.changed[name].append(f"{whose}: {'no line' if offset is None else offset}")

    def write(self, disk: Disk, log_dir: str, options: RepairOptions) -> Iterator[Deed]:
        for name, changes in self.changed.items():
            if changes:
                path = f"{log_dir}/{name}"
                if not options.is_dry:
                    replace_whole(disk, path, offsets_text(self.offsets[name]))
                yield Deed(path, f"rebuilt: {', '.join(changes)}")


class _LogRepair:
    def __init__(
        self,
        disk: Disk,
        directory: str,
        found: Found,
        options: RepairOptions,
        lines: _Lines,
        tally: Tally,
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.found = found
        self.options = options
        self.lines = lines
        self.name = parse_partition_directory(directory.rpartition("/")[2])
        assert self.name is not None
        self.known = found.known(self.name)
        self.check = LogCheck(disk, directory, self.known, tally, with_records=False)
        self.rebuilds: dict[str, None] = {}
        self.are_epochs_wrong = False
        self.is_end_accepted = False

    def run(self) -> Iterator[Deed]:
        for each in readable(self.check.findings(), self.directory):
            yield from self._judge(each)
        try:
            yield from self._cut()
            for path in self.rebuilds:
                yield from self._rebuild(path)
            yield from self._epochs()
        except (CorruptionError, OSError) as error:
            yield Deed(self.directory, f"left: not all could be rebuilt: {error}", is_left=True)
        self._fit_lines()

    def _judge(self, each: Finding) -> Iterator[Deed]:
        """Take note of what can be done; what cannot is told."""
        if each.remedy == REBUILD:
            name = each.path.rpartition("/")[2]
            file = parse_file(name)
            if name == LEADER_EPOCHS or (file is not None and file.kind == LOG):
                self.are_epochs_wrong = True
            elif (file is not None or name == PARTITION_METADATA) and not each.is_note:
                self.rebuilds[each.path] = None
        elif ACCEPT in each.remedy and self.options.accept_log_end:
            self.is_end_accepted = True
        elif not each.is_note:
            yield _left(each)

    @property
    def bases(self) -> list[int]:
        files = map(parse_file, self.disk.list_directory(self.directory))
        return [each.offset for each in files if each and each.kind == LOG and not each.state]

    def _rebuild(self, path: str) -> Iterator[Deed]:
        name = path.rpartition("/")[2]
        file = parse_file(name)
        if file is None:
            yield from self._metadata(path)
            return
        if not self.disk.exists(path) and file.kind != TRANSACTION_INDEX:
            return
        what = "rebuilt"
        if self.options.is_dry:
            pass
        elif file.kind in (OFFSET_INDEX, TIME_INDEX):
            rebuild_indexes(self.disk, self.directory, file.offset)
        elif file.kind == TRANSACTION_INDEX:
            count = rebuild_transactions(self.disk, self.directory, self.bases, file.offset)
            what = f"rebuilt: {count} aborted transactions"
        elif file.kind == SNAPSHOT and file.offset > self.check.end_offset:
            self.disk.remove(path)
            what = "removed: it is of offsets that are not there"
        elif file.kind == SNAPSHOT:
            count = rebuild_snapshot(self.disk, self.directory, self.bases, file.offset)
            what = f"rebuilt: {count} producers"
        yield Deed(path, what)

    def _metadata(self, path: str) -> Iterator[Deed]:
        topic = self.name.topic if self.name else ""
        ids = self.found.topic_ids.get(topic, {})
        others = {
            topic_id: len([each for each in paths if each != self.directory])
            for topic_id, paths in ids.items()
        }
        others = {topic_id: count for topic_id, count in others.items() if count}
        if len(others) != 1:
            cause = "no other partition of the topic tells its id"
            yield Deed(path, f"left: {cause}", is_left=True)
            return
        (topic_id,) = others
        if not self.options.is_dry:
            replace_whole(self.disk, path, topic_id_text(topic_id))
        yield Deed(path, f"rebuilt: topic id {id_text(topic_id)}, of the topic's others")

    def _epochs(self) -> Iterator[Deed]:
        if not self.are_epochs_wrong:
            return
        path = f"{self.directory}/{LEADER_EPOCHS}"
        what = "rebuilt"
        if not self.options.is_dry:
            count = rebuild_epochs(self.disk, self.directory, self.bases, self._log_start())
            what = f"rebuilt: {count} epochs"
        yield Deed(path, what)

    def _cut(self) -> Iterator[Deed]:
        """Cut the tail that no flush covered, and remove the segments behind it."""
        end = self.check.torn_at
        if end is None or not self.options.truncate_torn_tail:
            return
        path, position, offset = end
        for base in self.bases:
            if file_name(base, LOG) > path.rpartition("/")[2]:
                for kind in KINDS:
                    later = f"{self.directory}/{file_name(base, kind)}"
                    if self.disk.exists(later):
                        if not self.options.is_dry:
                            self.disk.remove(later)
                        yield Deed(later, "removed: it stands behind the torn tail")
        size = self.disk.size(path)
        if not self.options.is_dry:
            file = self.disk.open(path)
            try:
                file.truncate(position)
                file.sync()
            finally:
                file.close()
            self.disk.sync_directory(self.directory)
        yield Deed(path, f"cut: {size - position} bytes from position {position}, offset {offset}")

    def _log_start(self) -> int:
        """Where the log starts, by whatever tells it best."""
        start, first, end = (
            self.known.log_start_offset,
            self.check.first_base,
            self.check.end_offset,
        )
        try:
            epochs = read_leader_epochs(self.disk, f"{self.directory}/{LEADER_EPOCHS}")
        except CorruptionError:
            epochs = None
        told = [start] if start is not None else []
        if epochs is not None and epochs.entries:
            told.append(epochs.entries[0].start_offset)
        if LOG_STARTS not in self.found.unreadable and start is None:
            told.append(first)
        return max(min((each for each in told if 0 <= each <= end), default=first), first)

    def _fit_lines(self) -> None:
        whose, end = self.name, self.check.end_offset
        if whose is None or self.check.is_torn or not self.check.is_whole:
            return
        point = self.known.recovery_point
        is_lost = point is not None and point > end
        if (self.found.is_clean and not is_lost) or self.is_end_accepted:
            self._sync_last()
            self.lines.set(RECOVERY_POINTS, whose, end)
        mark = self.known.high_watermark
        if mark is not None and (mark < 0 or mark > end):
            self.lines.set(HIGH_WATERMARKS, whose, end)
        start = self.known.log_start_offset
        wanted = self._log_start()
        is_lost_line = start is None and LOG_STARTS in self.found.unreadable
        if start not in (None, wanted) or (is_lost_line and wanted > self.check.first_base):
            self.lines.set(LOG_STARTS, whose, wanted)

    def _sync_last(self) -> None:
        """What a recovery point says of a log must be so."""
        if self.options.is_dry or not self.bases:
            return
        path = f"{self.directory}/{file_name(self.bases[-1], LOG)}"
        file = self.disk.open(path, read_only=True)
        try:
            file.sync()
        finally:
            file.close()

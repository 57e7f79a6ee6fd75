"""What the checkpoints of a log directory say of one partition, held to what its log is."""

from collections.abc import Iterator
from dataclasses import dataclass

from ottla.base.world import Disk
from ottla.storage.checkpoints import directory_of
from ottla.storage.findings import ACCEPT, AT_START, HARMLESS, LOST, REBUILD, Finding, damage, note
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.names import HIGH_WATERMARKS, LEADER_EPOCHS, LOG_STARTS, RECOVERY_POINTS


@dataclass(frozen=True, slots=True)
class Known:
    """What the log directory says of a partition; None where it says nothing."""

    is_clean: bool = False
    recovery_point: int | None = None
    log_start_offset: int | None = None
    high_watermark: int | None = None
    cleaned_end: int | None = None
    """Up to which compaction has been: below it offsets may be missing."""

    def findings(self, directory: str, end: int, *, is_torn: bool) -> Iterator[Finding]:
        """What does not fit a log that ends at `end`; `is_torn`: with
        a tail behind that."""
        log_dir, whose = directory_of(directory), directory.rpartition("/")[2]
        point = self.recovery_point
        path = f"{log_dir}/{RECOVERY_POINTS}"
        if point is not None and point > end and not is_torn:
            cause = f"{whose}: offset {point} was flushed, the log ends at {end}"
            yield damage(path, cause, f"{LOST}, or {ACCEPT}")
        elif point is not None and point < end and self.is_clean:
            yield note(path, f"{whose}: recovery point {point}, the log ends at {end}", REBUILD)
        mark = self.high_watermark
        path = f"{log_dir}/{HIGH_WATERMARKS}"
        if mark is not None and (mark > end or mark < 0):
            yield note(path, f"{whose}: high watermark {mark}, the log ends at {end}", REBUILD)
        elif mark is not None and mark < end and self.is_clean:
            yield note(path, f"{whose}: high watermark {mark}, the log ends at {end}", HARMLESS)
        start = self.log_start_offset
        path = f"{log_dir}/{LOG_STARTS}"
        if start is not None and (start > end or start < 0):
            yield damage(path, f"{whose}: log start {start}, the log ends at {end}", REBUILD)

    def epoch_findings(
        self, disk: Disk, directory: str, epochs: LeaderEpochs, first_base: int, end: int
    ) -> Iterator[Finding]:
        """The book of epochs begins where the log does, and ends before it."""
        log_dir, whose = directory_of(directory), directory.rpartition("/")[2]
        start = max(self.log_start_offset or 0, first_base)
        if not epochs.entries or start > end:
            return
        first, last = epochs.entries[0].start_offset, epochs.entries[-1].start_offset
        path = f"{log_dir}/{LOG_STARTS}"
        cause = f"{whose}: the log starts at {start}, its epochs at {first}"
        if first != start and self.is_clean:
            yield damage(path, cause, REBUILD)
        elif first > start:
            yield note(path, cause, AT_START)
        if last >= end and self.is_clean:
            path = f"{directory}/{LEADER_EPOCHS}"
            cause = f"an epoch starts at {last}, the log ends at {end}"
            yield damage(path, cause, REBUILD, size_bytes=disk.size(path))

"""Logs of a directory whose own directory has been renamed: deleted ones, and strays.

Deleting renames the partition's directory, so that its name is free at once. Its files go when
`file.delete.delay.ms` is over and no flush is using them; those of a stray stay.
"""

from typing import NamedTuple

from ottla.base.world import Clock, Disk
from ottla.storage.log import Log


class Leaving(NamedTuple):
    due_ms: int
    log: Log | None
    remove_path: str
    """Empty: the files stay."""

    def is_due(self, now_ms: int) -> bool:
        is_flushing = self.log is not None and self.log.is_flushing
        return now_ms >= self.due_ms and not is_flushing


class LeavingLogs:
    def __init__(self, disk: Disk, directory: str, clock: Clock) -> None:
        self.disk = disk
        self.directory = directory
        self.clock = clock
        self._logs: list[Leaving] = []

    def add(self, log: Log | None, path: str, *, is_removed: bool) -> None:
        """The log's directory is `path` now."""
        delay_ms = 0
        if log is not None:
            log.move(path)
            delay_ms = log.config.file_delete_delay_ms
        due_ms = self.clock.time_ms() + delay_ms
        self._logs.append(Leaving(due_ms, log, path if is_removed else ""))

    def remove_due(self) -> None:
        """Close and remove what was deleted long enough ago. What an error leaves is tried
        again the next time."""
        now_ms = self.clock.time_ms()
        going = [each for each in self._logs if each.is_due(now_ms)]
        if not going:
            return
        # Their new names first: else a power cut might bring one back under the old one, half
        # empty, as a log that lost what was flushed.
        self.disk.sync_directory(self.directory)
        for leaving in going:
            if leaving.log is not None:
                leaving.log.close()
            if leaving.remove_path and self.disk.is_directory(leaving.remove_path):
                self.disk.remove_directory(leaving.remove_path)
            self._logs.remove(leaving)

    def close(self) -> None:
        for leaving in self._logs:
            if leaving.log is not None:
                leaving.log.close()
        self._logs.clear()

"""Logs of a directory whose own directory has been renamed: deleted ones, and strays.

Deleting renames the partition's directory, so that its name is free at once. Its files go when
`file.delete.delay.ms` is over and no flush is using them, on any thread (`removal`);
those of a stray stay.
"""

from collections.abc import Sequence
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
        self._due: list[str] = []

    def add(self, log: Log | None, path: str, *, is_removed: bool) -> None:
        """The log's directory is `path` now."""
        delay_ms = 0
        if log is not None:
            log.move(path)
            delay_ms = log.config.file_delete_delay_ms
        due_ms = self.clock.time_ms() + delay_ms
        self._logs.append(Leaving(due_ms, log, path if is_removed else ""))

    def take_due(self) -> list[str]:
        """Close what was deleted long enough ago; the directories that are to be removed."""
        now_ms = self.clock.time_ms()
        for leaving in [each for each in self._logs if each.is_due(now_ms)]:
            if leaving.log is not None:
                leaving.log.close()
            if leaving.remove_path:
                self._due.append(leaving.remove_path)
            self._logs.remove(leaving)
        return self._due[:]

    def removed(self, paths: Sequence[str]) -> None:
        """These are gone; those of which that is not told are taken again the next time."""
        self._due = [each for each in self._due if each not in paths]

    def close(self) -> None:
        for leaving in self._logs:
            if leaving.log is not None:
                leaving.log.close()
        self._logs.clear()

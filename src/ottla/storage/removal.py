"""Removing the files of what was deleted: on any thread, since the file system takes its time for
a large one. All that it knows is paths, and what is gone already is passed over."""

from collections.abc import Sequence
from contextlib import suppress

from ottla.base.world import Disk


def remove_files(disk: Disk, paths: Sequence[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            disk.remove(path)


def remove_directories(disk: Disk, above: str, paths: Sequence[str]) -> None:
    """Of deleted logs, in the log directory `above`."""
    if paths:
        # Their new names first: else a power cut might bring one back under the old one, half
        # empty, as a log that lost what was flushed.
        disk.sync_directory(above)
    for path in paths:
        if disk.is_directory(path):
            disk.remove_directory(path)

"""The files of one segment, by the last names that tell how far in or out they are.

    compaction writes      .cleaned   -> .swap   -> none      the indexes first, the `.log` last,
                                                              for a start goes by its name
    retention, truncation  none       -> .deleted             removed when their moment has come

Names change one by one, and a power cut may keep some: whoever changes them syncs the directory
between the steps that must not be mixed up (`Replacement`). What is open stays open.
"""

from typing import Final

from ottla.storage.index_file import IndexFile
from ottla.storage.names import LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX, file_name
from ottla.storage.removal import remove_files
from ottla.storage.segment import Segment
from ottla.storage.transaction_index import TransactionIndex

KINDS: Final = (LOG, OFFSET_INDEX, TIME_INDEX, TRANSACTION_INDEX)
"""Files of a segment. A .snapshot of the same number tells of what lies before it."""


def paths(segment: Segment, state: str) -> list[str]:
    """Of its files of that last name, there or not."""
    return [segment.stem + kind + state for kind in KINDS]


def remove(segment: Segment) -> None:
    """Those without a last name."""
    remove_files(segment.disk, paths(segment, ""))


def rename(segment: Segment, state: str) -> None:
    """Those without a last name get one; the ones that are not there are passed over."""
    for path in paths(segment, ""):
        if segment.disk.exists(path):
            segment.disk.rename(path, path + state)


def rename_indexes(segment: Segment, state: str) -> None:
    """Their last name is `state` from now on. Repeated where it failed, it goes on."""
    for index, kind in _indexes(segment):
        path = segment.stem + kind + state
        if index.path != path and segment.disk.exists(index.path):
            segment.disk.rename(index.path, path)
        index.path = path


def rename_log(segment: Segment, state: str) -> None:
    """The last name of its `.log` is `state` from now on."""
    segment.disk.rename(segment.path, segment.stem + LOG + state)
    segment.state = state


def move(segment: Segment, directory: str) -> None:
    """They stand in another directory now."""
    before = len(segment.stem)
    segment.stem = f"{directory}/{file_name(segment.base_offset, '')}"
    for index, _ in _indexes(segment):
        index.path = segment.stem + index.path[before:]


def _indexes(segment: Segment) -> list[tuple[IndexFile | TransactionIndex, str]]:
    return [
        (segment.transaction_index, TRANSACTION_INDEX),
        (segment.index, OFFSET_INDEX),
        (segment.time_index, TIME_INDEX),
    ]

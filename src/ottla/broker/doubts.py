"""Ranges of a Fetch response that may not leave as they are.

A range that is not in the page cache would stall the reactor in sendfile; one that an earlier life
wrote and nobody has read since may not be what was written. Both are read on a helper thread first.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from ottla.base.errors import CorruptionError, ErrorCode
from ottla.base.world import FileRange
from ottla.protocol.messages.fetch import PartitionData
from ottla.replica.partition import Partition
from ottla.storage.sound import RangeCheck
from ottla.storage.unread import check_of, note_checked

log = logging.getLogger(__name__)


class Doubt(NamedTuple):
    """A range in a response that is not in the page cache, or that nobody has read since an
    earlier life wrote it."""

    partition: Partition
    data: PartitionData
    range: FileRange
    unread: RangeCheck | None
    generation: int
    """Of the log: another segment may stand under the name of the one that was to be read."""

    def refuse(self) -> None:
        """It could not be read now, and is not sent unread."""
        self.data.error_code, self.data.records = ErrorCode.KAFKA_STORAGE_ERROR, b""

    def settle(self, fault: CorruptionError | None) -> None:
        """Take note that it is sound, or take it out of the response. Where the log's segments
        changed meanwhile, what was checked may not be what would be sent: the client asks again."""
        its_log, data = self.partition.log, self.data
        if self.generation != its_log.generation:
            if self.unread is not None:
                data.records = b""
        elif fault is not None:
            name = its_log.topic_partition
            log.error("Fetch of %s is answered with CORRUPT_MESSAGE: %s", name, fault)
            data.error_code, data.records = ErrorCode.CORRUPT_MESSAGE, b""
        elif self.unread is not None:
            note_checked(its_log, self.unread)


def doubts_of(ranges: Iterable[tuple[Partition, PartitionData]]) -> list[Doubt]:
    """What is to be read on a helper thread before it is sent."""
    doubts = []
    for partition, data in ranges:
        if isinstance(data.records, FileRange):
            unread = check_of(partition.log, data.records)
            if unread is not None or not _is_resident(data.records):
                generation = partition.log.generation
                doubts.append(Doubt(partition, data, data.records, unread, generation))
    return doubts


def _is_resident(part: FileRange) -> bool:
    try:
        return part.file.is_resident(part.position, part.length)
    except OSError:  # reading ahead meets it again
        return False


def reading(doubts: Iterable[Doubt]) -> Callable[[], list[CorruptionError | None]]:
    """For a helper thread: bring what is cold into the page cache, and check what was not read
    since it was written. Gives what is wrong with each; an OSError names the file."""
    return partial(_read_ahead, [(each.range, each.unread) for each in doubts])


def _read_ahead(
    ranges: list[tuple[FileRange, RangeCheck | None]],
) -> list[CorruptionError | None]:
    faults: list[CorruptionError | None] = []
    for (file, position, length), unread in ranges:
        fault = None
        if unread is None:
            file.read_ahead(position, length)
        else:
            try:
                unread.run()
            except CorruptionError as error:
                fault = error
        faults.append(fault)
    return faults

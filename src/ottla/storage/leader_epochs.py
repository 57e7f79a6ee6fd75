"""Which leader epoch wrote from which offset on: the book by which replicas find where they part.

    leader-epoch-checkpoint
    0                                   version
    2                                   count of the lines that follow
    0 0                                 epoch, first offset written under it
    5 4711

Both columns ascend. The book lives in memory; the flush round that makes the batches of an
epoch durable replaces the file in the same round, before anything of it is acknowledged. So a
file that a crash left behind is at most as old as the last flush, and recovery adds what the
headers past it say.
"""

from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from ottla.base.errors import CorruptionError
from ottla.base.world import Disk
from ottla.storage.checkpoints import lines_text, parse_lines, read_whole


class EpochStart(NamedTuple):
    epoch: int
    start_offset: int


class LeaderEpochs:
    __slots__ = ("entries", "is_dirty")

    def __init__(self) -> None:
        self.entries: list[EpochStart] = []
        self.is_dirty = False
        """Whether the file does not hold what is here."""

    def copy(self) -> "LeaderEpochs":
        """As it is now, for a helper thread."""
        other = LeaderEpochs()
        other.entries = self.entries[:]
        return other

    @property
    def latest(self) -> int:
        return self.entries[-1].epoch if self.entries else -1

    def assign(self, epoch: int, offset: int) -> None:
        """Batches from `offset` on are of `epoch`. An older epoch changes nothing."""
        entries = self.entries
        if epoch < 0 or (entries and epoch <= entries[-1].epoch):
            return
        # An epoch that wrote nothing gives way to the one that starts where it did.
        while entries and entries[-1].start_offset >= offset:
            entries.pop()
        entries.append(EpochStart(epoch, offset))
        self.is_dirty = True

    def epoch_of(self, offset: int) -> int:
        """The epoch under which `offset` was or will be written; -1 where none is known."""
        slot = bisect_right(self.entries, offset, key=lambda entry: entry.start_offset)
        return self.entries[slot - 1].epoch if slot else -1

    def end_of(self, epoch: int, log_end_offset: int) -> EpochStart:
        """(epoch, end offset): the largest epoch here that is at most `epoch`, and where the
        next one starts; (-1, -1) where that is not known. KIP-101, KIP-279."""
        entries = self.entries
        if epoch >= 0 and entries and epoch == entries[-1].epoch:
            return EpochStart(epoch, log_end_offset)
        slot = bisect_right(entries, epoch, key=lambda entry: entry.epoch)
        if epoch < 0 or slot == len(entries):
            return EpochStart(-1, -1)
        end_offset = entries[slot].start_offset
        return EpochStart(entries[slot - 1].epoch if slot else epoch, end_offset)

    def truncate_end(self, end_offset: int) -> None:
        """Forget the epochs that start at or past `end_offset`."""
        while self.entries and self.entries[-1].start_offset >= end_offset:
            self.entries.pop()
            self.is_dirty = True

    def truncate_start(self, start_offset: int) -> None:
        """Forget what ended before `start_offset`; the epoch that holds it starts there."""
        entries = self.entries
        slot = bisect_right(entries, start_offset, key=lambda entry: entry.start_offset)
        if slot and entries[0].start_offset < start_offset:
            self.entries = [EpochStart(entries[slot - 1].epoch, start_offset), *entries[slot:]]
            self.is_dirty = True

    def text(self) -> bytes:
        return lines_text([f"{epoch} {offset}" for epoch, offset in self.entries])


def _parse(words: list[str]) -> EpochStart:
    epoch, offset = words
    return EpochStart(int(epoch), int(offset))


def read_leader_epochs(disk: Disk, path: str) -> LeaderEpochs | None:
    """The book in a file; None where it is missing, CorruptionError where it is not one."""
    try:
        data = read_whole(disk, path)
    except FileNotFoundError:
        return None
    entries = parse_lines(data, path, _parse)
    for before, after in pairwise(entries):
        if not (before.epoch < after.epoch and before.start_offset < after.start_offset):
            raise CorruptionError("epochs do not ascend", path=path, size_bytes=len(data))
    epochs = LeaderEpochs()
    epochs.entries = entries
    return epochs

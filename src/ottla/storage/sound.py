"""Batches of a `.log`, believed only where bytes, CRC and place are right.

A CRC covers what a producer sent. Base offset, length and leader epoch stand before it: those are
held to the neighbours. Offsets ascend and stay below the next segment's, epochs do not descend.
Whatever is not so is a CorruptionError with path, position and bytes.

`RangeCheck` is for what a start after a clean stop did not read: it is done once, before a range is
first sent, on a helper thread. It begins some batches before the range and looks one header past
it, so that a base offset that a bit carried up or down runs into a neighbour's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from crc32c import crc32c

from ottla.base.errors import CorruptionError
from ottla.base.ids import NO_LEADER_EPOCH
from ottla.base.world import Disk, File
from ottla.records.batch import (
    CRC_START,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    MAGIC,
    BatchHeader,
    read_header,
)
from ottla.storage.leader_epochs import LeaderEpochs

SCAN_BYTES: Final = 1 << 20
OFFSET_MAX: Final = (1 << 63) - 1


@dataclass(slots=True)
class Due:
    """What the next batch has to be like."""

    offset: int
    """At least."""
    end_offset: int = OFFSET_MAX
    """Its last is below."""
    epoch: int = NO_LEADER_EPOCH
    """At least, where it has one."""

    def fault(self, header: BatchHeader) -> str:
        """What is wrong with the place of a batch; empty where nothing is."""
        if header.base_offset < self.offset or header.last_offset_delta < 0:
            return f"offset {header.base_offset} where {self.offset} was due"
        if header.last_offset >= self.end_offset:
            return f"last offset {header.last_offset} where {self.end_offset} is the limit"
        epoch = header.partition_leader_epoch
        if epoch < self.epoch and epoch != NO_LEADER_EPOCH:
            return f"leader epoch {epoch} behind {self.epoch}"
        return ""

    def follow(self, header: BatchHeader) -> None:
        self.offset = header.last_offset + 1
        if header.partition_leader_epoch != NO_LEADER_EPOCH:
            self.epoch = header.partition_leader_epoch


def sound_batches(file: File, start: int, end: int, due: Due) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of all batches between two positions, which hold whole ones."""
    position = start
    chunk, chunk_at = memoryview(b""), start
    while position < end:
        at = position - chunk_at
        if len(chunk) - at < HEADER_BYTES:
            chunk, chunk_at, at = _read(file, position, SCAN_BYTES), position, 0
        cause = "torn header"
        if len(chunk) - at >= HEADER_BYTES:
            header = read_header(chunk, at)
            length = header.batch_length + LENGTH_OVERHEAD
            if HEADER_BYTES <= length <= end - position and len(chunk) - at < length:
                chunk, chunk_at, at = _read(file, position, max(length, SCAN_BYTES)), position, 0
            cause = _fault(header, chunk[at : at + max(length, 0)]) or due.fault(header)
        if cause:
            raise CorruptionError(
                cause, path=file.path, position=position, size_bytes=end - position
            )
        yield position, header
        position += length
        due.follow(header)


def _read(file: File, position: int, length: int) -> memoryview:
    return memoryview(file.pread(length, position))


def _fault(header: BatchHeader, batch: memoryview) -> str:
    length = header.batch_length + LENGTH_OVERHEAD
    if length < HEADER_BYTES or len(batch) < length:
        return "torn batch"
    if header.magic != MAGIC:
        return f"magic {header.magic}"
    if header.crc != crc32c(batch[CRC_START:]):
        return "CRC"
    return ""


@dataclass(frozen=True, slots=True)
class RangeCheck:
    """What a helper thread needs to check a range: nothing that anybody changes."""

    disk: Disk
    path: str
    lead: int
    """Position of a batch at or before the range."""
    position: int
    length: int
    size_bytes: int
    """Of the segment."""
    base_offset: int
    end_offset: int
    epochs: LeaderEpochs

    def run(self) -> None:
        """CorruptionError where the range is not what was written; OSError as the disk has it.
        A file that was deleted meanwhile is nobody's concern."""
        try:
            file = self.disk.open(self.path, read_only=True)
        except FileNotFoundError:
            return
        try:
            self._check(file)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error
        finally:
            file.close()

    def _check(self, file: File) -> None:
        due = Due(self.base_offset, self.end_offset)
        position = self.lead
        while position < self.position:
            position += self._place(file, position, due).size_bytes
        if position != self.position:
            self._fail("no batch starts there", self.position)
        end = self.position + self.length
        for at, header in sound_batches(file, self.position, end, due):
            told = self.epochs.epoch_of(header.base_offset)
            if told not in (-1, header.partition_leader_epoch):
                epoch = header.partition_leader_epoch
                self._fail(f"leader epoch {epoch} where {told} is known", at)
        if end < self.size_bytes:
            self._place(file, end, due)

    def _place(self, file: File, position: int, due: Due) -> BatchHeader:
        """The header of a batch of which the place alone matters."""
        data = file.pread(HEADER_BYTES, position)
        if len(data) < HEADER_BYTES:
            self._fail("torn header", position)
        header = read_header(data)
        behind = position + header.size_bytes
        if header.magic != MAGIC or not position + HEADER_BYTES <= behind <= self.size_bytes:
            self._fail("no batch header", position)
        cause = due.fault(header)
        if cause:
            self._fail(cause, position)
        due.follow(header)
        return header

    def _fail(self, cause: str, position: int) -> NoReturn:
        size = self.position + self.length - position
        raise CorruptionError(cause, path=self.path, position=position, size_bytes=max(size, 0))

"""A partition on its way to another log directory of this node: a copy that becomes the log.

    <destination>/<topic>-<partition>.<32 hex>-future/     while it is being filled
    <destination>/<topic>-<partition>/                     when it has taken over

The copy has the segments of the source, byte for byte, each batch held against its CRC. `plan` is
taken on the node's thread; `advance` copies a bounded piece on a helper; `take_over`, when little
is left, copies that little on the node's thread and gives the copy what the source knows besides
its bytes (epochs, producers, the log start), and its name. From then on it is appended to, and the
source is not; the source stays until the copy is flushed as a whole, names too.

A crash. A `-future` directory is removed at the next start, and the move begun anew. Between the
taking over and the end of that flush both directories hold the partition: the longer log is the
one that counts, for nothing beyond the source's end is acknowledged before the flush, and nothing
at all is appended to the source. (`ReplicaManager` chooses; the other becomes a stray.)

The source must stay as it is but for appends (`Log.is_held`). Should it be compacted or cut all the
same, the copy does not fit any more, and is begun anew.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import TopicPartition, Uuid
from ottla.base.world import Disk
from ottla.records.batch import HEADER_BYTES, batch_crc, iterate_headers, read_header
from ottla.storage.checkpoints import read_whole, write_whole
from ottla.storage.identity import topic_id_text
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.names import (
    FUTURE_SUFFIX,
    LOG,
    TRANSACTION_INDEX,
    leaving_directory,
    partition_directory,
)
from ottla.storage.segment import Segment

CHUNK_BYTES: Final = 1 << 20


class Piece(NamedTuple):
    """What there is to copy of one segment of the source."""

    base_offset: int
    stem: str
    size_bytes: int
    is_last: bool


class FutureLog:
    def __init__(self, home: LogDir, source: Log) -> None:
        """Makes its directory. KafkaError where the log's own is taken; OSError."""
        self.home = home
        self.source = source
        self.disk: Disk = home.disk
        self.topic_partition: TopicPartition = source.topic_partition
        name = leaving_directory(self.topic_partition, home.rng.randbytes(16), FUTURE_SUFFIX)
        self.directory = f"{home.path}/{name}"
        self._path = f"{home.path}/{partition_directory(self.topic_partition)}"
        if self.topic_partition in home.unowned:
            home.make_stray(self.topic_partition)
        if self.disk.exists(self._path):
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self._path} is there already")
        home.forget_lines(self.topic_partition)
        self.disk.make_directory(self.directory)
        self.log = Log(self.disk, home.rng, self.topic_partition, self.directory, source.config)
        self.copied_bytes = 0
        self.end_offset = source.log_start_offset
        """Behind what was copied, as the last step told."""
        self._seen: list[Segment] = []
        self._aborted_bytes = 0

    # -- on the node's thread

    def plan(self) -> list[Piece] | None:
        """What is left to copy; None where the source is no longer what was copied."""
        segments = self.source.segments
        seen = self._seen
        if len(segments) < len(seen) or any(
            now is not then for now, then in zip(segments, seen, strict=False)
        ):
            return None
        self._seen = segments[:]
        begun = max(len(self.log.segments) - 1, 0)
        return [
            Piece(each.base_offset, each.stem, each.size_bytes, each is segments[-1])
            for each in segments[begun:]
        ]

    @property
    def left_bytes(self) -> int:
        return self.source.size_bytes - self.copied_bytes

    @property
    def lag(self) -> int:
        """In offsets."""
        return max(self.source.log_end_offset - self.end_offset, 0)

    def note(self, copied_bytes: int) -> None:
        """A step has ended."""
        self.copied_bytes += copied_bytes
        if self.log.segments:
            self.end_offset = self.log.log_end_offset

    def is_nearly_whole(self, pieces: Sequence[Piece]) -> bool:
        """Whether nothing is left but the end of the last segment."""
        return len(pieces) == 1 and self._aborted_size(pieces[0]) == self._aborted_bytes

    def take_over(self, pieces: Sequence[Piece], topic_id: Uuid | None) -> None:
        """Copy the rest, and become the log of the destination. OSError and CorruptionError leave
        the source as it is and the copy to be dropped."""
        source, log = self.source, self.log
        self.note(self.advance(pieces, source.size_bytes))
        log.config = source.config
        log.log_start_offset = log.flushed_end_offset = source.log_start_offset
        log.log_end_offset = source.log_end_offset
        log.epochs = source.epochs.copy()
        log.epochs.is_dirty = True
        log.producer_state = source.producer_state
        log.cleaner_offset = source.cleaner_offset
        log.is_settled = False
        log.settle()
        self.disk.rename(self.directory, self._path)
        log.move(self._path)
        log.unflushed.add_directory(self._path)
        if topic_id is not None:
            log.name_topic(topic_id_text(topic_id))
        log.is_settled = False
        self.home.adopt(self.topic_partition, topic_id, log)

    def close(self) -> None:
        self.log.close()

    # -- on a helper thread, or in `take_over`

    def advance(self, pieces: Sequence[Piece], max_bytes: int) -> int:
        """Copy about so much; how much it was."""
        copied = 0
        for piece in pieces:
            segment = self._segment(piece)
            while segment.size_bytes < piece.size_bytes:
                if copied >= max_bytes:
                    return copied
                copied += self._copy_chunk(segment, piece)
            if not piece.is_last:
                self._seal(segment, piece)
        self._copy_aborted(pieces[-1])
        return copied

    def drop(self) -> None:
        """Remove what was copied."""
        self.log.close()
        with suppress(FileNotFoundError):
            self.disk.remove_directory(self.directory)

    def sync(self) -> None:
        """So that little is left to be flushed when it takes over."""
        self.log.active.file.sync()

    def _segment(self, piece: Piece) -> Segment:
        log = self.log
        if not log.segments or log.active.base_offset != piece.base_offset:
            segment = Segment(
                self.disk, self.directory, piece.base_offset, log.config, size_bytes=0
            )
            segment.created_ms = self.home.clock.time_ms()
            segment.make()
            log.adopt(segment)
            log.log_end_offset = piece.base_offset
        return log.active

    def _copy_chunk(self, segment: Segment, piece: Piece) -> int:
        position, path = segment.size_bytes, piece.stem + LOG
        try:
            data = self._read(path, position, piece.size_bytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        batches = list(iterate_headers(data))
        for at, header in batches:
            if batch_crc(data, at, header.size_bytes) != header.crc:
                raise CorruptionError(
                    "CRC", path=path, position=position + at, size_bytes=header.size_bytes
                )
        if not batches:
            raise CorruptionError("no whole batch", path=path, position=position)
        at, last = batches[-1]
        size = at + last.size_bytes
        segment.file.pwrite(memoryview(data)[:size], position)
        for _, header in batches:
            segment.note((header,), header.base_offset)
        self.log.log_end_offset = last.last_offset + 1
        return size

    def _read(self, path: str, position: int, end: int) -> bytes:
        """A chunk, or one larger batch."""
        file = self.disk.open(path, read_only=True)
        try:
            data = file.pread(min(CHUNK_BYTES, end - position), position)
            if len(data) >= HEADER_BYTES and (size := read_header(data).size_bytes) > len(data):
                data = file.pread(min(size, end - position), position)
            return data
        finally:
            file.close()

    def _seal(self, segment: Segment, piece: Piece) -> None:
        """The source has gone on to the next segment."""
        if segment.is_sealed:
            return
        self._copy_aborted(piece)
        for file in segment.trimmed_files():
            file.sync()
        segment.close()
        segment.is_sealed = True
        self._aborted_bytes = 0

    def _aborted_size(self, piece: Piece) -> int:
        path = piece.stem + TRANSACTION_INDEX
        return self.disk.size(path) if self.disk.exists(path) else 0

    def _copy_aborted(self, piece: Piece) -> None:
        """The aborted transactions of a segment: a small file, copied whole when it grew."""
        if self._aborted_size(piece) == self._aborted_bytes:
            return
        data = read_whole(self.disk, piece.stem + TRANSACTION_INDEX)
        write_whole(self.disk, self.log.active.stem + TRANSACTION_INDEX, data, sync=True)
        self._aborted_bytes = len(data)

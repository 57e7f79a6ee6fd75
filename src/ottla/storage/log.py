"""The log of one partition: an ordered list of segments, of which the last is written.

    log_start_offset <= high watermark <= flushed_end_offset <= log_end_offset
    |                                      |                     |
    first offset that may be read          survives a power cut  next offset to be given

The high watermark itself belongs to the replica above; it is handed in where it matters. One
writer, no locks. Every change is decided on what is in memory, then written, and becomes visible
here only when the write succeeded: an append that fails leaves the log as it was.

`begin_flush` says what must be synced for everything up to now to survive, and `finish_flush`
takes note that it was: who syncs, where and when, is the flusher's business.
Which segments there are and where in them an offset is, `LogSegments` knows.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ottla.base.errors import ErrorCode, KafkaError, check
from ottla.base.ids import TopicPartition
from ottla.base.world import Disk, Rng
from ottla.records.batch import LENGTH_OVERHEAD, PLACE, BatchHeader, read_header
from ottla.records.control import Marker
from ottla.storage import reader, retention, segment_files, times
from ottla.storage.config import LogConfig
from ottla.storage.leader_epochs import EpochStart, LeaderEpochs
from ottla.storage.log_segments import LogRead, LogSegments, ReadHint
from ottla.storage.open_segments import OpenSegments
from ottla.storage.producer_state import Producer, ProducerBatch, ProducerState
from ottla.storage.producers import ProducersLoading
from ottla.storage.segment import Segment
from ottla.storage.snapshots import Snapshots
from ottla.storage.times import TimestampedOffset
from ottla.storage.transaction_index import AbortedTransaction
from ottla.storage.unflushed import FlushWork, Unflushed


class AppendInfo(NamedTuple):
    first_offset: int
    last_offset: int
    log_start_offset: int
    max_timestamp: int
    is_duplicate: bool
    """Nothing was written; offsets and timestamp are those of the batch that is there."""
    has_rolled: bool
    """A segment was finished: mark the log dirty even where no reply waits for a flush."""


class Log:
    __slots__ = (
        "_segments",
        "_snapshots",
        "cleaner_offset",
        "config",
        "directory",
        "disk",
        "epochs",
        "flushed_end_offset",
        "is_flushing",
        "is_held",
        "is_replacing",
        "is_settled",
        "log_end_offset",
        "log_start_offset",
        "producer_state",
        "rng",
        "segments",
        "shelf",
        "topic_partition",
        "unflushed",
    )

    def __init__(
        self,
        disk: Disk,
        rng: Rng,
        topic_partition: TopicPartition,
        directory: str,
        config: LogConfig,
    ) -> None:
        """A log without segments: `create` and `recovery` fill it."""
        self.disk = disk
        self.rng = rng
        self.topic_partition = topic_partition
        self.directory = directory
        self.config = config
        self._segments = LogSegments()
        self.segments = self._segments.all
        self.log_start_offset = 0
        self.log_end_offset = 0
        self.flushed_end_offset = 0
        self.epochs = LeaderEpochs()
        self.producer_state = ProducerState()
        self.is_settled = False
        """Whether the files are as a clean stop leaves them."""
        self.is_flushing = False
        self.is_held = False
        """It is being copied: nothing of it is compacted or dropped meanwhile."""
        self.is_replacing = False
        """Compacted segments are on their way in: see `Replacement`."""
        self.cleaner_offset: int | None = None
        """Below it all is compacted; None where nothing is."""
        self.unflushed = Unflushed()
        self.shelf: OpenSegments | None = None
        """Who keeps count of descriptors, where somebody does."""
        self._snapshots = Snapshots(disk, directory)

    def start_at(self, offset: int, now_ms: int) -> None:
        """Give an empty log its first segment, in a directory that has none. Most partitions of
        a large node are never written to: the file is made with the first append."""
        self.adopt(self._new_segment(offset, now_ms))
        self.log_start_offset = self.log_end_offset = self.flushed_end_offset = offset
        self.unflushed.add_directory(self.directory)

    def name_topic(self, metadata: bytes) -> None:
        """`partition.metadata`: written with the next flush or the clean stop."""
        self.unflushed.metadata = metadata
        self.is_settled = False

    # -- what it holds

    @property
    def active(self) -> Segment:
        return self.segments[-1]

    @property
    def generation(self) -> int:
        """Another one where batches are not where they were, or are gone."""
        return self._segments.generation

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def max_timestamp(self) -> int:
        """The largest timestamp of a record that is here; -1 without records."""
        return max(segment.max_timestamp for segment in self.segments)

    @property
    def first_unstable_offset(self) -> int:
        """Where the oldest open transaction begins; the log end where none is open."""
        return min(self.producer_state.transactions.first_open, self.log_end_offset)

    def aborted_transactions(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Those that a reader from `start_offset` to below `end_offset` may meet."""
        return self._segments.aborted_transactions(start_offset, end_offset)

    def producers(self) -> list[Producer]:
        return list(self.producer_state)

    def epoch_end(self, epoch: int) -> EpochStart:
        return self.epochs.end_of(epoch, self.log_end_offset)

    # -- appending

    def append(
        self, records: memoryview, batches: Sequence[BatchHeader], *, leader_epoch: int, now_ms: int
    ) -> AppendInfo:
        """Write checked batches behind the last, giving them their offsets in place.

        `records` is writable and holds exactly `batches`. KafkaError where a producer may not
        append this; OSError where the disk refuses: either way nothing has changed.
        """
        # hot: produce
        for batch in batches:
            if batch[9] >= 0:
                original = self.producer_state.admit(batches)
                if original is not None:
                    return self._duplicate(original)
                break
        return self._write(records, batches, leader_epoch, now_ms)

    def append_marker(
        self,
        batch: bytearray,
        marker: Marker,
        *,
        is_bumped: bool,
        leader_epoch: int,
        now_ms: int,
    ) -> AppendInfo:
        """Write the control batch that ends a producer's transaction, and what it aborts into the
        index. KafkaError where it may not; OSError: either way nothing has changed. A marker with
        a bumped epoch that stands in the log already is not written twice."""
        header = read_header(batch)
        if not self.producer_state.check_marker(header, marker, is_bumped=is_bumped):
            end = self.log_end_offset - 1
            return AppendInfo(end, end, self.log_start_offset, header.max_timestamp, True, False)
        offset = self.log_end_offset
        has_rolled = self._maybe_roll(len(batch), offset, header.max_timestamp, now_ms)
        aborted = None
        if not marker.committed:
            aborted = self.producer_state.aborted_by(header.producer_id, offset)
        index = self.active.transaction_index
        if aborted is not None:
            index.append(aborted)
            self.unflushed.add_indexed(self.active)
        try:
            info = self._write(memoryview(batch), (header,), leader_epoch, now_ms, marker)
        except BaseException:
            if aborted is not None:
                index.truncate_to(offset)
            raise
        return info._replace(has_rolled=has_rolled)

    def _write(
        self,
        records: memoryview,
        batches: Sequence[BatchHeader],
        leader_epoch: int,
        now_ms: int,
        marker: Marker | None = None,
    ) -> AppendInfo:
        # hot: produce
        first_offset = offset = self.log_end_offset
        position = 0
        timestamp = -1
        for batch in batches:
            PLACE.pack_into(records, position, offset, batch[1], leader_epoch)
            position += batch[1] + LENGTH_OVERHEAD
            offset += batch[6] + 1
            if batch[8] > timestamp:
                timestamp = batch[8]
        size = len(records)
        check(position == size, "an append holds exactly its batches")
        has_rolled = self._maybe_roll(size, offset - 1, timestamp, now_ms)
        self.is_settled = False
        self.segments[-1].append(records, batches, first_offset)
        self.log_end_offset = offset
        entries = self.epochs.entries
        if not entries or leader_epoch > entries[-1][0]:
            self.epochs.assign(leader_epoch, first_offset)
        self.producer_state.note(batches, first_offset, marker)
        return AppendInfo(
            first_offset, offset - 1, self.log_start_offset, timestamp, False, has_rolled
        )

    def _maybe_roll(self, size: int, last_offset: int, timestamp: int, now_ms: int) -> bool:
        """Whether these bytes began a new segment."""
        segment = self.segments[-1]
        is_due = segment.is_due_to_roll(size, last_offset, timestamp, now_ms, self.config)
        if is_due or not segment.size_bytes:
            self._check_fits(size)
        if is_due:
            self.roll(now_ms)
        return is_due

    def _check_fits(self, size: int) -> None:
        if size > self.config.segment_bytes:
            raise KafkaError(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"{size} bytes do not fit a segment of {self.config.segment_bytes}",
            )

    def _duplicate(self, original: ProducerBatch) -> AppendInfo:
        return AppendInfo(
            original.first_offset,
            original.last_offset,
            self.log_start_offset,
            original.timestamp,
            True,
            False,
        )

    def roll(self, now_ms: int) -> None:
        """Finish the active segment and start one at the log end. An empty one stays."""
        active = self.active
        if not active.size_bytes:
            return
        segment = self._new_segment(self.log_end_offset, now_ms)
        segment.make()
        try:
            active.trim()
            self._snapshots.take(self.producer_state, self.log_end_offset)
        except OSError:
            segment.close()
            with suppress(OSError):
                self.disk.remove(segment.path)
            raise
        self.unflushed.add_rolled(active)
        self.adopt(segment)

    def _new_segment(self, base_offset: int, now_ms: int) -> Segment:
        config = self.config
        segment = Segment(self.disk, self.directory, base_offset, config, size_bytes=0)
        segment.created_ms = now_ms
        jitter_ms = min(config.segment_jitter_ms, config.segment_ms)
        if jitter_ms > 0:
            segment.jitter_ms = self.rng.randrange(0, jitter_ms)
        return segment

    def discard(self, segment: Segment) -> None:
        """Recovery: a segment that holds nothing of worth; its files go at once."""
        self._segments.remove(segment)
        segment.close()
        segment_files.remove(segment)

    def opened(self, segment: Segment) -> None:
        if self.shelf is not None:
            self.shelf.opened(segment, self)

    def closed(self, segment: Segment) -> None:
        if self.shelf is not None:
            self.shelf.closed(segment)

    def adopt(self, segment: Segment) -> None:
        """Behind the others, of which it is none yet."""
        segment.log = self
        if segment.is_open:  # a roll made it before it was ours
            self.opened(segment)
        self._segments.add(segment)

    # -- reading

    def read(
        self,
        offset: int,
        max_bytes: int,
        end_offset: int,
        *,
        at_least_one: bool = True,
        hint: ReadHint | None = None,
    ) -> LogRead | None:
        """Whole batches from the one that holds `offset`, all below `end_offset`, at most
        `max_bytes` of them, though the first may be larger with `at_least_one` (KIP-74).

        None where there is nothing to read yet; OFFSET_OUT_OF_RANGE outside of the log.
        """
        # hot: fetch
        if offset < self.log_start_offset or offset > self.log_end_offset:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {offset} of {self.topic_partition} is not within"
                f" {self.log_start_offset}..{self.log_end_offset}",
            )
        if offset >= end_offset:
            return None
        segments = self._segments
        place = segments.find(offset, hint)
        if place.base_offset > offset and not self.config.is_compacted:
            reader.warn_of_gap(place.segment, offset, place.base_offset)
        if end_offset >= self.log_end_offset:
            behind = place.segment.size_bytes
        else:
            behind = segments.position_of(place.segment, end_offset)
        return segments.read(place, behind, end_offset, max_bytes, at_least_one=at_least_one)

    def offset_for_timestamp(self, timestamp: int, end_offset: int) -> TimestampedOffset | None:
        """The first record at or past `timestamp`, if it lies below `end_offset`."""
        return times.first_at(self.segments, timestamp, self.log_start_offset, end_offset)

    def max_timestamp_offset(self, end_offset: int) -> TimestampedOffset | None:
        """The first record with the largest timestamp of all, if it lies below `end_offset`."""
        return times.latest(self.segments, end_offset)

    # -- cutting

    def advance_start(self, offset: int) -> None:
        """Nothing below `offset` may be read any more; never goes back."""
        if offset > self.log_end_offset:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{offset} is past the log end")
        if offset > self.log_start_offset:
            self.log_start_offset = offset
            self.epochs.truncate_start(offset)
            if self.epochs.is_dirty:
                self.is_settled = False

    def retire_old_segments(self, now_ms: int, high_watermark: int) -> None:
        """Retention by time, by size and by the log start moves the log start. The segments below
        it go with `drop_retired`, when the new start is on the disk: a power cut may undo some
        renames and not others, and must not leave a hole where nobody expects one."""
        self.producer_state.expire(now_ms, self.config.producer_id_expiration_ms)
        for segment in self.segments:
            segment.release()
        count = retention.deletable_count(
            self.segments,
            self.config,
            now_ms,
            log_start_offset=self.log_start_offset,
            log_end_offset=self.log_end_offset,
            high_watermark=high_watermark,
        )
        if count == len(self.segments):
            self.roll(now_ms)
        if count:
            self.advance_start(self.segments[count].base_offset)

    @property
    def has_retired(self) -> bool:
        """Whether a segment lies wholly below the log start."""
        return len(self.segments) > 1 and self.segments[1].base_offset <= self.log_start_offset

    def drop_retired(self, now_ms: int, end_offset: int) -> int:
        """Drop the segments wholly below `end_offset`, which is a log start that the disk knows;
        their count. Their files keep the name `.deleted` for `file.delete.delay.ms`."""
        check(end_offset <= self.log_start_offset, "only what is retired is dropped")
        if self.is_replacing or self.is_held:
            return 0
        count = self._segments.slot(end_offset)
        for _ in range(count):
            self._drop_segment(self.segments[0], now_ms)
        return count

    def _drop_segment(self, segment: Segment, now_ms: int) -> None:
        self._segments.drop(segment, now_ms + self.config.file_delete_delay_ms)
        self.unflushed.drop(segment)

    def replace(self, gone: Sequence[Segment], segment: Segment, now_ms: int) -> None:
        """A compacted segment takes the place of neighbours, for all who read from now on. Their
        files are the caller's business until they are named `.deleted`."""
        self._segments.replace(gone, segment, now_ms + self.config.file_delete_delay_ms)
        segment.log = self

    def take_deleted(self, now_ms: int) -> list[str]:
        """Close the files of dropped segments whose delay is over; their paths. Removing them
        (`remove_files`) takes a file system a while where they are large."""
        if self.is_flushing or self.is_replacing:
            return []
        return self._segments.take_deleted(now_ms)

    def lower_recovery_point(self, offset: int) -> bool:
        """A cut to `offset` comes: whether that takes what was flushed, which is nothing to rely
        on from now on."""
        if offset >= self.flushed_end_offset:
            return False
        start = min(offset, self._segments.find(offset, None).base_offset)
        self.flushed_end_offset = start
        self.log_start_offset = min(self.log_start_offset, start)
        return True

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Forget everything from the batch that holds `offset` on, for good. What was flushed
        goes by `LogDir.truncate` alone."""
        if offset >= self.log_end_offset:
            return
        check(not self.is_flushing, "no truncation under a flush")
        check(not self.is_replacing, "no truncation while segments are replaced")
        self._segments.forget_places()
        self.is_settled = False
        while len(self.segments) > 1 and self.active.base_offset >= offset:
            self.unflushed.add_directory(self.directory)  # or a power cut undoes the rename
            self._drop_segment(self.active, now_ms)
        active = self.active
        end_offset = max(offset, active.base_offset)
        found = reader.find(active, offset)
        if found is not None:
            position, header = found
            end_offset = min(end_offset, header.base_offset)
            active.truncate(position, header.base_offset)
        self.unflushed.drop(active)
        self.log_end_offset = end_offset
        self.flushed_end_offset = min(self.flushed_end_offset, end_offset)
        self.log_start_offset = min(self.log_start_offset, end_offset)
        self.epochs.truncate_end(end_offset)
        if self.cleaner_offset is not None:
            self.cleaner_offset = min(self.cleaner_offset, end_offset)
        self.load_producers(now_ms, is_clean=False)

    def load_producers(self, now_ms: int, *, is_clean: bool, scanned: int | None = None) -> None:
        """The producers as of the log end. `scanned` is the base offset of the first segment that
        a start read anew and in which transactions end."""
        loading = ProducersLoading(self.segments, self._snapshots, self.log_end_offset)
        state = loading.load(is_clean=is_clean)
        loading.mend_indexes(scanned, self.unflushed.add_indexed)
        state.expire(now_ms, self.config.producer_id_expiration_ms)
        self.producer_state = state

    # -- flushing and closing

    def begin_flush(self) -> FlushWork:
        """What must be synced for all that is here now. `finish_flush` follows, once."""
        for segment in (*self.unflushed.rolled, self.active):
            segment.is_written = True  # its descriptor stays until then
        work = self.unflushed.take(
            self.active, self.epochs, self.log_end_offset, is_settled=self.is_settled
        )
        self.is_flushing = True
        return work

    def finish_flush(self, work: FlushWork) -> None:
        """All of `work` is durable."""
        self.is_flushing = False
        for segment in work.rolled:
            segment.is_sealed = True
            segment.is_written = False
            segment.close_indexes()
        if work.active.size_bytes == work.position:
            work.active.is_written = False
        if work.end_offset > self.flushed_end_offset:
            self.flushed_end_offset = work.end_offset
            self._segments.note_end(work.end_offset, work.active, work.position)

    def settle(self) -> None:
        """Leave the files as a clean stop does, but for syncing them: indexes trimmed,
        producers saved."""
        if not self.is_settled:
            if self.active.size_bytes:
                self.active.trim()
            if self.log_end_offset > 0:
                self._snapshots.take(self.producer_state, self.log_end_offset)
            self.is_settled = True

    def move(self, directory: str) -> None:
        """The directory has another name now."""
        self.directory = directory
        self._segments.move(directory)
        self.unflushed.forget_names()
        self._snapshots.directory = directory

    def close(self) -> None:
        """Let go of all descriptors. Nothing is written."""
        self._segments.close()

"""A compacted log under test: histories of keys, transactions and producers, passes and crashes,
and a model of what a reader must find."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import Disk
from ottla.records.batch import BatchHeader, iterate_headers
from ottla.records.builder import build_batch
from ottla.records.control import Marker, build_marker, read_marker
from ottla.records.record import Record, iterate_records
from ottla.storage.cleanable import Cleanable, cleanable, plan_of
from ottla.storage.compaction import Compaction
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.removal import remove_files
from ottla.storage.replacement import Replacement
from ottla.storage.transaction_index import AbortedTransaction

from .makers import TINY, append
from .test_log_dir import IDENTITY, TOPIC_ID, Clock

NAME = TopicPartition("t", PartitionIndex(0))
COMPACTED = replace(
    TINY,
    is_compacted=True,
    is_deleted_by_retention=False,
    min_cleanable_dirty_ratio=0.0,
    delete_retention_ms=1_000,
    file_delete_delay_ms=500,
)


class Now:
    """Helper threads that are done at once."""

    def submit(self, call, done) -> None:  # type: ignore[no-untyped-def]
        try:
            result = call()
        except BaseException as error:
            done(None, error)
        else:
            done(result, None)


class Entry(NamedTuple):
    """A record of the history."""

    key: bytes
    value: bytes | None
    timestamp: int
    producer_id: int
    is_transactional: bool


def open_dir(disk: Disk, clock: Clock, config=COMPACTED) -> LogDir:  # type: ignore[no-untyped-def]
    return LogDir.open(
        "data", IDENTITY, lambda _: config, disk=disk, rng=random.Random(1), clock=clock
    )


def checkpoint(log_dir: LogDir) -> None:
    failures: list[OSError | None] = []
    log_dir.write_checkpoints({}, Now(), failures.append)
    if failures[0] is not None:
        raise failures[0]


def start_pass(
    log: Log, now_ms: int, *, map_bytes: int = 1 << 20, read_bytes: int = 1 << 18
) -> tuple[Compaction, list, Cleanable] | None:  # type: ignore[type-arg]
    found = cleanable(log, now_ms, log.flushed_end_offset)
    if found is None:
        return None
    plan, segments = plan_of(
        log, found, now_ms, map_bytes=map_bytes, load_factor=0.9, read_bytes=read_bytes
    )
    return Compaction(log.disk, plan), segments, found


def compact(
    log: Log,
    now_ms: int,
    *,
    map_bytes: int = 1 << 20,
    write_checkpoint: Callable[[], None] = lambda: None,
    between: Callable[[], None] = lambda: None,
    read_bytes: int = 1 << 18,
) -> Compaction | None:
    """One pass in the order of the cleaner; `between` is called after each step of a swap."""
    write_checkpoint()
    started = start_pass(log, now_ms, map_bytes=map_bytes, read_bytes=read_bytes)
    if started is None:
        return None
    compaction, segments, _ = started
    by_base = {each.base_offset: each for each in segments}
    for _ in compaction.survey():
        pass
    while compaction.has_more:
        for _ in compaction.clean():
            pass
        if compaction.cleaned is None:
            continue
        gone = [by_base[each.base_offset] for each in compaction.group]
        replacement = Replacement(log, gone, compaction.cleaned)
        assert replacement.is_possible
        for step in (replacement.begin, partial(replacement.swap, now_ms), replacement.finish):
            step()
            between()
            log.disk.sync_directory(log.directory)
            between()
        replacement.end()
    log.cleaner_offset = compaction.next_dirty_offset
    write_checkpoint()
    return compaction


class Seen(NamedTuple):
    header: BatchHeader
    records: list[Record]


def batches(log: Log) -> Iterator[Seen]:
    """All batches, read as a sequential reader does, one read for each piece."""
    offset, hint = log.log_start_offset, None
    while (found := log.read(offset, 1, log.log_end_offset, hint=hint)) is not None:
        file, position, length = found.range
        data = file.pread(length, position)
        for at, header in iterate_headers(data):
            records = list(iterate_records(data[at : at + header.size_bytes], 1 << 20))
            yield Seen(header, records)
            assert header.last_offset >= offset, "no reader goes back"
            offset = header.last_offset + 1
        hint = found.hint


def committed(log: Log, *, isolated: bool = True) -> list[Record]:
    """What a read_committed consumer gets, by Java's rule: the aborted list by first offset."""
    end = min(log.flushed_end_offset, log.first_unstable_offset)
    coming = sorted(log.aborted_transactions(log.log_start_offset, end), key=lambda e: e[1])
    aborted: dict[int, None] = {}
    records: list[Record] = []
    for header, inside in batches(log):
        if header.base_offset >= end and isolated:
            break
        while coming and coming[0].first_offset <= header.last_offset:
            aborted[coming.pop(0).producer_id] = None
        if header.is_control:
            if inside and (marker := read_marker(inside[0])) and not marker.committed:
                aborted.pop(header.producer_id, None)
        elif not (isolated and header.is_transactional and header.producer_id in aborted):
            records += inside
    return records


class History:
    """A log with a model beside it."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self.clock = clock
        self.entries: dict[int, Entry] = {}
        self.aborted: list[AbortedTransaction] = []
        self.committed: dict[int, None] = {}
        """Offsets of what is committed."""
        self.open: dict[int, list[int]] = {}
        """Offsets of what open transactions wrote, by producer."""
        self.sequences: dict[int, int] = {}
        self.met_ms: dict[int, int] = {}
        """When a pass met a record first."""
        self.value_count = 0
        self.open_log(disk)

    def open_log(self, disk: Disk) -> None:
        self.disk = disk
        self.log_dir = open_dir(disk, self.clock)
        assert not self.log_dir.offline_logs
        self.log = self.log_dir.create(NAME, TOPIC_ID, COMPACTED)

    # -- what happens

    def put(self, keys: list[int], producer_id: int, *, transactional: bool = False) -> None:
        records = []
        for at, key in enumerate(keys):
            self.value_count += 1
            value = None if key % 3 == 0 and self.value_count % 2 else b"%d" % self.value_count
            timestamp = self.clock.now_ms + (self.value_count * 7) % 50
            records.append(Record(at, timestamp, b"key %d" % key, value))
        sequence = self.sequences.get(producer_id, 0) if producer_id >= 0 else -1
        batch = build_batch(
            records,
            codec=self.value_count % 5,
            producer_id=producer_id,
            producer_epoch=0 if producer_id >= 0 else -1,
            base_sequence=sequence,
            transactional=transactional,
        )
        base = append(self.log, batch, now_ms=self.clock.now_ms).first_offset
        offsets = list(range(base, base + len(keys)))
        for offset, record in zip(offsets, records, strict=True):
            assert record.key is not None
            self.entries[offset] = Entry(
                record.key, record.value, record.timestamp, producer_id, transactional
            )
        if producer_id >= 0:
            self.sequences[producer_id] = sequence + len(keys)
        if transactional:
            self.open.setdefault(producer_id, []).extend(offsets)
        else:
            self.committed |= dict.fromkeys(offsets)

    def end(self, producer_id: int, *, commit: bool) -> None:
        """The marker of a transaction, durable with its index entry, as a coordinator sees to."""
        offsets = self.open.pop(producer_id, None)
        if offsets is None:
            return
        marker = build_marker(
            Marker(commit, 0),
            producer_id=producer_id,
            producer_epoch=0,
            timestamp=self.clock.now_ms,
        )
        at = append(self.log, marker, now_ms=self.clock.now_ms).first_offset
        if commit:
            self.committed |= dict.fromkeys(offsets)
        else:
            stable = self.log.first_unstable_offset
            entry = AbortedTransaction(producer_id, offsets[0], at, stable)
            index = self.log.active.transaction_index
            index.append(entry)
            assert index.file is not None
            index.file.sync()
            self.disk.sync_directory(self.log.directory)
            self.aborted.append(entry)
        self.flush()

    def roll(self) -> None:
        self.log.roll(self.clock.now_ms)

    def flush(self) -> None:
        flush_now(self.disk, [self.log])

    def compact(self, *, map_bytes: int = 1 << 20) -> None:
        self.flush()
        end = self.log.active.base_offset
        for offset in self.entries:
            if offset < end:
                self.met_ms.setdefault(offset, self.clock.now_ms)
        compact(
            self.log,
            self.clock.now_ms,
            map_bytes=map_bytes,
            write_checkpoint=lambda: checkpoint(self.log_dir),
        )
        remove_files(self.log.disk, self.log.take_deleted(self.clock.now_ms))

    # -- what must hold

    def cut_to_log(self) -> None:
        """After a crash: forget what was never flushed and is gone."""
        end = self.log.log_end_offset
        self.entries = {offset: each for offset, each in self.entries.items() if offset < end}
        self.committed = {offset: None for offset in self.committed if offset < end}
        self.open = {
            producer: kept
            for producer, offsets in self.open.items()
            if (kept := [offset for offset in offsets if offset < end])
        }
        self.sequences = {}
        for producer in self.log.producers():
            if producer.last_sequence >= 0:
                self.sequences[producer.producer_id] = producer.last_sequence + 1

    def check(self) -> None:
        log = self.log
        end = min(log.flushed_end_offset, log.first_unstable_offset)
        stable = [offset for offset in sorted(self.committed) if offset < end]
        latest: dict[bytes, int] = {self.entries[offset].key: offset for offset in stable}
        want = {key: self.entries[offset].value for key, offset in latest.items()}
        got: dict[bytes, bytes | None] = {}
        there = {}
        for record in committed(log):
            assert record.key is not None
            entry = self.entries[record.offset]
            assert (record.key, record.value, record.timestamp) == entry[:3], "offsets stay"
            assert record.offset in self.committed, "aborted data is not seen"
            got[record.key] = record.value
            there[record.offset] = True
        for key, offset in latest.items():
            if want[key] is None and offset not in there:
                due = self.met_ms[offset] + COMPACTED.delete_retention_ms
                assert self.clock.now_ms >= due, "a tombstone went before its time"
        alive = {key: value for key, value in got.items() if value is not None}
        assert alive == {key: value for key, value in want.items() if value is not None}
        self._check_places()
        self._check_producers()

    def _check_places(self) -> None:
        """Every offset leads to the batch that holds it or to the next one; so do times."""
        log = self.log
        seen = list(batches(log))
        for offset in range(log.log_start_offset, log.log_end_offset):
            due = next((each for each in seen if each.header.last_offset >= offset), None)
            found = log.read(offset, 1, log.log_end_offset)
            if due is None:
                assert found is None
                continue
            assert found is not None
            data = found.range.file.pread(61, found.range.position)
            assert next(iterate_headers(data + bytes(1 << 16)))[1] == due.header
        records = [record for each in seen for record in each.records]
        for timestamp in {record.timestamp for record in records[::5]}:
            first = next(each for each in records if each.timestamp >= timestamp)
            answer = log.offset_for_timestamp(timestamp, log.log_end_offset)
            assert answer is not None
            assert (answer.timestamp, answer.offset) == (first.timestamp, first.offset)
        largest = max((record.timestamp for record in records), default=-1)
        latest = log.max_timestamp_offset(log.log_end_offset)
        assert (latest.timestamp if latest else -1) == largest

    def _check_producers(self) -> None:
        known = {each.producer_id: each for each in self.log.producers()}
        for producer_id, sequence in self.sequences.items():
            assert known[producer_id].last_sequence == sequence - 1
        for producer_id, offsets in self.open.items():
            assert known[producer_id].transaction_start == offsets[0]

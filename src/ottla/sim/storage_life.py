"""One life of the storage of a node: a log directory that is open, and what goes on in it.

A turn appends some batches to some partitions, begins a flush round, and by chance one or more of
the rest: retention, DeleteRecords, a checkpoint, a truncation, a topic deleted and made anew, old
files removed. What runs on helper threads elsewhere waits in an `Offload` until a turn lets it
run, so that appends fall between a round's beginning and its end. Every step tells the models.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, TypeVar

from ottla.base.ids import PartitionIndex, TopicPartition, Uuid
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.sim.disk import SimDisk
from ottla.sim.storage_model import Batch, Model, batches_of, last_sequence
from ottla.sim.workload import Violation
from ottla.storage.cleanable import cleanable, plan_of
from ottla.storage.compaction import Compaction
from ottla.storage.config import LogConfig
from ottla.storage.flusher import Flusher
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir
from ottla.storage.removal import remove_directories, remove_files
from ottla.storage.replacement import Replacement

T = TypeVar("T")

PRODUCER: Final = 7
EXPIRED_MS: Final = 10_000
"""A jump of the clock after which all records are too old."""
CONFIG: Final = LogConfig(
    segment_bytes=600,
    segment_index_bytes=96,
    index_interval_bytes=100,
    retention_bytes=1_500,
    retention_ms=EXPIRED_MS // 2,
    file_delete_delay_ms=20,
    producer_id_expiration_ms=1 << 40,
)
COMPACT: Final = replace(
    CONFIG, is_compacted=True, is_deleted_by_retention=False, min_cleanable_dirty_ratio=0.01
)
COMPACTED: Final = TopicPartition("c", PartitionIndex(0))
PARTITIONS: Final = [
    COMPACTED,
    *(TopicPartition("t", PartitionIndex(index)) for index in range(3)),
]
KEYS: Final = 6
MAP_BYTES: Final = 4_096


def config_of(topic: str) -> LogConfig:
    return COMPACT if topic == COMPACTED.topic else CONFIG


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def time_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1_000


class Offload:
    """Keeps calls until somebody runs them, so that others come between."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(
        self, call: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        def run() -> None:
            try:
                result = call()
            except Exception as error:
                done(None, error)
            else:
                done(result, None)

        self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Stage(Protocol):
    """What outlives a life."""

    rng: random.Random
    clock: Clock
    models: dict[TopicPartition, Model]
    event_count: Counter[str]


class Life:
    """One process: a directory that is open, and what goes on in it."""

    def __init__(self, run: Stage, disk: SimDisk, log_dir: LogDir) -> None:
        self.run = run
        self.rng = run.rng
        self.clock = run.clock
        self.disk = disk
        self.log_dir = log_dir
        self.offload = Offload()
        self.flusher = Flusher(
            disk, self.offload, run.clock, on_flushed=self._flushed, on_offline=_offline
        )
        self.flusher.costs.whole_seconds = 0.0
        self.epoch = 0
        self.logs: dict[TopicPartition, Log] = {}
        self._points: dict[TopicPartition, int] = {}
        """Recovery points that the disk may know: no truncation goes below them."""
        self._checkpoints_under_way = 0
        self._pass: Iterator[None] | None = None
        """A compaction that is under way, a step of the disk at a time."""

    def begin(self, number: int) -> None:
        """Take up what is there as what is known."""
        self.epoch = number
        for name in PARTITIONS:
            model = self.run.models.get(name)
            if model is None:
                self._make(name)
                continue
            is_its = self.log_dir.topic_ids.get(name) in (None, model.topic_id)
            log = self.logs[name] = self.log_dir.create(name, model.topic_id, config_of(name.topic))
            if not is_its:
                model = self.run.models[name] = Model(
                    model.topic_id, is_compacted=name == COMPACTED
                )
            if name == COMPACTED:  # of which a power cut may bring back what was compacted away
                model.batches = [
                    each for each in model.batches if each.base_offset < log.log_end_offset
                ]
            else:
                model.batches = list(batches_of(log))
            model.end, model.firm_end = log.log_end_offset, log.flushed_end_offset
            model.told_start = min(model.told_start, log.log_start_offset)
            model.asked_start = max(model.asked_start, log.log_start_offset)
            model.former = {}
            self._points[name] = log.flushed_end_offset

    def _make(self, name: TopicPartition) -> None:
        topic_id = Uuid(self.rng.randbytes(16))
        self.run.models[name] = Model(topic_id, is_compacted=name == COMPACTED)
        self.logs[name] = self.log_dir.create(name, topic_id, config_of(name.topic))
        for each, log in self.logs.items():  # whose checkpoint may have been written for it
            self._points[each] = max(self._points.get(each, 0), log.flushed_end_offset)
        self._points[name] = 0
        self.flusher.mark_dirty(self.logs[name])

    def turn(self) -> None:
        rng = self.rng
        self.append_some()
        self.flusher.kick()
        for chance, happening in (
            (0.15, self._retain),
            (0.15, self._delete_records),
            (0.2, self._checkpoint),
            (0.04, self._expire),
            (0.2, self._truncate),
            (0.06, self._make_anew),
            (0.3, self._sweep),
            (0.8, self._compact),
        ):
            if rng.random() < chance:
                self.run.event_count[happening.__name__.strip("_")] += 1
                happening()
        for _ in range(rng.randrange(5)):
            if self.offload.waiting:
                self.offload.waiting.pop(0)()
                self._note_points()
        self.clock.now_ms += rng.randrange(20)

    def append_some(self) -> None:
        for _ in range(self.rng.randrange(1, 6)):
            self._append(self.rng.choice(PARTITIONS))

    def _append(self, name: TopicPartition) -> None:
        log, model = self.logs[name], self.run.models[name]
        producers = log.producers()
        now_ms = self.clock.now_ms
        records = [
            Record(index, now_ms + index, b"%d" % self.rng.randrange(KEYS), self.rng.randbytes(9))
            for index in range(self.rng.randrange(1, 4))
        ]
        data = build_batch(
            records,
            producer_id=PRODUCER,
            producer_epoch=0,
            base_sequence=producers[0].last_sequence + 1 if producers else 0,
        )
        headers = [header for _, header in iterate_headers(data)]
        model.coming = data
        info = log.append(memoryview(data), headers, leader_epoch=self.epoch, now_ms=now_ms)
        model.coming = None
        self.run.event_count["roll" if info.has_rolled else "append"] += 1
        model.batches.append(Batch(info.first_offset, bytes(data)))
        model.end = info.last_offset + 1
        self.flusher.mark_dirty(log)

    def _flushed(self, logs: list[Log]) -> None:
        for log in logs:
            model = self.run.models.get(log.topic_partition)
            if model is not None and self.logs.get(log.topic_partition) is log:
                model.firm_end = max(model.firm_end, log.flushed_end_offset)
                model.former = {}

    def _write_checkpoints(self, then: Callable[[], None]) -> None:
        def done(error: OSError | None) -> None:
            self._checkpoints_under_way -= 1
            if error is not None:
                raise error
            then()

        self._checkpoints_under_way += 1
        self.log_dir.write_checkpoints({}, self.offload, done)
        self._note_points()

    def _note_points(self) -> None:
        """A checkpoint that is being written may tell these."""
        if self._checkpoints_under_way:
            for name, log in self.logs.items():
                self._points[name] = max(self._points[name], log.flushed_end_offset)

    def _checkpoint(self) -> None:
        self._write_checkpoints(lambda: None)

    def _retain(self) -> None:
        for name, log in self.logs.items():
            log.retire_old_segments(self.clock.now_ms, log.flushed_end_offset)
            self.flusher.mark_dirty(log)
            model = self.run.models[name]
            model.asked_start = max(model.asked_start, log.log_start_offset)
        self._starts_are_durable()

    def _expire(self) -> None:
        """Every record is flushed, and then too old."""
        self._drain()
        self.clock.now_ms += EXPIRED_MS
        self._retain()

    def _drain(self) -> None:
        """All that is there is flushed, and nothing is under way."""
        self.flusher.when_idle(lambda: None)
        self.offload.run()
        self._points = {name: log.flushed_end_offset for name, log in self.logs.items()}

    def _delete_records(self) -> None:
        name = self.rng.choice(PARTITIONS[1:])
        log, model = self.logs[name], self.run.models[name]
        if log.flushed_end_offset > log.log_start_offset:
            span = log.flushed_end_offset - log.log_start_offset
            offset = log.log_start_offset + 1 + self.rng.randrange(span)
            model.asked_start = max(model.asked_start, offset)
            log.advance_start(offset)
        self._starts_are_durable()

    def _starts_are_durable(self) -> None:
        """With the checkpoint: then they are told, and the segments below them go."""
        starts = [(log, self.run.models[name], log.log_start_offset) for name, log in self._now()]

        def durable() -> None:
            for log, model, start in starts:
                is_here = self.logs.get(log.topic_partition) is log
                if is_here and start <= log.log_start_offset:
                    model.told_start = max(model.told_start, start)
                    log.drop_retired(self.clock.now_ms, start)

        self._write_checkpoints(durable)

    def _now(self) -> list[tuple[TopicPartition, Log]]:
        return list(self.logs.items())

    def _truncate(self) -> None:
        name = self.rng.choice(PARTITIONS[1:])
        log, model = self.logs[name], self.run.models[name]
        low = max(self._points[name], log.log_start_offset, model.asked_start)
        if log.is_flushing or low >= log.log_end_offset:
            return
        offset = low + self.rng.randrange(log.log_end_offset - low)
        if log.active.base_offset >= low and self.rng.random() < 0.5:
            offset = log.active.base_offset  # a segment goes as a whole
        while offset > low and all(each.base_offset != offset for each in model.batches):
            offset -= 1  # to a batch's start, so that it does not go below `low`
        if all(each.base_offset != offset for each in model.batches):
            return
        end = model.truncate(offset)
        log.truncate_to(offset, self.clock.now_ms)
        if log.log_end_offset != end:
            raise Violation("lost", f"{name}: cut to {offset}, ends at {log.log_end_offset}")
        known = [producer.last_sequence for producer in log.producers()]
        is_here = model.batches and model.batches[-1].base_offset >= log.segments[0].base_offset
        if is_here and known != [last_sequence(model.batches[-1].data)]:
            raise Violation("forgotten", f"{name}: cut to {offset}, producers {known}")
        self.flusher.mark_dirty(log)
        if self.rng.random() < 0.5:
            self._drain()

    def _make_anew(self) -> None:
        name = self.rng.choice(PARTITIONS[1:])
        self.flusher.forget(self.logs[name])
        # From here on neither the old one nor the new one is promised.
        self.run.models[name] = Model(Uuid(bytes(16)))
        self.log_dir.delete(name)
        self._make(name)

    def _compact(self) -> None:
        """Some steps of a pass, or the begin of one."""
        if self._pass is None:
            self._pass = self._compaction(self.logs[COMPACTED])
        for _ in range(self.rng.randrange(1, 12)):
            if next(self._pass, self) is self:
                self._pass = None
                return

    def _compaction(self, log: Log) -> Iterator[None]:
        parts = cleanable(log, self.clock.now_ms, log.flushed_end_offset)
        if parts is None:
            return
        yield from self._checkpointed()
        plan, segments = plan_of(
            log,
            parts,
            self.clock.now_ms,
            map_bytes=MAP_BYTES,
            load_factor=0.9,
            read_bytes=512,
        )
        compaction = Compaction(self.disk, plan)
        by_base = {each.base_offset: each for each in segments}
        yield from (None for _ in compaction.survey())
        while compaction.has_more:
            yield from (None for _ in compaction.clean())
            if compaction.cleaned is None:
                continue
            gone = [by_base[each.base_offset] for each in compaction.group]
            replacement = Replacement(log, gone, compaction.cleaned)
            for step in (
                replacement.begin,
                lambda: None,
                partial(replacement.swap, self.clock.now_ms),
                replacement.finish,
            ):
                step()
                yield
                self.disk.sync_directory(log.directory)
            replacement.end()
            self.run.event_count["replacement"] += 1
            yield
        log.cleaner_offset = compaction.next_dirty_offset

    def _checkpointed(self) -> Iterator[None]:
        """Wait for a checkpoint: a pass begins when the recovery point has gone past it."""
        is_written = False

        def written() -> None:
            nonlocal is_written
            is_written = True

        self._write_checkpoints(written)
        while not is_written:
            yield

    def _sweep(self) -> None:
        for log in self.logs.values():
            remove_files(self.disk, log.take_deleted(self.clock.now_ms))
        paths = self.log_dir.take_deleted()
        remove_directories(self.disk, self.log_dir.path, paths)
        self.log_dir.removed(paths)


def _offline(error: OSError) -> None:
    raise error

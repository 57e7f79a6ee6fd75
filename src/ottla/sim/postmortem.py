"""What is found on a drive after a power cut, held against what had been promised before it.

Each image is opened as a start of the node opens its log directory (`LogDir`), which is where
recovery happens, and every partition is read whole:

    every acknowledged record, and all below a high watermark that was told, stands at its offset
    offsets rise by one, values are whole, an idempotent producer's record stands there once
    the log starts where DeleteRecords was acknowledged to put it, or where it was asked to
    another batch is appended behind, flushed, and read

A whole node takes about ten times as long to start as its log directory, so one image in
`NODE_EVERY` is started as one, with the metadata of that moment, and asked over the network.
"""

from dataclasses import dataclass
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.metadata.store import Put
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.sim.clock import EPOCH_MS, SimClock
from ottla.sim.consumer import records_of
from ottla.sim.disk import SimDisk
from ottla.sim.drive import SIZE_BYTES
from ottla.sim.history import Found, History, Key, Promises, Topic, value_of
from ottla.sim.images import Shot
from ottla.sim.workload import Violation
from ottla.sim.world import SimWorld
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.identity import Identity, read_meta_properties
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir, LogDirError

PATH: Final = "/d"
CONFIG: Final = LogConfig(segment_index_bytes=120, index_interval_bytes=200)
PROBE_ID: Final = 1 << 62
"""The record that is appended to an image."""


@dataclass(frozen=True)
class Promised:
    """What stands behind an image: promises to clients, and the store of metadata."""

    promises: Promises
    metadata: list[Put]


class Book:
    """Which record stands where, by all that was ever seen of a run."""

    def __init__(self, history: History) -> None:
        self.at: dict[Key, dict[int, int]] = {}
        for poll in history.polls:
            self.at.setdefault(poll.key, {}).update(poll.records)
        for key, records in history.final.items():
            self.at.setdefault(key, {}).update(records)
        self.idempotent = {
            record_id: True
            for send in history.sends
            if send.is_idempotent
            for record_id in send.ids()
        }


def examine(sim: SimWorld, history: History, book: Book, shot: Shot[Promised]) -> None:
    """Recover an image as its log directory; Violation where it breaks a promise."""
    shot.drive.size_bytes = SIZE_BYTES
    disk = sim.disk_of(shot.drive)
    promises = shot.promised.promises
    meta = read_meta_properties(disk, PATH)
    if meta is None:
        _is_nothing_promised(promises, shot.moment)
        return
    log_dir = _open(sim, disk, meta[0], shot.moment)
    for topic in promises.topics:
        for key in topic.partitions:
            name = TopicPartition(topic.name, PartitionIndex(key[1]))
            log, damage = log_dir.logs.get(name), log_dir.offline_logs.get(name)
            if log_dir.topic_ids.get(name) not in (None, topic.id):
                log = damage = None  # of another topic of that name
            where = f"{name} {shot.moment}"
            if damage is not None and not topic.is_soft:
                raise Violation("corrupt", f"{where}: {damage}")
            if log is None and not topic.is_soft and promises.end_offset.get(key):
                raise Violation("lost-write", f"{where}: no log")
            if log is not None:
                _examine_log(history, book, promises, topic, key, log, where)
    log_dir.close(is_clean=False)


def _open(sim: SimWorld, disk: SimDisk, identity: Identity, moment: str) -> LogDir:
    try:
        return LogDir.open(
            PATH,
            identity,
            lambda topic: CONFIG,
            disk=disk,
            rng=sim.rng("image"),
            clock=SimClock(sim.loop),
        )
    except (LogDirError, CorruptionError) as error:
        raise Violation("no-start", f"{moment}: {error}") from error


def _is_nothing_promised(promises: Promises, moment: str) -> None:
    if any(promises.end_offset.get(key) for topic in promises.topics for key in topic.partitions):
        raise Violation("lost-write", f"{moment}: no log directory")


def _examine_log(
    history: History,
    book: Book,
    promises: Promises,
    topic: Topic,
    key: Key,
    log: Log,
    where: str,
) -> None:
    found = contents(log, where)
    start, end = log.log_start_offset, log.log_end_offset
    firm = max(start, promises.retired.get(key, 0))
    if [offset for offset, _ in found if offset >= firm] != list(range(firm, end)):
        raise Violation("poll-skip", f"{where}: {start}..{end} holds {found[:3]}..{found[-3:]}")
    if not topic.is_soft:
        _hold_to_promises(history, book, promises, key, found, (start, end), where)
    ids = [record_id for _, record_id in found if record_id in book.idempotent]
    if len(dict.fromkeys(ids)) != len(ids):
        raise Violation("duplicate", where)
    append_probe(log, where)


def _hold_to_promises(
    history: History,
    book: Book,
    promises: Promises,
    key: Key,
    found: list[Found],
    bounds: tuple[int, int],
    where: str,
) -> None:
    start, end = bounds
    told = promises.end_offset.get(key, 0)
    if end < told:
        raise Violation("lost-write", f"{where}: ends at {end}, {told} was told")
    if start < promises.start_offset.get(key, 0):
        raise Violation("log-start", f"{where}: {start}, deleted to {promises.start_offset[key]}")
    if start > promises.asked_start.get(key, 0) and not history.topic_of(key).is_trimmed:
        raise Violation("lost-write", f"{where}: starts at {start}")
    here, firm = dict(found), max(start, promises.retired.get(key, 0))
    count = promises.acknowledged.get(key, 0)
    for send in history.acknowledged.get(key, [])[:count]:
        for offset, record_id in enumerate(send.ids(), send.offset):
            if offset >= firm and here[offset] != record_id:
                raise Violation("lost-write", f"{where}: {send}: offset {offset}")
    book_of = book.at.get(key, {})
    for offset in range(firm, told):
        if offset in book_of and here[offset] != book_of[offset]:
            raise Violation("inconsistent-offset", f"{where}: offset {offset}")


def contents(log: Log, where: str) -> list[Found]:
    """Every record from the log start on."""
    found: list[Found] = []
    at = log.log_start_offset
    while at < log.log_end_offset:
        read = log.read(at, 1 << 20, log.log_end_offset)
        if read is None:
            raise Violation("lost-write", f"{where}: nothing at {at} of {log.log_end_offset}")
        file, position, length = read.range
        batches = file.pread(length, position)
        found += [each for each in records_of(batches, where) if each[0] >= at]
        at = read.hint.offset
    return found


def append_probe(log: Log, where: str) -> None:
    """The log must take another batch, keep it, and give it back."""
    end = log.log_end_offset
    batch = build_batch([Record(0, EPOCH_MS, None, value_of(PROBE_ID))])
    headers = [header for _, header in iterate_headers(batch)]
    info = log.append(memoryview(batch), headers, leader_epoch=9, now_ms=EPOCH_MS)
    flush_now(log.disk, [log])
    read = log.read(end, 1 << 20, log.log_end_offset)
    if read is None or info.first_offset != end or log.flushed_end_offset != end + 1:
        raise Violation("lost-write", f"{where}: appended at {info.first_offset}, not {end}")
    found = list(records_of(read.range.file.pread(read.range.length, read.range.position), where))
    if found[-1] != (end, PROBE_ID):
        raise Violation("lost-write", f"{where}: appended at {end}, read {found[-1]}")

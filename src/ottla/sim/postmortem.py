"""What is found on a drive after a power cut, held against what had been promised before it.

Each image is opened as a start of the node opens its log directory (`LogDir`), which is where
recovery happens, and every partition is read whole:

    every acknowledged record, and all below a high watermark that was told, stands at its offset
    offsets rise by one, values are whole, an idempotent producer's record stands there once
    of each key of a compacted topic the latest is there; its offsets rise, and stay what they were
    the log starts where DeleteRecords was acknowledged to put it, or where it was asked to
    another batch is appended behind, flushed, and read

A whole node takes several times as long to start and to be asked over the network, so it is one
image in NODE_EVERY that is started as a node, with the metadata of that moment: it must serve,
show the same, and take another batch.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ottla.base.errors import CorruptionError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.metadata.store import Put
from ottla.records.batch import iterate_headers
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.sim.admin import COMPACTED
from ottla.sim.checkers.sightings import keys_lost, keys_of
from ottla.sim.client import SimClient
from ottla.sim.clock import EPOCH_MS, SimClock
from ottla.sim.consumer import Reader, records_of
from ottla.sim.disk import SimDisk
from ottla.sim.drive import SIZE_BYTES
from ottla.sim.history import Found, History, Key, Promises, Send, Topic, value_of
from ottla.sim.images import Shot
from ottla.sim.producer import Producer
from ottla.sim.server import PORT, Server
from ottla.sim.workload import Violation
from ottla.sim.world import SimWorld
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.identity import read_meta_properties
from ottla.storage.log import Log
from ottla.storage.log_dir import LogDir, LogDirError

NODE_EVERY: Final = 8
START_S: Final = 60.0
READ_S: Final = 60.0
PATHS: Final = "/d"
"""The log directories, where the settings name no others."""
CONFIG: Final = LogConfig(segment_index_bytes=120, index_interval_bytes=200)
COMPACT: Final = replace(CONFIG, is_compacted=True, is_deleted_by_retention=False)
PROBE_ID: Final = 1 << 62
"""The record that is appended to an image."""


@dataclass(frozen=True)
class Promised:
    """What stands behind an image: promises to clients, and the store of metadata."""

    promises: Promises
    metadata: list[Put]


class Postmortem:
    def __init__(self, sim: SimWorld, history: History, settings: Mapping[str, str]) -> None:
        self._sim = sim
        self._history = history
        self._settings = settings
        self._paths = settings.get("log.dirs", PATHS).split(",")
        self._at: dict[Key, dict[int, int]] = {}
        """Which record stands where, by all that was ever seen."""
        for poll in history.polls:
            self._at.setdefault(poll.key, {}).update(poll.records)
        for key, records in history.final.items():
            self._at.setdefault(key, {}).update(records)
        self._once: dict[int, None] = dict.fromkeys(
            record_id for send in history.sends if send.is_idempotent for record_id in send.ids()
        )
        """Records that may stand at one place only."""
        self._key_of = keys_of(history)

    async def examine_all(self, shots: Iterable[Shot[Promised]]) -> None:
        for number, shot in enumerate(shots):
            shot.drive.size_bytes = SIZE_BYTES
            if number % NODE_EVERY:
                self.examine(shot)
            else:
                await self.examine_as_node(shot, number)

    # ---- as a log directory

    def examine(self, shot: Shot[Promised]) -> None:
        promises = shot.promised.promises
        disk = self._sim.disk_of(shot.drive)
        log_dirs = list(self._open(disk, shot.moment))
        for topic in promises.topics:
            for key in topic.partitions:
                where = f"{topic.name}-{key[1]} {shot.moment}"
                logs = [self._log_of(each, topic, key, where) for each in log_dirs]
                for log in filter(None, logs):
                    found = contents(log, where)
                    self._hold(promises, topic, key, found, start=log.log_start_offset, where=where)
                    append_probe(log, where)
                if not any(logs) and promises.end_offset.get(key) and not topic.is_soft:
                    raise Violation("lost-write", f"{where}: there is no log")
        for log_dir in log_dirs:
            log_dir.close(is_clean=False)

    def _open(self, disk: SimDisk, moment: str) -> Iterator[LogDir]:
        clock = SimClock(self._sim.loop)
        rng = self._sim.rng("image")
        for path in self._paths:
            meta = read_meta_properties(disk, path)
            try:
                if meta is not None:
                    yield LogDir.open(path, meta[0], _config_of, disk=disk, rng=rng, clock=clock)
            except (LogDirError, CorruptionError) as error:
                raise Violation("no-start", f"{moment}: {error}") from error

    @staticmethod
    def _log_of(log_dir: LogDir, topic: Topic, key: Key, where: str) -> Log | None:
        name = TopicPartition(topic.name, PartitionIndex(key[1]))
        if log_dir.topic_ids.get(name) not in (None, topic.id):
            return None  # of another topic of that name
        if name in log_dir.offline_logs and not topic.is_soft:
            raise Violation("corrupt", f"{where}: {log_dir.offline_logs[name]}")
        return log_dir.logs.get(name)

    # ---- as a node

    async def examine_as_node(self, shot: Shot[Promised], number: int) -> None:
        sim, promises = self._sim, shot.promised.promises
        host = f"image-{number}"
        server = Server(sim, host, self._settings)
        server.keep.write(shot.promised.metadata)
        sim.machine(host).drive = shot.drive
        server.start()
        await _until_serving(server, shot.moment)
        history = History()
        client = SimClient(sim.boot(f"{host}-client"), host, PORT)
        reader = Reader(client, history, sim.rng(f"{host} reader"), host, lambda: 1)
        producer = Producer(
            SimClock(sim.loop),
            client,
            history,
            sim.rng(f"{host} producer"),
            lambda: 1,
            number=PROBE_ID >> 32,
            acks=-1,
            is_idempotent=True,
        )
        for topic in promises.topics:
            history.add_topic(topic)
            for key in topic.partitions:
                where = f"{topic.name}-{key[1]} {shot.moment}, as a node"
                try:
                    start, found = await asyncio.wait_for(reader.read_all(topic, key), READ_S)
                except TimeoutError:
                    raise Violation("no-progress", f"{where}: cannot be read") from None
                self._hold(promises, topic, key, found, start=start, where=where)
            if not await producer.round(topic):
                raise Violation("no-progress", f"{topic.name} {shot.moment}: takes no batch")
        if history.surprises:
            raise Violation("surprise", f"{shot.moment}, as a node: {history.surprises[0]}")
        server.kill()
        sim.kill(f"{host}-client")

    # ---- promises

    def _hold(
        self,
        promises: Promises,
        topic: Topic,
        key: Key,
        found: list[Found],
        *,
        start: int,
        where: str,
    ) -> None:
        """What was found from the log start on must be what was promised."""
        end = found[-1][0] + 1 if found else start
        offsets = [offset for offset, _ in found]
        if offsets != (
            sorted(dict.fromkeys(offsets)) if topic.is_compacted else list(range(start, end))
        ):
            raise Violation("poll-skip", f"{where}: {start}..{end} has holes")
        once = [record_id for _, record_id in found if record_id in self._once]
        if len(dict.fromkeys(once)) != len(once):
            raise Violation("duplicate", where)
        if topic.is_soft:
            return
        told = promises.end_offset.get(key, 0)
        if end < told:
            raise Violation("lost-write", f"{where}: ends at {end}, {told} was told")
        if start < promises.start_offset.get(key, 0):
            kept = promises.start_offset[key]
            raise Violation("log-start", f"{where}: {start}, and {kept} was acknowledged")
        sends = self._history.acknowledged.get(key, [])[: promises.acknowledged.get(key, 0)]
        if topic.is_compacted:
            for _, lost, offset in keys_lost(sends, found, self._key_of):
                raise Violation("compaction", f"{where}: nothing of {lost!r} from {offset} on")
        else:
            if start > promises.asked_start.get(key, 0) and not topic.has_retention:
                raise Violation("lost-write", f"{where}: starts at {start}, which nobody asked")
            _hold_records(sends, dict(found), range(start, told), where)
        at = self._at.get(key, {})
        for offset, record_id in found:
            if offset < told and at.get(offset, record_id) != record_id:
                raise Violation("inconsistent-offset", f"{where}: offset {offset}")


def _hold_records(sends: list[Send], here: dict[int, int], firm: range, where: str) -> None:
    for send in sends:
        for offset, record_id in enumerate(send.ids(), send.offset):
            if offset in firm and here[offset] != record_id:
                raise Violation("lost-write", f"{where}: {record_id:#x} is not at {offset}")


def _config_of(topic: str) -> LogConfig:
    return COMPACT if topic == COMPACTED else CONFIG


async def _until_serving(server: Server, moment: str) -> None:
    deadline = server.sim.loop.time() + START_S
    while not server.is_serving:
        if server.start_error is not None or server.sim.loop.time() > deadline:
            raise Violation("no-start", f"{moment}: {server.start_error}")
        await asyncio.sleep(0.01)


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

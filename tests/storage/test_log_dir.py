import errno
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from ottla.base.errors import CorruptionError, ErrorCode, KafkaError
from ottla.base.ids import PartitionIndex, TopicPartition, Uuid, id_text
from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.faults import Fault
from ottla.sim.trace import Trace
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.identity import (
    Identity,
    MetaProperties,
    read_meta_properties,
    write_meta_properties,
)
from ottla.storage.log_dir import LogDir, LogDirError
from tests.storage.makers import remove_deleted_of

from .makers import ORDERS, TINY, append, batch_of, read_all
from .memory_disk import MemoryDisk

IDENTITY = Identity("kQ0m4vGWTPyXwRhDzPlnQg", 1)
TOPIC_ID = Uuid(bytes(range(16)))
OTHER_ID = Uuid(bytes(range(1, 17)))


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def time_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1_000


class InlineOffload:
    """Runs a call when it is told to, in the order they came."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, call, done) -> None:  # type: ignore[no-untyped-def]
        def run() -> None:
            try:
                result = call()
            except BaseException as error:
                done(None, error)
            else:
                done(result, None)

        self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def open_dir(
    disk: MemoryDisk, *, config: LogConfig = TINY, clock: Clock | None = None, seed: int = 1
) -> LogDir:
    return LogDir.open(
        "data",
        IDENTITY,
        lambda _: config,
        disk=disk,
        rng=random.Random(seed),
        clock=clock or Clock(),
    )


def test_what_a_new_directory_holds(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    log_dir.create(ORDERS, TOPIC_ID, TINY)
    meta = disk.files["data/meta.properties"].decode().splitlines()
    assert meta == [
        "version=1",
        "cluster.id=kQ0m4vGWTPyXwRhDzPlnQg",
        "node.id=1",
        f"directory.id={id_text(log_dir.directory_id)}",
    ]
    assert disk.list_directory("data/orders-0") == []
    log_dir.close()
    assert disk.list_directory("data/orders-0") == [
        "00000000000000000000.log",
        "partition.metadata",
    ]
    assert disk.files["data/orders-0/partition.metadata"].decode() == (
        f"version: 0\ntopic_id: {id_text(TOPIC_ID)}"
    )


@pytest.mark.parametrize(
    "number, is_reserved",
    [(0, True), (99, True), (100, False), (1 << 63, True), (1 << 64, False), (1 << 127, False)],
)
def test_a_directory_id_that_kafka_keeps_for_itself_is_refused(
    disk: MemoryDisk, number: int, is_reserved: bool
) -> None:
    """The first half is zero, and the second, signed, below 100."""
    directory_id = Uuid(number.to_bytes(16))
    disk.make_directory("data")
    write_meta_properties(disk, "data", MetaProperties(IDENTITY, directory_id))
    if is_reserved:
        cause = f"directory.id {id_text(directory_id)} is a reserved one"
        with pytest.raises(CorruptionError, match=cause):
            read_meta_properties(disk, "data")
    else:
        assert read_meta_properties(disk, "data") == MetaProperties(IDENTITY, directory_id)


def test_making_a_log_syncs_nothing(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    disk.calls.clear()
    log_dir.create(ORDERS, TOPIC_ID, TINY)
    assert not [name for name, _ in disk.calls if "sync" in name]


def test_a_clean_stop_and_start(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    for sequence in range(20):
        append(log, batch_of(1, producer=(7, 0, sequence)), leader_epoch=3)
    batches = read_all(log)
    log_dir.close({ORDERS: 20})
    assert disk.open_count == 0
    assert disk.locks == []
    assert disk.files["data/.kafka_cleanshutdown"] == b'{"version":0,"brokerEpoch":-1}'
    assert disk.files["data/recovery-point-offset-checkpoint"] == b"0\n1\norders 0 20\n"
    assert disk.files["data/replication-offset-checkpoint"] == b"0\n1\norders 0 20\n"
    assert disk.files["data/orders-0/leader-epoch-checkpoint"] == b"0\n1\n3 0\n"

    disk.calls.clear()
    again = open_dir(disk)
    assert again.was_clean
    assert "data/.kafka_cleanshutdown" not in disk.files
    assert ("sync_directory", "data") in disk.calls
    assert again.high_watermarks == {ORDERS: 20}
    assert again.topic_ids == {ORDERS: TOPIC_ID}
    assert disk.open_count == 0, "an idle log holds no descriptor"
    log = again.logs[ORDERS]
    assert log.flushed_end_offset == 20
    assert log.epoch_end(3) == (3, 20)
    assert [producer.last_sequence for producer in log.producers()] == [19]
    assert read_all(log) == batches


def test_a_clean_start_reads_little(disk: MemoryDisk) -> None:
    config = LogConfig(index_interval_bytes=100)
    log_dir = open_dir(disk, config=config)
    log = log_dir.create(ORDERS, TOPIC_ID, config)
    for sequence in range(400):
        append(log, batch_of(1, producer=(7, 0, sequence), value=b"x" * 500))
    log_dir.close()
    disk.calls.clear()
    open_dir(disk, config=config)
    assert len([path for name, path in disk.calls if name == "pread" and ".log" in path]) <= 2


def test_a_second_start_is_not_clean(disk: MemoryDisk) -> None:
    open_dir(disk).close()
    first = open_dir(disk)
    assert first.was_clean
    assert not open_dir(disk.copy()).was_clean


def test_a_directory_in_use_or_of_another_node_is_refused_untouched(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    with pytest.raises(LogDirError, match="in use"):
        open_dir(disk)
    log_dir.close()
    before = {path: bytes(data) for path, data in disk.files.items()}
    with pytest.raises(LogDirError, match="belongs to node 1 of cluster kQ0"):
        LogDir.open(
            "data",
            Identity("another", 1),
            lambda _: TINY,
            disk=disk,
            rng=random.Random(1),
            clock=Clock(),
        )
    assert disk.files == before


def test_an_unclean_start_flushes_what_it_found(disk: MemoryDisk) -> None:
    log = open_dir(disk).create(ORDERS, TOPIC_ID, TINY)
    for _ in range(12):
        append(log, batch_of(2))
    died = disk.copy()
    found = open_dir(died).logs[ORDERS]
    assert (found.log_end_offset, found.flushed_end_offset) == (24, 24)
    assert [name for name, _ in died.calls if name == "sync_file_system"]
    assert read_all(found) == read_all(log)
    assert found.epoch_end(0) == (0, 24)


@pytest.mark.parametrize(
    "content", [b"0\n", b"0\n2\norders 0 1\n", b"\xff", b"1\n0\n", b"0\n1\na b\n"]
)
def test_corrupt_checkpoints_are_reported_and_passed_over(
    disk: MemoryDisk, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close({ORDERS: 5})
    for name in ("recovery-point-offset", "log-start-offset", "replication-offset"):
        disk.files[f"data/{name}-checkpoint"] = bytearray(content)
    disk.files["data/orders-0/leader-epoch-checkpoint"] = bytearray(content)
    with caplog.at_level(logging.WARNING):
        again = open_dir(disk)
    assert len(caplog.records) == 4
    assert again.logs[ORDERS].log_end_offset == 5
    assert again.logs[ORDERS].epoch_end(0) == (0, 5)


def test_flushed_bytes_that_are_damaged_are_kept_from_being_served(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close()
    del disk.files["data/.kafka_cleanshutdown"]
    data = disk.files["data/orders-0/00000000000000000000.log"]
    data[70] ^= 1
    damaged = bytes(data)
    again = open_dir(disk)
    assert ORDERS not in again.logs
    error = again.offline_logs[ORDERS]
    assert (error.path, error.position) == ("data/orders-0/00000000000000000000.log", 0)
    assert disk.files["data/orders-0/00000000000000000000.log"] == damaged
    with pytest.raises(KafkaError) as caught:
        again.create(ORDERS, TOPIC_ID, TINY)
    assert caught.value.code == ErrorCode.KAFKA_STORAGE_ERROR
    again.delete(ORDERS)
    again.create(ORDERS, OTHER_ID, TINY)


def test_damage_to_a_log_of_a_deleted_topic_is_a_stray(disk: MemoryDisk) -> None:
    """Found by the simulation: a power cut brings a half removed directory back."""
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close({ORDERS: 5})
    del disk.files["data/.kafka_cleanshutdown"]
    disk.files["data/orders-0/00000000000000000000.log"].clear()
    again = open_dir(disk)
    assert list(again.offline_logs) == [ORDERS]
    assert again.create(ORDERS, OTHER_ID, TINY).log_end_offset == 0
    assert not again.offline_logs


def test_what_is_damaged_is_not_forgotten(disk: MemoryDisk) -> None:
    """Neither a clean stop nor the checkpoints it writes let the next start cut it or trust it."""
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close({ORDERS: 5})
    del disk.files["data/.kafka_cleanshutdown"]
    disk.files["data/orders-0/00000000000000000000.log"][70] ^= 1
    for _ in range(3):
        again = open_dir(disk)
        assert list(again.offline_logs) == [ORDERS]
        again.close()
        assert disk.files["data/recovery-point-offset-checkpoint"] == b"0\n1\norders 0 5\n"
        assert disk.files["data/replication-offset-checkpoint"] == b"0\n1\norders 0 5\n"
        assert "data/.kafka_cleanshutdown" not in disk.files


def test_what_a_failed_sync_lost_is_written_again() -> None:
    """Reads show it, syncs find nothing to do, a power cut takes it: found by the simulation."""
    drive = Drive()

    def start() -> tuple[SimDisk, LogDir]:
        disk = SimDisk(drive, random.Random(1), Trace(lambda: 0.0))
        return disk, LogDir.open(
            "data", IDENTITY, lambda _: TINY, disk=disk, rng=random.Random(1), clock=Clock()
        )

    disk, log_dir = start()
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    append(log, batch_of(5))
    flush_now(disk, [log])
    append(log, batch_of(1))
    disk.faults.plan(Fault("sync_file_system", code=errno.ENOSYS, times=2))
    disk.faults.plan(Fault("sync", path_part=".log", loses_pending=True))
    with pytest.raises(OSError, match="EIO"):
        flush_now(disk, [log])
    log_dir.go_offline()
    disk.die()
    disk, log_dir = start()
    assert log_dir.sync_failed
    assert log_dir.logs[ORDERS].flushed_end_offset == 6
    disk.die()
    drive.power_cut(random.Random(1), CrashMode.DROP)
    assert start()[1].logs[ORDERS].log_end_offset == 6


def claimed(disk: MemoryDisk) -> LogDir:
    return LogDir.claim("data", IDENTITY, disk=disk, rng=random.Random(1), clock=Clock())


def test_a_claim_takes_the_directory_and_reads_no_log(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close()
    first = claimed(disk)
    assert first.logs == {}
    with pytest.raises(LogDirError, match="in use"):
        claimed(disk)
    first.close(is_clean=False)
    assert "data/.kafka_cleanshutdown" in disk.files, "nothing was opened, nothing is in doubt"


def test_logs_of_no_topic_are_left_as_they_are(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.logs[ORDERS].advance_start(2)
    log_dir.close({ORDERS: 5})
    disk.make_directory("data/__cluster_metadata-0")
    del disk.files["data/.kafka_cleanshutdown"]

    def partition_files() -> dict[str, bytes]:
        return {p: bytes(data) for p, data in disk.files.items() if "orders-0/" in p}

    before = partition_files()
    lines = {path: bytes(data) for path, data in disk.files.items() if "checkpoint" in path}
    for _ in range(2):
        again = claimed(disk)
        again.open_logs(lambda topic: None)
        assert again.logs == {}
        assert ORDERS in again.unowned
        again.close()
        assert partition_files() == before
        assert {path: disk.files[path] for path in lines} == lines
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["data/orders-0 belongs to no topic: left as it is, not served"] * 2


def test_a_topic_of_that_name_moves_them_away(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close({ORDERS: 5})
    again = claimed(disk)
    again.open_logs(lambda topic: None)
    assert again.create(ORDERS, OTHER_ID, TINY).log_end_offset == 0
    assert [name for name in disk.directories if name.endswith("-stray")]
    again.close({ORDERS: 0})
    assert disk.files["data/recovery-point-offset-checkpoint"] == b"0\n1\norders 0 0\n"


def test_delete_renames_first_and_removes_later(disk: MemoryDisk) -> None:
    clock = Clock()
    log_dir = open_dir(disk, clock=clock)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.delete(ORDERS)
    names = [name for name in disk.directories if name != "data"]
    assert len(names) == 1
    assert names[0].startswith("data/orders-0.")
    assert names[0].endswith("-delete")
    remove_deleted_of(log_dir)
    assert names[0] in disk.directories
    clock.now_ms += TINY.file_delete_delay_ms
    remove_deleted_of(log_dir)
    assert names[0] not in disk.directories
    assert disk.open_count == 0


def test_a_log_under_flush_is_not_closed(disk: MemoryDisk) -> None:
    clock = Clock()
    log_dir = open_dir(disk, clock=clock)
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    append(log, batch_of(5))
    work = log.begin_flush()
    log_dir.delete(ORDERS)
    clock.now_ms += TINY.file_delete_delay_ms
    remove_deleted_of(log_dir)
    for file in work.files:
        assert file.is_open  # type: ignore[attr-defined]
    log.finish_flush(work)
    remove_deleted_of(log_dir)
    assert disk.open_count == 0


def test_a_topic_made_anew_does_not_meet_the_old_ones_checkpoint(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    log_dir.close({ORDERS: 5})
    log_dir = open_dir(disk)
    log_dir.delete(ORDERS)
    log = log_dir.create(ORDERS, OTHER_ID, TINY)
    append(log, batch_of(1))
    flush_now(disk, [log])
    again = open_dir(disk.copy())
    assert again.logs[ORDERS].log_end_offset == 1
    assert again.topic_ids[ORDERS] == OTHER_ID


def test_a_directory_of_another_topic_id_becomes_a_stray(disk: MemoryDisk) -> None:
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    assert log_dir.create(ORDERS, TOPIC_ID, TINY).log_end_offset == 5
    assert log_dir.create(ORDERS, OTHER_ID, TINY).log_end_offset == 0
    assert [name for name in disk.directories if name.endswith("-stray")]
    again = open_dir(disk.copy())
    assert list(again.logs) == [ORDERS]


def test_left_over_deletions_are_finished(disk: MemoryDisk) -> None:
    open_dir(disk).close()
    name = "data/old-3." + "0a" * 16 + "-delete"
    disk.make_directory(name)
    disk.open(f"{name}/00000000000000000000.log", create=True).close()
    open_dir(disk)
    assert name not in disk.directories


def test_checkpoints_are_written_one_after_another(disk: MemoryDisk) -> None:
    offload = InlineOffload()
    log_dir = open_dir(disk)
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    outcomes: list[OSError | None] = []
    append(log, batch_of(5))
    flush_now(disk, [log])
    log_dir.write_checkpoints({ORDERS: 3}, offload, outcomes.append)
    log_dir.write_checkpoints({ORDERS: 5}, offload, outcomes.append)
    assert len(offload.waiting) == 1
    log.advance_start(2)
    offload.run()
    assert outcomes == [None, None]
    assert disk.files["data/replication-offset-checkpoint"] == b"0\n1\norders 0 5\n"
    assert disk.files["data/recovery-point-offset-checkpoint"] == b"0\n1\norders 0 5\n"
    assert disk.files["data/log-start-offset-checkpoint"] == b"0\n1\norders 0 2\n"
    disk.fail_at(1)
    log_dir.write_checkpoints({}, offload, outcomes.append)
    offload.run()
    assert isinstance(outcomes[-1], OSError)


@pytest.mark.parametrize("steps", range(4))
def test_a_namesake_meets_no_lines_however_far_a_checkpoint_is(
    disk: MemoryDisk, steps: int
) -> None:
    """Found by the simulation: a helper thread wrote the old lines after they were forgotten."""
    offload = InlineOffload()
    outcomes: list[OSError | None] = []
    log_dir = open_dir(disk)
    append(log_dir.create(ORDERS, TOPIC_ID, TINY), batch_of(5))
    flush_now(disk, [log_dir.logs[ORDERS]])
    log_dir.write_checkpoints({ORDERS: 5}, offload, outcomes.append)
    if steps == 3:  # a second one, which does not speak of it, is not there yet
        offload.run()
        log_dir.delete(ORDERS)
        log_dir.write_checkpoints({}, offload, outcomes.append)
    else:
        for _ in range(steps):
            offload.waiting.pop(0)()
        log_dir.delete(ORDERS)
    log_dir.create(ORDERS, Uuid(b"another topic id"), TINY)
    for _ in range(4):
        died = disk.copy()
        assert not open_dir(died).offline_logs
        assert open_dir(died.copy()).logs[ORDERS].log_end_offset == 0
        if offload.waiting:
            offload.waiting.pop(0)()
    assert outcomes
    assert outcomes == [None] * len(outcomes)
    assert b"orders 0 5" not in disk.files["data/recovery-point-offset-checkpoint"]


def test_a_thousand_logs_are_small(disk: MemoryDisk) -> None:
    import tracemalloc

    log_dir = open_dir(disk)
    config = LogConfig()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for partition in range(1_000):
        log_dir.create(TopicPartition("t", PartitionIndex(partition)), TOPIC_ID, config)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown / 1_000 < 15_000


@pytest.mark.parametrize("offset", [0, 7, 14, 25, 39])
def test_a_cut_below_the_recovery_point_can_be_interrupted_anywhere(
    offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start after it misses nothing that went on purpose: the lower point is written first."""
    disk = MemoryDisk()
    log_dir = open_dir(disk)
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    for sequence in range(20):
        append(log, batch_of(2, producer=(7, 0, 2 * sequence)))
    batches = read_all(log)
    log_dir.close({ORDERS: 40})
    log_dir = open_dir(disk)
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    images, call = [], disk.call

    def taken(*what: Any, **how: Any) -> bool:
        images.append(disk.copy())
        return call(*what, **how)

    monkeypatch.setattr(disk, "call", taken)
    log_dir.truncate(ORDERS, offset, 1_000)
    monkeypatch.undo()
    assert log.log_end_offset == log.flushed_end_offset == offset - offset % 2
    assert len(images) > 10
    for died in (*images, disk.copy()):
        again = open_dir(died)
        assert not again.offline_logs
        found = again.create(ORDERS, TOPIC_ID, TINY)
        assert offset - offset % 2 <= found.log_end_offset <= 40
        assert read_all(found) == batches[: found.log_end_offset // 2]

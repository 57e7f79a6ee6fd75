"""Small things that all storage tests need."""

import random
from typing import Any

from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import Bytes, Disk
from ottla.records.batch import BatchHeader, iterate_headers
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.storage.config import LogConfig
from ottla.storage.log import AppendInfo, Log
from ottla.storage.log_dir import LogDir
from ottla.storage.opening import Opening
from ottla.storage.recovery import open_log
from ottla.storage.removal import remove_directories

ORDERS = TopicPartition("orders", PartitionIndex(0))
DIRECTORY = "data/orders-0"
TINY = LogConfig(segment_bytes=600, segment_index_bytes=96, index_interval_bytes=100)


def batch_of(
    count: int,
    *,
    timestamp: int = 1_000,
    producer: tuple[int, int, int] = (-1, -1, -1),
    value: bytes = b"v" * 20,
    codec: int = 0,
) -> bytearray:
    """A sealed batch of `count` records, 1 ms apart; producer is (id, epoch, sequence)."""
    records = [Record(index, timestamp + index, b"k", value) for index in range(count)]
    producer_id, epoch, sequence = producer
    return build_batch(
        records,
        codec=codec,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


def headers_of(data: Bytes) -> list[BatchHeader]:
    return [header for _, header in iterate_headers(data)]


def append(log: Log, *batches: bytearray, leader_epoch: int = 0, now_ms: int = 1_000) -> AppendInfo:
    data = memoryview(bytearray(b"".join(batches)))
    return log.append(data, headers_of(data), leader_epoch=leader_epoch, now_ms=now_ms)


def make_log(disk: Disk, config: LogConfig = TINY, directory: str = DIRECTORY) -> Log:
    disk.make_directory(directory)
    log = Log(disk, random.Random(1), ORDERS, directory, config)
    log.start_at(0, 1_000)
    return log


def reopen(disk: Disk, config: LogConfig = TINY, *, is_clean: bool = False, **known: Any) -> Log:
    opening = Opening(disk, random.Random(1), 1_000, is_clean, 0, 0, 0, False)._replace(**known)
    return open_log(opening, ORDERS, DIRECTORY, config)


def delete_old_segments(log: Log, now_ms: int, high_watermark: int) -> int:
    """A turn of retention; how many segments went."""
    log.retire_old_segments(now_ms, high_watermark)
    return log.drop_retired(now_ms, log.log_start_offset)


def read_all(log: Log, end_offset: int | None = None, *, max_bytes: int = 1 << 20) -> list[bytes]:
    """Every batch from the log start on, read as a sequential consumer does."""
    end = log.log_end_offset if end_offset is None else end_offset
    offset, hint, batches = log.log_start_offset, None, []
    while (found := log.read(offset, max_bytes, end, hint=hint)) is not None:
        file, position, length = found.range
        data = file.pread(length, position)
        assert len(data) == length
        at = 0
        for at_batch, header in iterate_headers(data):
            assert at_batch == at
            batches.append(data[at : at + header.size_bytes])
            at += header.size_bytes
            offset = header.last_offset + 1
        assert at == length, "whole batches only"
        hint = found.hint
    return batches


def remove_deleted_of(log_dir: LogDir) -> None:
    """Whole logs that were deleted long enough ago."""
    paths = log_dir.take_deleted()
    remove_directories(log_dir.disk, log_dir.path, paths)
    log_dir.removed(paths)

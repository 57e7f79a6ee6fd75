"""A range is believed where its bytes and its neighbours say so, on files that are cut and batches
that stand at a wrong place."""

import pytest

from ottla.base.errors import CorruptionError
from ottla.records.batch import HEADER_BYTES
from ottla.storage.batch_walk import walk
from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.sound import OFFSET_MAX, SCAN_BYTES, RangeCheck

from .makers import batch_of
from .memory_disk import MemoryDisk, MemoryFile

PATH = "data/00000000000000000000.log"
SIZE = len(batch_of(1))


def made(disk: MemoryDisk) -> MemoryFile:
    disk.make_directory("data")
    return disk.open(PATH, create=True)


def batches(*offsets: int, value: bytes = b"v" * 20) -> bytearray:
    data = bytearray()
    for offset in offsets:
        batch = batch_of(1, value=value)
        batch[:8] = offset.to_bytes(8, "big")
        data += batch
    return data


def checked(
    disk: MemoryDisk, data: bytes, lead: int, position: int, length: int, size: int = -1
) -> None:
    made(disk).close()
    disk.files[PATH][:] = data
    told = len(data) if size < 0 else size
    check = RangeCheck(disk, PATH, lead, position, length, told, 0, OFFSET_MAX, LeaderEpochs())
    check.run()


def test_a_batch_larger_than_a_piece_is_read_whole(disk: MemoryDisk) -> None:
    data = batches(0) + batches(1, value=b"v" * SCAN_BYTES)
    checked(disk, data, 0, 0, len(data))
    data[-1] ^= 1
    with pytest.raises(CorruptionError, match="CRC"):
        checked(disk, data, 0, 0, len(data))


def test_a_file_that_is_gone_is_nobodys_concern(disk: MemoryDisk) -> None:
    RangeCheck(disk, "data/gone.log", 0, 0, SIZE, SIZE, 0, OFFSET_MAX, LeaderEpochs()).run()


def test_an_error_of_the_disk_names_the_file(disk: MemoryDisk) -> None:
    made(disk).close()
    disk.fail_at(2)
    with pytest.raises(OSError, match="planted") as caught:
        RangeCheck(disk, PATH, 0, 0, SIZE, SIZE, 0, OFFSET_MAX, LeaderEpochs()).run()
    assert caught.value.filename == PATH


def test_a_range_that_starts_within_a_batch(disk: MemoryDisk) -> None:
    with pytest.raises(CorruptionError, match="no batch starts there"):
        checked(disk, batches(0, 1, 2), 0, SIZE + 3, SIZE)


def test_a_file_that_was_cut_behind_the_range(disk: MemoryDisk) -> None:
    with pytest.raises(CorruptionError, match="torn header"):
        checked(disk, batches(0, 1), 0, 0, 2 * SIZE, size=3 * SIZE)


def test_a_walk_over_a_file_that_was_cut_meanwhile_ends(disk: MemoryDisk) -> None:
    file = made(disk)
    disk.files[PATH][:] = batches(0, 1)[: SIZE + HEADER_BYTES + 1]
    found = [(each.position, each.size_bytes, each.fault) for each in walk(file, 0, 2 * SIZE)]
    assert found == [(0, SIZE, ""), (SIZE, SIZE, "CRC")]

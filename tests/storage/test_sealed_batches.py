"""The batches of a sealed segment: read some at a time, and believed only with their CRC."""

import pytest

from ottla.base.errors import CorruptionError
from ottla.records import sieve
from ottla.records.batch import HEADER_BYTES, batch_crc, read_header
from ottla.records.control import Marker, build_marker
from ottla.storage.sealed_batches import (
    READ_BYTES_MIN,
    Batch,
    control_key,
    records_of,
    sealed_batches,
)

from .makers import batch_of
from .memory_disk import MemoryDisk, MemoryFile

PATH = "x.log"


def at_offset(offset: int, *, count: int = 1, size: int = 20, codec: int = 0) -> bytes:
    batch = batch_of(count, value=b"v" * size, codec=codec)
    batch[:8] = offset.to_bytes(8)
    return bytes(batch)


def of_bytes(offset: int, size_bytes: int) -> bytes:
    """A batch of so many bytes."""
    size = size_bytes - len(at_offset(offset, size=size_bytes)) + size_bytes
    batch = at_offset(offset, size=size)
    assert len(batch) == size_bytes
    return batch


def disk_with(data: bytes) -> MemoryDisk:
    disk = MemoryDisk()
    disk.files[PATH] = bytearray(data)
    return disk


def found_in(data: bytes, size_bytes: int | None = None, read_bytes: int = 0) -> list[Batch]:
    size = len(data) if size_bytes is None else size_bytes
    return list(sealed_batches(disk_with(data), PATH, size, read_bytes))


def test_batches_are_whole_wherever_a_read_ends() -> None:
    """In a batch, in a header, behind a header, and where one is longer than what is read."""
    for first in range(READ_BYTES_MIN - HEADER_BYTES - 5, READ_BYTES_MIN + 5):
        parts = [of_bytes(0, first), at_offset(1), of_bytes(2, 3 * READ_BYTES_MIN), at_offset(9)]
        found = found_in(b"".join(parts))
        assert [bytes(each.view) for each in found] == parts
        assert [each.position for each in found] == [
            sum(map(len, parts[:at])) for at in range(len(parts))
        ]
        assert [each.header.base_offset for each in found] == [0, 1, 2, 9]


@pytest.mark.parametrize("read_bytes", [0, READ_BYTES_MIN, 2 * READ_BYTES_MIN])
def test_little_is_read_twice(read_bytes: int) -> None:
    data = b"".join(at_offset(offset) for offset in range(400))
    disk = disk_with(data)
    list(sealed_batches(disk, PATH, len(data), read_bytes))
    reads = [name for name, _ in disk.calls if name == "pread"]
    at_once = max(read_bytes, READ_BYTES_MIN) - len(at_offset(0))
    assert len(reads) <= len(data) // at_once + 1
    assert disk.open_count == 0


def test_the_file_is_opened_for_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = disk_with(at_offset(0))

    def opened(path: str, *, read_only: bool = False) -> MemoryFile:
        assert read_only
        return MemoryFile(disk, path)

    monkeypatch.setattr(disk, "open", opened)
    assert len(list(sealed_batches(disk, PATH, len(disk.files[PATH]), 0))) == 1


def changed(batch: bytes, at: int, put: bytes, *, seal: bool = True) -> bytes:
    data = bytearray(batch)
    data[at : at + len(put)] = put
    if seal:
        data[17:21] = batch_crc(data, 0, len(data)).to_bytes(4)
    return bytes(data)


THREE = at_offset(3, count=2)


@pytest.mark.parametrize(
    "second, cause",
    [
        (at_offset(2), "offset 2 where 3 was due"),
        (THREE[: HEADER_BYTES - 1], "torn batch"),
        (THREE[:-1], "torn batch"),
        (changed(THREE, 8, (1 << 30).to_bytes(4), seal=False), "torn batch"),
        (changed(THREE, 8, (HEADER_BYTES - 13).to_bytes(4), seal=False), "torn batch"),
        (changed(THREE, 8, b"\xff\xff\xff\x00", seal=False), "torn batch"),
        (changed(THREE, 16, b"\1", seal=False), "magic 1"),
        (changed(THREE, 70, b"?", seal=False), "CRC"),
        (changed(THREE, 23, b"\xff" * 4), "offset 3 where 3 was due"),
        (changed(THREE, 57, b"\xff" * 4), "-1 records"),
    ],
)
def test_what_is_not_sound_is_told_with_its_place(second: bytes, cause: str) -> None:
    first = at_offset(0, count=3)
    disk = disk_with(first + second)
    walk = sealed_batches(disk, PATH, len(first + second), 0)
    assert next(walk).header.last_offset == 2
    with pytest.raises(CorruptionError) as caught:
        next(walk)
    error = caught.value
    assert error.cause == cause
    assert (error.path, error.position, error.size_bytes) == (PATH, len(first), len(second))
    assert disk.open_count == 0


def test_only_so_many_bytes_belong_to_the_segment() -> None:
    first, second = at_offset(0), at_offset(1)
    assert len(found_in(first + second, len(first))) == 1
    for size_bytes in (len(first) + 1, len(first) + HEADER_BYTES, len(first + second) - 1):
        with pytest.raises(CorruptionError, match="torn batch") as caught:
            found_in(first + second, size_bytes)
        assert caught.value.size_bytes == size_bytes - len(first)


def test_a_batch_of_no_records_is_sound() -> None:
    batch = at_offset(0, count=2)
    empty = bytes(sieve.empty_batch(read_header(batch)))
    assert len(empty) == HEADER_BYTES
    found = found_in(empty + at_offset(2))
    assert [each.header.record_count for each in found] == [0, 1]
    assert control_key(found[0]) is None


@pytest.mark.parametrize("codec", [0, 1, 4])
def test_records_that_cannot_be_read_are_told_with_their_batch(codec: int) -> None:
    first = at_offset(0)
    batch = at_offset(1, count=3, codec=codec)
    (_, sound) = found_in(first + batch)
    body, records = records_of(sound)
    assert [each.offset for each in records] == [1, 2, 3]
    assert len(body) > 60
    damaged = changed(batch, HEADER_BYTES, b"\xff" * 8)
    (_, each) = found_in(first + damaged)
    with pytest.raises(CorruptionError) as caught:
        list(records_of(each)[1])
    error = caught.value
    assert (error.path, error.position, error.size_bytes) == (PATH, len(first), len(damaged))


def test_the_key_of_a_control_batch() -> None:
    marker = build_marker(Marker(True, 3), producer_id=1, producer_epoch=0, timestamp=5)
    (each,) = found_in(bytes(marker))
    assert control_key(each) == b"\0\0\0\1"

"""Headers one after another: what is believed of them, and what is told where one is not."""

import pytest

from ottla.base.errors import CorruptionError
from ottla.records.batch import HEADER_BYTES
from ottla.storage.header_scan import OFFSET_DELTA_MAX, SCAN_BYTES, scan_headers

from .makers import batch_of
from .memory_disk import MemoryDisk


def scanned(data: bytes, base_offset: int = 0, position: int = 0) -> list[tuple[int, int]]:
    disk = MemoryDisk()
    disk.files["x.log"] = bytearray(data)
    found = scan_headers(disk.open("x.log"), base_offset, position, len(data))
    return [(at, header.base_offset) for at, header in found]


def at_offset(offset: int, size: int = 20) -> bytes:
    batch = batch_of(1, value=b"v" * size)
    batch[:8] = offset.to_bytes(8)
    return bytes(batch)


def test_batches_of_any_size_are_met_wherever_a_read_ends() -> None:
    """Some are longer than what is read at once, and headers lie across its end."""
    for size in range(SCAN_BYTES - 2 * HEADER_BYTES, SCAN_BYTES + 2 * HEADER_BYTES):
        first, second = at_offset(0, size), at_offset(5)
        assert scanned(first + second) == [(0, 0), (len(first), 5)]
        assert scanned(first + second, 1, len(first)) == [(len(first), 5)]


@pytest.mark.parametrize(
    "second",
    [
        at_offset(0),
        at_offset(OFFSET_DELTA_MAX + 1),
        at_offset(1)[: HEADER_BYTES - 1],
        at_offset(1)[:-1],
        bytes(HEADER_BYTES),
        at_offset(1)[:16] + b"\1" + at_offset(1)[17:],
        at_offset(1)[:23] + b"\xff" * 4 + at_offset(1)[27:],
    ],
    ids=["offset", "delta", "header", "torn", "zeros", "magic", "below its base"],
)
def test_what_is_no_header_is_told_with_all_that_stands_from_there_on(second: bytes) -> None:
    first = at_offset(0)
    with pytest.raises(CorruptionError, match="no batch header") as caught:
        scanned(first + second)
    error = caught.value
    assert (error.path, error.position, error.size_bytes) == ("x.log", len(first), len(second))


def test_the_last_offset_that_an_index_can_name() -> None:
    assert OFFSET_DELTA_MAX == 2**31 - 1
    assert scanned(at_offset(7 + OFFSET_DELTA_MAX), 7) == [(0, 7 + OFFSET_DELTA_MAX)]

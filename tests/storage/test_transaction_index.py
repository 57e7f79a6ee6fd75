"""The index of aborted transactions: its format, and what it tells a reader."""

import struct

import pytest

from ottla.base.errors import BugError, CorruptionError
from ottla.storage.transaction_index import (
    ENTRY_BYTES,
    AbortedTransaction,
    TransactionIndex,
    pack_entries,
)

from .memory_disk import MemoryDisk, MemoryFile

PATH = f"data/t-0/{100:020d}.txnindex"
FIRST = AbortedTransaction(7, 90, 120, 110)
SECOND = AbortedTransaction(8, 110, 130, 131)
THIRD = AbortedTransaction(7, 140, 150, 151)


@pytest.fixture
def index(disk: MemoryDisk) -> TransactionIndex:
    disk.make_directory("data/t-0")
    return TransactionIndex(disk, PATH, 100)


def fill(index: TransactionIndex, *entries: AbortedTransaction) -> None:
    for entry in entries:
        index.append(entry)


def test_the_bytes_of_an_entry(index: TransactionIndex, disk: MemoryDisk) -> None:
    fill(index, FIRST)
    assert disk.files[PATH] == struct.pack(">hqqqq", 0, 7, 90, 120, 110)
    assert ENTRY_BYTES == 34


def test_there_is_no_file_before_the_first_entry(index: TransactionIndex, disk: MemoryDisk) -> None:
    assert not index.exists
    assert index.entries() == []
    assert index.collect(0, 1_000) == index.collect(0, 1_000) == ([], False)
    index.truncate_to(5)
    index.reset()
    index.check_sanity()
    assert index.file is None
    assert PATH not in disk.files
    fill(index, FIRST)
    assert index.collect(0, 1_000) == ([FIRST], False)


def test_entries_are_read_again(index: TransactionIndex, disk: MemoryDisk) -> None:
    fill(index, FIRST, SECOND)
    assert index.entries() == [FIRST, SECOND]
    index.close()
    again = TransactionIndex(disk, PATH, 100)
    assert again.entries() == [FIRST, SECOND]
    fill(again, THIRD)
    assert again.entries() == [FIRST, SECOND, THIRD]
    again.check_sanity()
    again.close()
    assert disk.open_count == 0


def test_a_search_ends_where_later_ones_cannot_matter(index: TransactionIndex) -> None:
    fill(index, FIRST, SECOND, THIRD)
    assert index.collect(0, 105) == ([FIRST], True)
    assert index.collect(120, 131) == ([FIRST, SECOND], True)
    assert index.collect(121, 131) == ([SECOND], True)
    assert index.collect(121, 140) == ([SECOND], True)
    assert index.collect(121, 141) == ([SECOND, THIRD], True)
    assert index.collect(131, 135) == ([], True)
    assert index.collect(0, 151) == ([FIRST, SECOND, THIRD], True)
    assert index.collect(0, 152) == ([FIRST, SECOND, THIRD], False)


def test_who_reads_opens_nothing_for_writing(
    index: TransactionIndex, disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(index, FIRST)
    index.close()
    opened = []

    def noted(path: str, **options: bool) -> MemoryFile:
        opened.append(options)
        return MemoryFile(disk, path)

    monkeypatch.setattr(disk, "open", noted)
    assert index.entries() == [FIRST]
    assert opened == [{"read_only": True}]


def test_markers_come_in_order(index: TransactionIndex) -> None:
    fill(index, SECOND)
    with pytest.raises(BugError):
        index.append(FIRST)
    with pytest.raises(BugError):
        index.append(SECOND)


@pytest.mark.parametrize(("offset", "kept"), [(0, 0), (120, 0), (121, 1), (130, 1), (151, 3)])
def test_truncation(index: TransactionIndex, offset: int, kept: int) -> None:
    fill(index, FIRST, SECOND, THIRD)
    index.truncate_to(offset)
    assert index.entries() == [FIRST, SECOND, THIRD][:kept]
    again = AbortedTransaction(9, 121, 160, 161)
    index.append(again)
    assert index.entries()[-1] == again


def test_reset(index: TransactionIndex) -> None:
    fill(index, SECOND)
    index.reset()
    assert index.entries() == []
    fill(index, FIRST)
    assert index.entries() == [FIRST]


def test_a_torn_entry_is_written_over(index: TransactionIndex, disk: MemoryDisk) -> None:
    disk.files[PATH] = bytearray(pack_entries((FIRST, SECOND))[:-3])
    assert index.entries() == [FIRST]
    with pytest.raises(CorruptionError, match="half an entry"):
        index.check_sanity()
    fill(index, THIRD)
    assert disk.files[PATH] == pack_entries((FIRST, THIRD))


def test_a_write_that_fails_leaves_the_index_as_it_was(
    index: TransactionIndex, disk: MemoryDisk
) -> None:
    fill(index, FIRST)
    disk.fail_at(1)
    with pytest.raises(OSError, match="planted"):
        fill(index, SECOND)
    assert index.entries() == [FIRST]
    fill(index, THIRD)
    assert index.entries() == [FIRST, THIRD]


def test_an_unknown_version(index: TransactionIndex, disk: MemoryDisk) -> None:
    disk.files[PATH] = bytearray(pack_entries((FIRST, SECOND)))
    disk.files[PATH][35] = 1
    with pytest.raises(CorruptionError, match="version 1") as caught:
        index.entries()
    assert (caught.value.path, caught.value.position) == (PATH, 34)


def test_the_least_that_is_sane(index: TransactionIndex, disk: MemoryDisk) -> None:
    """Producer 0, from offset 0; its marker is the first batch of the segment."""
    disk.files[PATH] = bytearray(pack_entries([AbortedTransaction(0, 0, 100, 0)]))
    index.check_sanity()


@pytest.mark.parametrize(
    "entries",
    [
        [AbortedTransaction(7, 90, 99, 99)],
        [SECOND, FIRST],
        [AbortedTransaction(7, 121, 120, 121)],
        [AbortedTransaction(7, -1, 120, 121)],
        [AbortedTransaction(-1, 110, 120, 121)],
    ],
)
def test_sanity(
    index: TransactionIndex, disk: MemoryDisk, entries: list[AbortedTransaction]
) -> None:
    disk.files[PATH] = bytearray(pack_entries(entries))
    with pytest.raises(CorruptionError) as caught:
        index.check_sanity()
    assert caught.value.position == 34 * (len(entries) - 1)

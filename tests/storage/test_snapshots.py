import logging

import pytest

from ottla.storage.checkpoints import write_whole
from ottla.storage.names import SNAPSHOT, file_name, parse_file
from ottla.storage.producer_state import ProducerState
from ottla.storage.snapshots import Snapshots

from .makers import DIRECTORY
from .memory_disk import MemoryDisk


def taken(disk: MemoryDisk, *offsets: int) -> Snapshots:
    disk.make_directory(DIRECTORY)
    snapshots = Snapshots(disk, DIRECTORY)
    for offset in offsets:
        snapshots.take(ProducerState(), offset)
    return snapshots


def there(disk: MemoryDisk) -> list[int]:
    """Offsets of the files."""
    return [each.offset for each in map(parse_file, disk.list_directory(DIRECTORY)) if each]


def test_snapshots_up_to_an_offset(disk: MemoryDisk, caplog: pytest.LogCaptureFixture) -> None:
    disk.make_directory(DIRECTORY)
    assert Snapshots(disk, DIRECTORY).at_most(9)[1] == 0
    snapshots = taken(disk, 4, 8)
    assert snapshots.at_most(9)[1] == 8
    assert snapshots.at_most(8)[1] == 8
    assert snapshots.at_most(7)[1] == 4
    assert snapshots.at_most(3)[1] == 0
    write_whole(disk, f"{DIRECTORY}/{file_name(8, SNAPSHOT)}", b"damaged", sync=False)
    with caplog.at_level(logging.WARNING):
        assert snapshots.at_most(9)[1] == 4
    assert "producer snapshot passed over" in caplog.text


def test_the_newest_two_are_kept_and_none_is_synced(disk: MemoryDisk) -> None:
    assert taken(disk, 4, 8, 8, 15).offsets == [8, 15]
    assert there(disk) == [8, 15]
    assert "sync" not in [name for name, _ in disk.calls]


@pytest.mark.parametrize(
    ("start", "end", "newest", "left"),
    [
        (0, 9, 8, [4, 8]),
        (8, 8, 8, [4, 8]),
        (0, 7, 4, [4]),
        (4, 7, 4, [4]),
        (5, 7, 5, []),
    ],
)
def test_those_past_the_range_go(
    disk: MemoryDisk, start: int, end: int, newest: int, left: list[int]
) -> None:
    taken(disk, 4, 8)
    snapshots = Snapshots(disk, DIRECTORY)
    assert snapshots.newest(start, end)[1] == newest
    assert there(disk) == snapshots.offsets == left


def test_the_unsound_go(disk: MemoryDisk) -> None:
    taken(disk, 4, 8)
    write_whole(disk, f"{DIRECTORY}/{file_name(8, SNAPSHOT)}", b"damaged", sync=False)
    assert Snapshots(disk, DIRECTORY).newest(0, 9)[1] == 4
    assert there(disk) == [4]

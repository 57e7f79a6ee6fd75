from struct import Struct

from ottla.storage.index_walk import PIECE_ENTRIES, IndexPart, walk_index

from .memory_disk import MemoryDisk

ENTRY = Struct(">ii")
ROOM = bytes(3 * PIECE_ENTRIES * ENTRY.size)


def walked(disk: MemoryDisk, data: bytes, *, may_start_with_zeros: bool = False) -> list[IndexPart]:
    disk.make_directory("data")
    file = disk.open("data/index", create=True)
    disk.files["data/index"][:] = data
    return list(walk_index(file, ENTRY, may_start_with_zeros=may_start_with_zeros))


def test_room_of_several_pieces_is_one_part(disk: MemoryDisk) -> None:
    parts = walked(disk, ENTRY.pack(1, 2) + ROOM)
    assert parts == [IndexPart(0, 8, (1, 2)), IndexPart(8, len(ROOM), ())]


def test_an_entry_behind_room_is_seen(disk: MemoryDisk) -> None:
    end = len(ROOM)
    parts = walked(disk, ROOM + ENTRY.pack(3, 4) + b"torn")
    assert parts == [
        IndexPart(0, end, ()),
        IndexPart(end, 8, (3, 4)),
        IndexPart(end + 8, 4, ()),
    ]


def test_the_first_entry_may_be_of_zeros(disk: MemoryDisk) -> None:
    parts = walked(disk, bytes(8) + ENTRY.pack(1, 2), may_start_with_zeros=True)
    assert parts == [IndexPart(0, 8, (0, 0)), IndexPart(8, 8, (1, 2))]

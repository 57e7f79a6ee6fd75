from struct import Struct

from ottla.storage.index_walk import PIECE_ENTRIES, IndexPart, walk_index

from .memory_disk import MemoryDisk, MemoryFile

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


def test_room_alone_and_room_between_entries(disk: MemoryDisk) -> None:
    assert walked(disk, ROOM) == [IndexPart(0, len(ROOM), ())]
    parts = walked(disk, ENTRY.pack(1, 2) + bytes(16) + ENTRY.pack(3, 4))
    assert parts == [IndexPart(0, 8, (1, 2)), IndexPart(8, 16, ()), IndexPart(24, 8, (3, 4))]


def test_entries_of_several_pieces_are_all_seen(disk: MemoryDisk) -> None:
    count = 2 * PIECE_ENTRIES + 3
    parts = walked(disk, b"".join(ENTRY.pack(at + 1, at) for at in range(count)))
    assert [each.fields for each in parts] == [(at + 1, at) for at in range(count)]


def test_a_file_that_is_cut_meanwhile_is_walked_as_far_as_it_is_there(disk: MemoryDisk) -> None:
    class Cut(MemoryFile):
        def size(self) -> int:
            return 24

    disk.make_directory("data")
    disk.files["data/index"] = bytearray(ENTRY.pack(1, 2) + b"torn")
    assert list(walk_index(Cut(disk, "data/index"), ENTRY)) == [IndexPart(0, 8, (1, 2))]

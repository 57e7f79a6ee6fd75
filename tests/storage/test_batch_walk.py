"""What stands in a `.log` file of which some bytes are not what they were."""

from ottla.records import sieve
from ottla.records.batch import read_header
from ottla.storage.batch_walk import walk

from .makers import batch_of
from .memory_disk import MemoryDisk

SIZE = len(batch_of(1))


def walked(disk: MemoryDisk, data: bytes) -> list[tuple[int, int, str]]:
    disk.make_directory("data")
    file = disk.open("data/log", create=True)
    disk.files["data/log"][:] = data
    return [(each.position, each.size_bytes, each.fault) for each in walk(file, 0, len(data))]


def at(offset: int, *, is_sound: bool = True, value: bytes = b"v" * 20) -> bytes:
    batch = batch_of(1, value=value)
    batch[:8] = offset.to_bytes(8, "big")
    batch[-3] ^= not is_sound
    return bytes(batch)


def empty(offset: int) -> bytes:
    return bytes(sieve.empty_batch(read_header(at(offset))))


def test_sound_ones(disk: MemoryDisk) -> None:
    assert walked(disk, at(0) + empty(1) + at(2)) == [
        (0, SIZE, ""),
        (SIZE, 61, ""),
        (SIZE + 61, SIZE, ""),
    ]


def test_a_length_that_leads_on_is_believed(disk: MemoryDisk) -> None:
    """Where the next one is damaged as well; its offset may be the one that is due."""
    for last in (1, 2):
        data = at(0) + at(1, is_sound=False) + at(last, is_sound=False)
        assert walked(disk, data) == [(0, SIZE, ""), (SIZE, SIZE, "CRC"), (2 * SIZE, SIZE, "CRC")]


def test_a_length_that_leads_to_the_end_is_believed(disk: MemoryDisk) -> None:
    """Whatever batch the value of a record holds."""
    data = at(0, is_sound=False, value=at(0) + b"tail")
    assert walked(disk, data) == [(0, len(data), "CRC")]


def test_a_length_that_leads_nowhere_is_not(disk: MemoryDisk) -> None:
    lying = bytearray(at(1))
    lying[11] -= 5
    assert walked(disk, at(0) + bytes(lying) + at(2)) == [
        (0, SIZE, ""),
        (SIZE, SIZE, "CRC"),
        (2 * SIZE, SIZE, ""),
    ]


def test_bytes_that_are_no_batch(disk: MemoryDisk) -> None:
    assert walked(disk, at(0) + bytes(30) + at(1)) == [
        (0, SIZE, ""),
        (SIZE, 30, "magic 0"),
        (SIZE + 30, SIZE, ""),
    ]


def test_one_byte_before_a_batch(disk: MemoryDisk) -> None:
    assert walked(disk, bytes(1) + at(0)) == [(0, 1, "magic -1"), (1, SIZE, "")]


def test_one_byte_that_looks_like_a_header_with_what_follows(disk: MemoryDisk) -> None:
    """Length and epoch of the batch, a byte late, are a length and a magic."""
    batch = bytearray(at(0, value=b"v" * 0x5D00))
    batch[12:16] = (2).to_bytes(4, "big")
    assert walked(disk, bytes(1) + batch) == [(0, 1, "CRC"), (1, len(batch), "")]


def test_what_is_passed_is_not_met_again(disk: MemoryDisk) -> None:
    """The last byte of the first is the first of another sound one."""
    assert at(0)[-1:] == at(1)[:1]
    [first, (position, size, fault)] = walked(disk, at(0) + at(1)[1:])
    assert first == (0, SIZE, "")
    assert (position, size) == (SIZE, SIZE - 1)
    assert fault.startswith("magic ")


def test_what_is_passed_is_not_met_again_where_a_length_leads_nowhere(disk: MemoryDisk) -> None:
    """A byte late, the first of a CRC is the magic, and the length is 256 times what it is."""
    batches = (at(1, value=b"%020d" % number) for number in range(1 << 14))
    late = next(each for each in batches if each[17] == 2)[1:]
    rest = bytes(SIZE << 8)
    size = len(late) + len(rest)
    assert walked(disk, at(0) + late + rest) == [(0, SIZE, ""), (SIZE, size, "CRC")]


def test_the_smallest_batch_at_the_end_is_found(disk: MemoryDisk) -> None:
    assert walked(disk, bytes(1) + empty(0)) == [(0, 1, "magic -1"), (1, 61, "")]


def test_two_bytes_that_may_be_a_magic(disk: MemoryDisk) -> None:
    batch = bytearray(at(0))
    batch[12:16] = (2).to_bytes(4, "big")
    assert walked(disk, bytes(30) + batch) == [(0, 30, "magic 0"), (30, SIZE, "")]


def test_a_torn_end(disk: MemoryDisk) -> None:
    told = f"a batch of {SIZE} bytes where {SIZE - 3} are left"
    assert walked(disk, at(0) + at(1)[:-3])[1:] == [(SIZE, SIZE - 3, told)]
    assert walked(disk, at(0) + at(1)[:60])[1:] == [(SIZE, 60, "torn header")]


def test_an_offset_that_was_there_is_told(disk: MemoryDisk) -> None:
    [_, (_, _, fault)] = walked(disk, at(0) + at(0))
    assert fault

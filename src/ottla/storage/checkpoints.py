"""Small files that are replaced as a whole, and the text format of Kafka's offset checkpoints.

    0                                   version
    2                                   count of the lines that follow
    orders 0 17                         topic, partition, offset
    orders 1 4

A file is replaced by: write `<name>.tmp`, sync it, rename it over, sync the directory. Whoever
crashes in between leaves the old file whole. A file that does not parse is a CorruptionError:
the reader of it knows whether it can be built anew from something better.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from ottla.base.errors import CorruptionError
from ottla.base.ids import PartitionIndex, TopicPartition
from ottla.base.world import Disk
from ottla.storage.names import TEMPORARY

T = TypeVar("T")

VERSION: Final = "0"
CHECKPOINT_BYTES: Final = 64 << 20
"""Larger files are none of ours and are not read."""


def read_whole(disk: Disk, path: str) -> bytes:
    """All bytes of a small file; FileNotFoundError where there is none."""
    file = disk.open(path, read_only=True)
    try:
        size = file.size()
        if size > CHECKPOINT_BYTES:
            raise CorruptionError("too large for a checkpoint", path=path, size_bytes=size)
        return file.pread(size, 0)
    finally:
        file.close()


def write_whole(disk: Disk, path: str, data: bytes, *, sync: bool) -> None:
    """Make a file of `data`, in place of what it held."""
    file = disk.open(path, create=True)
    try:
        file.truncate(0)
        file.pwrite(data, 0)
        if sync:
            file.sync()
    finally:
        file.close()


def replace_whole(disk: Disk, path: str, data: bytes) -> None:
    """Replace a file, durably."""
    write_whole(disk, path + TEMPORARY, data, sync=True)
    disk.rename(path + TEMPORARY, path)
    disk.sync_directory(directory_of(path))


def directory_of(path: str) -> str:
    """The directory that `path` stands in."""
    above, slash, _ = path.rpartition("/")
    return above or slash or "."


def make_durable_directory(disk: Disk, path: str) -> None:
    """Make it, and sync the names of all that had to be made."""
    missing = []
    while path not in ("", ".", "/") and not disk.is_directory(path):
        missing.append(path)
        path = directory_of(path)
    if missing:
        disk.make_directory(missing[0])
    for each in missing:
        disk.sync_directory(directory_of(each))


def lines_text(lines: list[str]) -> bytes:
    return "\n".join([VERSION, str(len(lines)), *lines, ""]).encode()


def parse_lines(data: bytes, path: str, parse: Callable[[list[str]], T]) -> list[T]:
    """What `parse` makes of the words of each line; CorruptionError where the file is not so."""
    try:
        version, count, *lines = data.decode("ascii").split("\n")
        if version != VERSION:
            raise ValueError(f"version {version[:20]!r}")
        if lines.pop() or int(count) != len(lines):
            raise ValueError(f"{count[:20]} lines announced, {len(lines)} there")
        return [parse(line.split(" ")) for line in lines]
    except (ValueError, IndexError) as error:
        cause = f"not a checkpoint: {error}"
        raise CorruptionError(cause, path=path, size_bytes=len(data)) from error


def _parse_offset(words: list[str]) -> tuple[TopicPartition, int]:
    topic, partition, offset = words
    return TopicPartition(topic, PartitionIndex(int(partition))), int(offset)


def read_offsets(disk: Disk, path: str) -> dict[TopicPartition, int]:
    """The offsets of a checkpoint file, none where it is missing or, as Kafka makes it, empty."""
    try:
        data = read_whole(disk, path)
    except FileNotFoundError:
        return {}
    return {} if not data else dict(parse_lines(data, path, _parse_offset))


def offsets_text(offsets: Mapping[TopicPartition, int]) -> bytes:
    return lines_text(
        [f"{each.topic} {each.partition} {offset}" for each, offset in sorted(offsets.items())]
    )

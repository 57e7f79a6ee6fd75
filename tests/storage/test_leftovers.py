"""What a stop left half done: which files go, which take their place, and in what order."""

from ottla.storage.leftovers import clear_leftovers
from ottla.storage.names import (
    CLEANED,
    DELETED,
    LOG,
    OFFSET_INDEX,
    SNAPSHOT,
    SWAP,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
)
from ottla.storage.transaction_index import AbortedTransaction, pack_entries

from .makers import DIRECTORY, append, batch_of, make_log
from .memory_disk import MemoryDisk
from .test_rebuild import WIDE
from .test_transactions import data, end

KINDS = (LOG, OFFSET_INDEX, TIME_INDEX)


def name_of(base: int, kind: str) -> str:
    return file_name(base, kind)


def three_segments() -> MemoryDisk:
    """From 0, 5 and 7; each with batches, the first with two aborted transactions."""
    disk = MemoryDisk()
    log = make_log(disk, WIDE)
    data(log, 1, 0)
    end(log, 1)  # 1
    append(log, batch_of(1))
    data(log, 2, 0)
    end(log, 2)  # 4
    log.roll(1_000)
    append(log, batch_of(2))
    log.roll(1_000)
    append(log, batch_of(2))
    log.settle()
    log.close()
    return disk


def put(disk: MemoryDisk, base: int, kind: str, contents: bytes = b"any") -> None:
    disk.files[f"{DIRECTORY}/{name_of(base, kind)}"] = bytearray(contents)


def contents(disk: MemoryDisk, base: int, kind: str) -> bytes:
    return bytes(disk.files[f"{DIRECTORY}/{name_of(base, kind)}"])


def clear(disk: MemoryDisk) -> list[str]:
    """What is there afterwards, besides what a stop leaves anyway."""
    disk.calls.clear()
    found = clear_leftovers(disk, DIRECTORY, disk.list_directory(DIRECTORY))
    assert found == disk.list_directory(DIRECTORY)
    assert disk.open_count == 0
    return found


def steps(disk: MemoryDisk) -> list[str]:
    """Removals, renames and syncs of the directory, in their order."""
    told = {"remove": "remove ", "rename": "rename "}
    return [
        "sync" if name == "sync_directory" else told[name] + path.removeprefix(f"{DIRECTORY}/")
        for name, path in disk.calls
        if name in told or (name, path) == ("sync_directory", DIRECTORY)
    ]


def swapped(disk: MemoryDisk) -> bytes:
    """What the first two segments become one of: the transaction of producer 1 is gone."""
    first, second = (contents(disk, base, LOG) for base in (0, 5))
    return first[_end_of(first, 2) :] + second


def _end_of(log: bytes, count: int) -> int:
    at = 0
    for _ in range(count):
        at += 12 + int.from_bytes(log[at + 8 : at + 12])
    return at


def test_nothing_is_done_where_nothing_is_left() -> None:
    disk = three_segments()
    names = disk.list_directory(DIRECTORY)
    disk.calls.clear()
    assert clear_leftovers(disk, DIRECTORY, names) is names
    assert disk.calls == []


def test_what_is_on_its_way_in_or_out_goes() -> None:
    disk = three_segments()
    before = disk.list_directory(DIRECTORY)
    for base, kind in ((0, LOG + CLEANED), (0, OFFSET_INDEX + CLEANED), (5, LOG + DELETED)):
        put(disk, base, kind)
    put(disk, 5, TIME_INDEX + SWAP)
    put(disk, 3, OFFSET_INDEX)  # its log is gone
    put(disk, 3, SNAPSHOT)  # which stands by itself
    disk.files[f"{DIRECTORY}/leader-epoch-checkpoint.tmp"] = bytearray()
    assert clear(disk) == sorted([*before, name_of(3, SNAPSHOT)])


def test_a_swap_takes_the_place_of_all_in_its_range_step_by_step() -> None:
    disk = three_segments()
    before = disk.list_directory(DIRECTORY)
    log = swapped(disk)
    put(disk, 0, LOG + SWAP, log)
    put(disk, 0, OFFSET_INDEX + SWAP, b"\1" * 80)
    assert clear(disk) == [
        each for each in before if name_of(5, "") not in each or SNAPSHOT in each
    ]
    assert contents(disk, 0, LOG) == log
    assert contents(disk, 0, OFFSET_INDEX) == b""
    assert len(contents(disk, 0, TIME_INDEX)) == 12
    removed = [f"remove {name_of(5, kind)}" for kind in sorted(KINDS)]
    renamed = [f"rename {name_of(0, kind + SWAP)}" for kind in (OFFSET_INDEX, TIME_INDEX)]
    txn = name_of(0, TRANSACTION_INDEX)
    assert steps(disk) == [
        "sync",
        *removed,
        "sync",
        f"rename {txn}{SWAP}.tmp",
        "sync",
        f"rename {txn}{SWAP}",
        *renamed,
        "sync",
        f"rename {name_of(0, LOG + SWAP)}",
        "sync",
    ]


def test_of_a_transaction_index_the_markers_that_are_there_stay() -> None:
    disk = three_segments()
    both = contents(disk, 0, TRANSACTION_INDEX)
    first, second = (AbortedTransaction(1, 0, 1, 2), AbortedTransaction(2, 3, 4, 5))
    assert both == pack_entries((first, second))
    put(disk, 0, LOG + SWAP, swapped(disk))
    clear(disk)
    assert contents(disk, 0, TRANSACTION_INDEX) == pack_entries((second,))


def test_an_index_that_cannot_be_read_tells_of_none() -> None:
    disk = three_segments()
    put(disk, 0, TRANSACTION_INDEX, b"\7" * 68)
    put(disk, 0, LOG + SWAP, swapped(disk))
    clear(disk)
    assert contents(disk, 0, TRANSACTION_INDEX) == b""


def test_the_transaction_index_that_compaction_made_is_taken() -> None:
    disk = three_segments()
    made = pack_entries([AbortedTransaction(2, 3, 4, 5)])
    put(disk, 0, TRANSACTION_INDEX, pack_entries([AbortedTransaction(2, 0, 4, 5)]))
    put(disk, 0, TRANSACTION_INDEX + SWAP, made)
    put(disk, 0, LOG + SWAP, swapped(disk))
    clear(disk)
    assert contents(disk, 0, TRANSACTION_INDEX) == made


def test_without_an_index_none_is_made() -> None:
    disk = three_segments()
    del disk.files[f"{DIRECTORY}/{name_of(0, TRANSACTION_INDEX)}"]
    put(disk, 0, LOG + SWAP, swapped(disk))
    assert name_of(0, TRANSACTION_INDEX) not in clear(disk)


def test_what_the_swap_replaces_may_be_gone_already() -> None:
    disk = three_segments()
    log = swapped(disk)
    for path in [path for path in disk.files if f"{0:020d}" in path or f"{5:020d}" in path]:
        del disk.files[path]
    put(disk, 0, LOG + SWAP, log)
    put(disk, 0, OFFSET_INDEX)  # which is no log
    put(disk, 0, LOG + CLEANED)  # of a later pass, were it not that this one is all there is
    clear(disk)
    assert contents(disk, 0, LOG) == log


def test_a_swap_of_a_split_that_did_not_end_goes_before_what_tells_of_it() -> None:
    """Something `.cleaned` stands at or below it, and what it replaces is there."""
    for cleaned in (0, 5):
        disk = three_segments()
        before = {path: bytes(data) for path, data in disk.files.items()}
        put(disk, 5, LOG + SWAP, contents(disk, 5, LOG))
        put(disk, 5, OFFSET_INDEX + SWAP)
        put(disk, 7, OFFSET_INDEX + DELETED)
        put(disk, cleaned, LOG + CLEANED)
        clear(disk)
        assert {path: bytes(data) for path, data in disk.files.items()} == before
        told = steps(disk)
        assert sorted(told[:2]) == sorted(
            f"remove {name_of(5, kind + SWAP)}" for kind in (LOG, OFFSET_INDEX)
        )
        assert told[2] == "sync"
        assert f"remove {name_of(cleaned, LOG + CLEANED)}" in told[3:]


def test_what_is_cleaned_above_a_swap_does_not_hold_it() -> None:
    disk = three_segments()
    log = swapped(disk)
    put(disk, 0, LOG + SWAP, log)
    put(disk, 7, LOG + CLEANED)
    clear(disk)
    assert contents(disk, 0, LOG) == log

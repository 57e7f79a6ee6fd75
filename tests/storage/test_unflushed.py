"""What a flush is given, and that it is given it once."""

import pytest

from ottla.storage.leader_epochs import LeaderEpochs
from ottla.storage.names import LEADER_EPOCHS, PARTITION_METADATA
from ottla.storage.segment import Segment
from ottla.storage.transaction_index import AbortedTransaction
from ottla.storage.unflushed import FlushWork, Unflushed

from .makers import DIRECTORY, TINY, batch_of, headers_of
from .memory_disk import MemoryDisk


def segment_at(disk: MemoryDisk, base_offset: int, *, count: int = 1) -> Segment:
    disk.make_directory(DIRECTORY)
    segment = Segment(disk, DIRECTORY, base_offset, TINY, size_bytes=0)
    segment.make()
    if count:
        batch = batch_of(count)
        segment.append(memoryview(batch), headers_of(batch), base_offset)
    return segment


def taken(
    unflushed: Unflushed,
    active: Segment,
    epochs: LeaderEpochs | None = None,
    *,
    settled: bool = False,
) -> FlushWork:
    return unflushed.take(active, epochs or LeaderEpochs(), 9, is_settled=settled)


def names(work: FlushWork) -> list[str]:
    return [file.path.removeprefix(f"{DIRECTORY}/").lstrip("0") for file in work.files]


@pytest.mark.parametrize(
    ("settled", "count", "wanted"),
    [
        (False, 1, [".log"]),
        (True, 1, [".log", ".index", ".timeindex"]),
        (True, 0, [".log"]),
        (False, 0, [".log"]),
    ],
)
def test_indexes_of_the_active_segment_when_they_are_settled(
    disk: MemoryDisk, settled: bool, count: int, wanted: list[str]
) -> None:
    active = segment_at(disk, 0, count=count)
    assert names(taken(Unflushed(), active, settled=settled)) == wanted


def test_small_files_once(disk: MemoryDisk) -> None:
    active, unflushed, epochs = segment_at(disk, 0), Unflushed(), LeaderEpochs()
    unflushed.metadata = b"metadata"
    epochs.assign(3, 0)
    assert taken(unflushed, active, epochs).replacements == [
        (f"{DIRECTORY}/{PARTITION_METADATA}", b"metadata"),
        (f"{DIRECTORY}/{LEADER_EPOCHS}", epochs.text()),
    ]
    assert taken(unflushed, active, epochs).replacements == []


def test_rolled_segments_and_transaction_indexes_once(disk: MemoryDisk) -> None:
    first, second, active = (segment_at(disk, base) for base in (1, 2, 3))
    unflushed = Unflushed()
    unflushed.add_rolled(first)
    for offset, segment in enumerate((first, second, first)):
        segment.transaction_index.append(AbortedTransaction(7, 0, offset, 0))
        unflushed.add_indexed(segment)
    work = taken(unflushed, active)
    rolled = ["1.log", "1.index", "1.timeindex"]
    assert names(work) == [*rolled, "3.log", "1.txnindex", "2.txnindex"]
    assert (work.rolled, work.directories) == ([first], [DIRECTORY])
    assert (work.active, work.position, work.end_offset) == (active, active.size_bytes, 9)
    work = taken(unflushed, active)
    assert names(work) == ["3.log"]
    assert (work.rolled, work.directories) == ([], [])


def test_a_segment_that_went_is_not_flushed(disk: MemoryDisk) -> None:
    first, second, active = (segment_at(disk, base) for base in (1, 2, 3))
    unflushed = Unflushed()
    for segment in (first, second):
        segment.transaction_index.append(AbortedTransaction(7, 0, 0, 0))
        unflushed.add_rolled(segment)
        unflushed.add_indexed(segment)
    unflushed.drop(first)
    assert unflushed.rolled == unflushed.indexed == [second]
    assert names(taken(unflushed, active))[-1] == "2.txnindex"


def test_a_new_name_makes_its_directory_wanted(disk: MemoryDisk) -> None:
    segment = segment_at(disk, 0)
    for add in (Unflushed.add_rolled, Unflushed.add_indexed):
        unflushed = Unflushed()
        add(unflushed, segment)
        assert unflushed.directories == [DIRECTORY]
        unflushed.add_directory(DIRECTORY)
        add(unflushed, segment)
        assert unflushed.directories == [DIRECTORY, "data"]
        unflushed.forget_names()
        assert unflushed.directories == []

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.base.errors import CorruptionError
from ottla.storage.checkpoints import replace_whole
from ottla.storage.leader_epochs import LeaderEpochs, read_leader_epochs

from .makers import append, batch_of, make_log
from .memory_disk import MemoryDisk


def book(*entries: tuple[int, int]) -> LeaderEpochs:
    epochs = LeaderEpochs()
    for epoch, offset in entries:
        epochs.assign(epoch, offset)
    return epochs


def test_end_of() -> None:
    epochs = book((2, 0), (5, 10), (9, 25))
    # KIP-279: the largest epoch that is known and not past the one asked for.
    assert epochs.end_of(9, 40) == (9, 40)
    assert epochs.end_of(5, 40) == (5, 25)
    assert epochs.end_of(7, 40) == (5, 25)
    assert epochs.end_of(2, 40) == (2, 10)
    assert epochs.end_of(1, 40) == (1, 0)
    assert epochs.end_of(10, 40) == (-1, -1)
    assert epochs.end_of(-1, 40) == (-1, -1)
    assert book().end_of(0, 0) == (-1, -1)
    assert book((0, 0), (5, 10)).end_of(0, 40) == (0, 10)
    assert book((0, 0)).end_of(0, 40) == (0, 40)


def test_what_is_not_known() -> None:
    assert book().latest == -1
    assert book((3, 7)).epoch_of(6) == -1


def test_a_cut_that_changes_nothing_is_not_written() -> None:
    for cut, is_dirty in ((4, False), (5, False), (6, True), (9, True)):
        epochs = book((1, 5), (2, 9))
        epochs.is_dirty = False
        epochs.truncate_start(cut)
        assert epochs.is_dirty == is_dirty, cut
    for cut, is_dirty in ((10, False), (9, True)):
        epochs = book((1, 5), (2, 9))
        epochs.is_dirty = False
        epochs.truncate_end(cut)
        assert epochs.is_dirty == is_dirty, cut


def test_an_epoch_that_wrote_nothing_gives_way() -> None:
    assert book((1, 0), (2, 7), (3, 7)).entries == [(1, 0), (3, 7)]
    assert book((3, 7), (2, 9), (3, 9)).entries == [(3, 7)]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40))), st.integers(0, 45))
def test_the_book_ascends_and_is_cut(entries: list[tuple[int, int]], cut: int) -> None:
    def ascends(epochs: LeaderEpochs) -> bool:
        epoch_column = [each.epoch for each in epochs.entries]
        start_column = [each.start_offset for each in epochs.entries]
        return all(
            column == sorted(dict.fromkeys(column)) for column in (epoch_column, start_column)
        )

    epochs = book(*entries)
    assert ascends(epochs)
    before = {offset: epochs.epoch_of(offset) for offset in range(46)}
    epochs.truncate_start(cut)
    assert ascends(epochs)
    assert all(epochs.epoch_of(offset) == before[offset] for offset in range(cut, 46))
    assert all(each.start_offset >= cut for each in epochs.entries)
    epochs = book(*entries)
    epochs.truncate_end(cut)
    assert all(epochs.epoch_of(offset) == before[offset] for offset in range(cut))
    assert all(each.start_offset < cut for each in epochs.entries)


def test_the_file(disk: MemoryDisk) -> None:
    disk.make_directory("data")
    path = "data/leader-epoch-checkpoint"
    assert read_leader_epochs(disk, path) is None
    replace_whole(disk, path, book((0, 0), (5, 4711)).text())
    assert disk.files[path] == b"0\n2\n0 0\n5 4711\n"
    found = read_leader_epochs(disk, path)
    assert found is not None
    assert found.entries == [(0, 0), (5, 4711)]
    assert not found.is_dirty
    for content in (
        b"0\n1\n5\n",
        b"0\n2\n5 4\n3 9\n",
        b"0\n2\n5 4\n5 9\n",
        b"0\n2\n5 4\n6 4\n",
        b"0\n1\n5 4",
        b"0\n2\n5 4\n",
    ):
        disk.files[path] = bytearray(content)
        with pytest.raises(CorruptionError):
            read_leader_epochs(disk, path)


def test_a_log_keeps_its_book(disk: MemoryDisk) -> None:
    log = make_log(disk)
    for epoch in (1, 1, 4, 6):
        append(log, batch_of(2), leader_epoch=epoch)
    assert [log.epoch_end(epoch) for epoch in (1, 2, 4, 6, 7)] == [
        (1, 4),
        (1, 4),
        (4, 6),
        (6, 8),
        (-1, -1),
    ]
    log.truncate_to(5, 1_000)
    assert log.epoch_end(4) == (-1, -1)
    assert log.log_end_offset == 4

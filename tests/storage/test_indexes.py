import errno
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.storage import index_file
from ottla.storage.offset_index import OffsetIndex
from ottla.storage.time_index import TimeEntry, TimeIndex

from .memory_disk import MemoryDisk, MemoryFile

PATH = "data/x.index"
STEPS = st.lists(st.integers(1, 9), max_size=40)


def place() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directory("data")
    return disk


@pytest.fixture(autouse=True, scope="module", params=[1, 40, 1 << 10])
def gathered(request: pytest.FixtureRequest) -> Iterator[None]:
    """How many bytes of entries gather before they are written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_file, "GATHERED_BYTES", request.param)
        yield


def ascending(start: int, steps: list[int]) -> list[int]:
    values = []
    for step in steps:
        start += step
        values.append(start)
    return values


@given(STEPS, st.data())
def test_the_offset_index_answers_like_a_list(steps: list[int], data: st.DataObject) -> None:
    index = OffsetIndex(place(), PATH, 100, 8 * 50)
    offsets, positions = ascending(100, steps), ascending(0, [step * 70 for step in steps])
    for offset, position in zip(offsets, positions, strict=True):
        index.add(offset, position)
    pairs = list(zip(offsets, positions, strict=True))
    for offset in range(99, 100 + sum(steps) + 2):
        assert index.floor(offset) == max([p for o, p in pairs if o <= offset], default=0)
    for position in range(0, sum(steps) * 70 + 100, 35):
        assert index.floor_position(position) == max(
            [p for p in positions if p <= position], default=0
        )
    assert index.last_position() == (positions[-1] if positions else 0)
    for back in range(len(positions) + 3):
        assert index.position_back(back) == (positions[-1 - back] if back < len(positions) else 0)
    end = data.draw(st.integers(100, 100 + sum(steps) + 1))
    index.truncate_to(end)
    kept = [p for o, p in pairs if o < end]
    assert (index.count, index.last_position()) == (len(kept), kept[-1] if kept else 0)
    index.trim()
    assert len(index.disk.files[PATH]) == 8 * len(kept)  # type: ignore[attr-defined]
    index.close()
    again = OffsetIndex(index.disk, PATH, 100, 8 * 50)
    assert (again.count, again.last_position()) == (index.count, index.last_position())


@given(STEPS, st.data())
def test_the_time_index_answers_like_a_list(steps: list[int], data: st.DataObject) -> None:
    index = TimeIndex(place(), PATH, 5, 12 * 50)
    entries = [
        TimeEntry(*each) for each in zip(ascending(1_000, steps), ascending(5, steps), strict=True)
    ]
    for each in entries:
        index.maybe_add(*each)
        index.maybe_add(each.timestamp, each.offset + 1)
    none = TimeEntry(-1, 5)
    for timestamp in range(999, 1_002 + sum(steps)):
        assert index.floor(timestamp) == max(
            [each for each in entries if each.timestamp <= timestamp], default=none
        )
    assert index.last == (entries[-1] if entries else none)
    end = data.draw(st.integers(5, 6 + sum(steps)))
    index.truncate_to(end)
    kept = [each for each in entries if each.offset < end]
    assert (index.count, index.last) == (len(kept), kept[-1] if kept else none)


def test_a_time_index_that_is_reset_knows_no_time() -> None:
    times = TimeIndex(place(), "data/x.timeindex", 5, 120)
    times.maybe_add(1_000, 7)
    times.reset()
    assert (times.count, times.last) == (0, (-1, 5))
    times.maybe_add(900, 6)
    assert times.last == (900, 6)


def test_the_bytes_are_kafkas() -> None:
    disk = place()
    index = OffsetIndex(disk, PATH, 1_000, 1_001)
    index.add(1_007, 4_200)
    assert index.last_position() == 4_200
    assert disk.files[PATH] == (7).to_bytes(4) + (4_200).to_bytes(4) + bytes(992)
    times = TimeIndex(disk, "data/x.timeindex", 1_000, 30)
    times.maybe_add(1_700_000_000_000, 1_007)
    assert times.floor(0).timestamp == -1
    assert disk.files["data/x.timeindex"] == (
        (1_700_000_000_000).to_bytes(8) + (7).to_bytes(4) + bytes(12)
    )


def test_an_index_makes_no_file_before_its_first_entry_and_no_view_outlives_a_cut() -> None:
    disk = place()
    index = OffsetIndex(disk, PATH, 0, 80)
    assert index.floor(5) == 0
    assert PATH not in disk.files
    index.add(3, 70)
    assert index.floor(5) == 70
    # A view that were still alive would make these a BufferError.
    index.trim()
    index.add(9, 140)
    assert index.floor(9) == 140
    index.truncate(1)
    index.reset()
    index.close()
    assert disk.open_count == 0


@given(st.integers(1, 40), st.booleans(), st.integers(1, 30), st.integers(0, 30))
def test_a_call_that_fails_leaves_entries_of_before_or_after(
    call: int, for_good: bool, count: int, kept: int
) -> None:
    """A truncation and an entry behind it; one call of them fails, or all from there on. Then a
    clean stop. What was not written yet may go with the truncation that failed."""
    disk = place()
    index = OffsetIndex(disk, PATH, 0, 800)
    for offset in range(1, count + 1):
        index.add(offset, offset * 70)
    before = index.count
    disk.fail_at(call, for_good=for_good)
    with suppress(OSError):
        index.truncate_to(kept + 1)
    before = min(before, index.count)
    with suppress(OSError):
        index.add(50, 50 * 70)
    disk.fail_at(0)
    index.trim()
    index.close()
    found = OffsetIndex(disk, PATH, 0, 800)
    offsets = [offset for offset in range(1, 51) if found.floor(offset) == offset * 70]
    assert len(offsets) == found.count
    assert [each for each in offsets if each < 50] == list(range(1, before + 1))
    assert before >= min(count, kept)


def test_an_index_that_was_closed_untrimmed_takes_more() -> None:
    disk = place()
    index = OffsetIndex(disk, PATH, 0, 80)
    index.add(3, 70)
    assert index.floor(3) == 70
    index.close()
    index.add(5, 140)
    assert [index.floor(offset) for offset in (2, 3, 4, 5)] == [0, 70, 70, 140]
    assert len(disk.files[PATH]) == 80


def test_entries_do_not_gather_without_bound() -> None:
    """Nobody searches, and yet they are written some at a time."""
    index = OffsetIndex(place(), PATH, 0, 8_000)
    for offset in range(1, 1_000):
        index.add(offset, offset * 70)
    entries = struct.iter_unpack(">ii", index.disk.files[PATH])  # type: ignore[attr-defined]
    written = [position for _, position in entries if position]
    assert 8 * (999 - len(written)) < index_file.GATHERED_BYTES


@pytest.mark.parametrize("is_open", [True, False])
def test_what_is_reset_is_empty_for_whoever_opens_it_next(is_open: bool) -> None:
    disk = place()
    index = OffsetIndex(disk, PATH, 0, 800)
    index.add(3, 70)
    index.trim()
    if not is_open:
        index.close()
    index.reset()
    index.close()
    assert OffsetIndex(disk, PATH, 0, 800).count == 0
    assert not disk.files[PATH]


def test_an_index_that_is_reset_under_a_flush_stays_open() -> None:
    disk = place()
    index = OffsetIndex(disk, PATH, 0, 800)
    index.add(3, 70)
    index.trim()
    file = index.file
    index.reset()
    index.add(5, 140)
    index.trim()
    assert index.file is file
    assert len(disk.files[PATH]) == 8


@pytest.mark.parametrize("is_open", [True, False])
def test_a_search_needs_no_room_on_the_disk(monkeypatch: pytest.MonkeyPatch, is_open: bool) -> None:
    index = OffsetIndex(place(), PATH, 0, 800)
    index.add(3, 70)
    assert index.floor(5) == 70  # it is written, and the file preallocated
    if not is_open:
        index.trim()
        index.close()

    def full(_: object, data: bytes | int, *__: object) -> None:
        """The error's frame holds a view, as that of a short write does."""
        view = None if isinstance(data, int) else memoryview(data)
        raise OSError(errno.ENOSPC, "planted", view)

    monkeypatch.setattr(MemoryFile, "pwrite", full)
    monkeypatch.setattr(MemoryFile, "truncate", full)
    entries = [(3, 70)]
    for offset in range(4, 20):
        try:
            index.add(offset, offset * 70)
        except OSError:
            index.truncate_to(offset)
        else:
            entries.append((offset, offset * 70))
        found = [index.floor(each) for each, _ in entries]
        assert found == [position for _, position in entries]
    monkeypatch.undo()
    index.trim()
    assert index.floor(20) == entries[-1][1]
    index.close()
    assert index.count == len(index.disk.files[PATH]) // 8  # type: ignore[attr-defined]

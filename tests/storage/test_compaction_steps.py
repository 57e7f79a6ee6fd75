"""How a pass of compaction goes: in steps of about a millisecond, its bytes told and synced some at
a time, its names durable before its log is told of."""

from dataclasses import replace

import pytest

from ottla.base.errors import CorruptionError
from ottla.records.batch import read_header
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.storage import compaction as compaction_module
from ottla.storage.compaction import Compaction, LastBatch, Source
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.names import (
    CLEANED,
    LOG,
    OFFSET_INDEX,
    SWAP,
    TIME_INDEX,
    TRANSACTION_INDEX,
    file_name,
)
from ottla.storage.offset_map import SLOT_BYTES

from .compacting import start_pass
from .makers import DIRECTORY, append, make_log
from .memory_disk import MemoryDisk
from .test_transactions import data, end

WIDE = LogConfig(segment_bytes=1 << 24, is_compacted=True, min_cleanable_dirty_ratio=0.0)


INDEXED = replace(WIDE, index_interval_bytes=0)
"""Each batch behind the first of its segment has an entry."""


def sealed(*segments: list[bytearray], config: LogConfig = WIDE) -> Log:
    """A log of these segments, flushed, and an active one with one batch."""
    log = make_log(MemoryDisk(), config)
    for batches in segments:
        for batch in batches:
            append(log, batch)
        log.roll(1_000)
    append(log, keyed(b"last"))
    flush_now(log.disk, [log])
    return log


def keyed(key: bytes, size: int = 20, timestamp: int = 1_000) -> bytearray:
    return build_batch([Record(0, timestamp, key, b"v" * size)])


def begun(log: Log, **options: int) -> Compaction:
    started = start_pass(log, 5_000, **options)
    assert started is not None
    return started[0]


def test_a_step_is_so_many_records_and_batches() -> None:
    """A batch counts as one, and one more for each KiB; a record as one. 400 are a step."""
    log = sealed([keyed(b"%05d" % number) for number in range(1_100)])
    size = log.segments[0].size_bytes // 1_100
    compaction = begun(log)
    assert list(compaction.survey()) == [200 * size] * 5 + [100 * size]
    steps = list(compaction.clean())
    assert steps[:5] == [200 * 2 * size] * 5
    assert sum(steps) == 1_100 * 2 * size


@pytest.mark.parametrize(("kib", "steps"), [(40, 1), (38, 1), (37, 0)])
def test_kibibytes_count(kib: int, steps: int) -> None:
    """With its record, a batch of 38 KiB counts as 40: ten are a step."""
    log = sealed([keyed(b"%05d" % number, kib << 10) for number in range(10)])
    assert len(list(begun(log).survey())) == steps + 1


def test_what_is_made_is_synced_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log = sealed([keyed(b"%05d" % number) for number in range(50)])
    size = log.segments[0].size_bytes // 50
    monkeypatch.setattr(compaction_module, "SYNC_BYTES", 10 * size)
    compaction, disk = begun(log), log.disk
    list(compaction.survey())
    disk.calls.clear()  # type: ignore[attr-defined]
    list(compaction.clean())
    path = f"{DIRECTORY}/{file_name(0, LOG + CLEANED)}"
    syncs = [call for call in disk.calls if call == ("sync", path)]  # type: ignore[attr-defined]
    assert len(syncs) == 50 // 11 + 1


def test_files_are_synced_before_their_names_and_names_before_it_is_told() -> None:
    log = sealed([keyed(b"k"), keyed(b"k")])
    compaction, disk = begun(log), log.disk
    list(compaction.survey())
    disk.calls.clear()  # type: ignore[attr-defined]
    list(compaction.clean())
    told = [
        (name, path.removeprefix(f"{DIRECTORY}/"))
        for name, path in disk.calls  # type: ignore[attr-defined]
        if name in ("sync", "rename", "sync_directory")
    ]
    assert told == [
        *(("sync", file_name(0, kind + CLEANED)) for kind in (LOG, OFFSET_INDEX, TIME_INDEX)),
        *(("rename", file_name(0, kind + CLEANED)) for kind in (OFFSET_INDEX, TIME_INDEX)),
        ("sync_directory", DIRECTORY),
    ]
    names = disk.list_directory(DIRECTORY)
    assert [name for name in names if name.endswith((CLEANED, SWAP))] == [
        file_name(0, OFFSET_INDEX + SWAP),
        file_name(0, LOG + CLEANED),
        file_name(0, TIME_INDEX + SWAP),
    ]


@pytest.mark.parametrize("slots", [3, 4, 5, 8])
def test_a_pass_ends_where_the_map_is_full(slots: int) -> None:
    """Between segments, or within one: what lies behind is dirty still, and not written anew."""
    log = sealed(*([keyed(b"%d%d" % (at, each)) for each in range(3)] for at in range(3)))
    compaction = begun(log, map_bytes=slots * SLOT_BYTES)
    list(compaction.survey())
    end = compaction.next_dirty_offset
    assert 0 < end < 9
    made = []
    while compaction.has_more:
        list(compaction.clean())
        made += [each.base_offset for each in compaction.group]
    assert made == [base for base in (0, 3, 6) if base < end]


def test_a_record_that_finds_no_room_leaves_all_as_it_is() -> None:
    log = sealed([keyed(b"a"), keyed(b"a"), keyed(b"b")], [keyed(b"a")])
    compaction = begun(log)
    compaction.plan = replace(compaction.plan, map_bytes=0, first_dirty_offset=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction_module.OffsetMap, "put", lambda self, key, offset: False)
        list(compaction.survey())
    assert compaction.next_dirty_offset == 3


def three_batches_thrice(*, step_ms: int = 0) -> Log:
    """Three segments of three batches each, so many ms apart, of which all stay."""
    batches = [keyed(b"%d" % at, timestamp=1_000 + at * step_ms) for at in range(9)]
    return sealed(batches[:3], batches[3:6], batches[6:], config=INDEXED)


def joined(log: Log, **limits: int) -> list[int]:
    """The segments that become the first one, by their base offsets."""
    compaction = begun(log)
    config = replace(compaction.plan.config, **limits)
    compaction.plan = replace(compaction.plan, config=config)
    list(compaction.survey())
    list(compaction.clean())
    return [each.base_offset for each in compaction.group]


@pytest.mark.parametrize(("missing", "group"), [(0, [0, 3]), (1, [0])])
def test_segments_are_put_together_up_to_the_last_byte(missing: int, group: list[int]) -> None:
    log = three_batches_thrice()
    size = log.segments[0].size_bytes
    assert joined(log, segment_bytes=2 * size - missing) == group


@pytest.mark.parametrize(
    ("entries", "missing", "group"),
    [(7, 0, [0, 3, 6]), (7, 1, [0, 3]), (4, 0, [0, 3]), (4, 1, [0])],
)
@pytest.mark.parametrize(
    ("step_ms", "kind", "entry_bytes"), [(0, OFFSET_INDEX, 8), (1, TIME_INDEX, 12)]
)
def test_segments_are_put_together_up_to_the_last_index_entry(
    step_ms: int, kind: str, entry_bytes: int, entries: int, missing: int, group: list[int]
) -> None:
    """Each has two; where they become one, the first batch of the second has one too. The time
    index has as many where times ascend, else one."""
    log = three_batches_thrice(step_ms=step_ms)
    assert log.disk.size(f"{DIRECTORY}/{file_name(3, kind)}") == 2 * entry_bytes
    assert joined(log, segment_index_bytes=entries * entry_bytes - missing) == group


@pytest.mark.parametrize(("limit", "group"), [(2 * 8, [0, 3]), (2 * 8 - 1, [0])])
def test_an_index_that_is_not_there_adds_nothing(limit: int, group: list[int]) -> None:
    log = three_batches_thrice()
    for kind in (OFFSET_INDEX, TIME_INDEX):
        log.disk.remove(f"{DIRECTORY}/{file_name(3, kind)}")
    assert joined(log, segment_index_bytes=limit) == group


@pytest.mark.parametrize("limits", [{"segment_bytes": 1}, {"segment_index_bytes": 1}])
def test_what_comes_first_finds_room_whatever_its_size(limits: dict[str, int]) -> None:
    """An empty file before it does not keep it out."""
    log = three_batches_thrice()
    log.disk.files[log.segments[0].path].clear()  # type: ignore[attr-defined]
    compaction = begun(log)
    sources = [compaction.plan.sources[0]._replace(size_bytes=0), *compaction.plan.sources[1:]]
    config = replace(compaction.plan.config, **limits)
    compaction.plan = replace(compaction.plan, config=config, sources=sources, first_dirty_offset=3)
    list(compaction.survey())
    list(compaction.clean())
    assert [each.base_offset for each in compaction.group] == [0, 3]


@pytest.mark.parametrize(
    ("last_offset", "size_bytes", "is_within"),
    [(7 + (1 << 31) - 1, 100, True), (7 + (1 << 31), 100, False), (7 + (1 << 31), 0, True)],
)
def test_offsets_of_a_segment_fit_31_bits_from_its_base(
    last_offset: int, size_bytes: int, is_within: bool
) -> None:
    first, source = Source(7, 100, 9), Source(9, size_bytes, last_offset + 1)
    assert compaction_module._is_within_delta(first, source) == is_within


def test_a_segment_may_grow_to_the_last_position(monkeypatch: pytest.MonkeyPatch) -> None:
    log = three_batches_thrice()
    size = log.segments[0].size_bytes
    monkeypatch.setattr(compaction_module, "POSITION_MAX", size)
    assert joined(log, segment_bytes=size) == [0]
    monkeypatch.setattr(compaction_module, "POSITION_MAX", size - 1)
    with pytest.raises(CorruptionError, match="would grow past 2 GiB"):
        joined(log, segment_bytes=size)


def header_of(producer_id: int, *, control: bool = False, epoch: int = 0) -> object:
    batch = build_batch(
        [Record(0, 1_000, b"k", b"v")],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=0,
    )
    header = read_header(batch)
    return header._replace(attributes=header.attributes | (0x20 if control else 0))


def test_a_batch_stays_empty_for_the_last_sequence_of_its_producer() -> None:
    """Or the last marker of one without data, in the producer's epoch."""
    log = sealed([keyed(b"a")], [keyed(b"a")])
    compaction = begun(log)
    known = {0: LastBatch(0, 0), 1: LastBatch(7, 0), 2: LastBatch(-1, 4)}
    compaction.plan = replace(compaction.plan, producers=known)
    stays = [
        (0, False, 0, True),
        (1, False, 0, False),
        (2, True, 4, True),
        (2, True, 3, False),
        (2, False, 4, False),
        (3, True, 0, False),
        (-1, False, -1, False),
    ]
    for producer_id, control, epoch, due in stays:
        header = header_of(producer_id, control=control, epoch=epoch)
        found = compaction._stays_empty(header)  # type: ignore[arg-type]
        assert found == due, (producer_id, control, epoch)


def with_an_abort() -> Log:
    log = make_log(MemoryDisk(), WIDE)
    append(log, keyed(b"k"))
    log.roll(1_000)
    data(log, 1, 0)
    data(log, 2, 0)
    end(log, 1)
    log.roll(1_000)
    append(log, keyed(b"last"))
    end(log, 2)
    flush_now(log.disk, [log])
    log.producer_state.transactions.settle(log.log_end_offset)
    return log


def test_an_abort_of_which_no_index_tells_ends_the_pass_before_anything_is_made() -> None:
    log = with_an_abort()
    files = log.disk.files  # type: ignore[attr-defined]
    compaction = begun(log)
    for path in [path for path in files if path.endswith(TRANSACTION_INDEX)]:
        files[path].clear()
    with pytest.raises(CorruptionError, match="is in no index"):
        list(compaction.survey())


def test_the_transaction_index_that_is_made_is_synced() -> None:
    log = with_an_abort()
    compaction, disk = begun(log), log.disk
    list(compaction.survey())
    while compaction.has_more:
        disk.calls.clear()  # type: ignore[attr-defined]
        list(compaction.clean())
    path = f"{DIRECTORY}/{file_name(compaction.group[0].base_offset, TRANSACTION_INDEX + CLEANED)}"
    assert ("sync", path) in disk.calls  # type: ignore[attr-defined]

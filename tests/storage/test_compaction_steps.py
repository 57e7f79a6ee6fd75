"""How a pass of compaction goes: in steps of about a millisecond, its bytes told and synced some at
a time, its names durable before its log is told of."""

from dataclasses import replace

import pytest

from ottla.base.errors import CorruptionError
from ottla.records.batch import read_header
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.storage import compaction as compaction_module
from ottla.storage.compaction import Compaction, LastBatch
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


def sealed(*segments: list[bytearray]) -> Log:
    """A log of these segments, flushed, and an active one with one batch."""
    log = make_log(MemoryDisk(), WIDE)
    for batches in segments:
        for batch in batches:
            append(log, batch)
        log.roll(1_000)
    append(log, keyed(b"last"))
    flush_now(log.disk, [log])
    return log


def keyed(key: bytes, size: int = 20) -> bytearray:
    return build_batch([Record(0, 1_000, key, b"v" * size)])


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

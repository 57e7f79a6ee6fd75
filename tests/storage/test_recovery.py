import logging

import pytest

from ottla.base.errors import CorruptionError
from ottla.records.batch import read_header
from ottla.storage.config import LogConfig
from ottla.storage.flusher import flush_now
from ottla.storage.log import Log
from ottla.storage.names import file_name, parse_file

from .makers import DIRECTORY, TINY, append, batch_of, make_log, read_all, reopen
from .memory_disk import MemoryDisk

ONE_SEGMENT = LogConfig(index_interval_bytes=100, segment_index_bytes=960)


def filled(disk: MemoryDisk, count: int, config: LogConfig = TINY) -> tuple[Log, list[bytes]]:
    log = make_log(disk, config)
    for sequence in range(count):
        append(log, batch_of(1, timestamp=1_000 + sequence, producer=(7, 0, sequence)))
    return log, read_all(log)


def log_names(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.list_directory(DIRECTORY) if name.endswith(".log")]


def test_a_torn_tail_is_cut_at_every_byte(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    _, batches = filled(disk, 4, ONE_SEGMENT)
    path = f"{DIRECTORY}/{file_name(0, '.log')}"
    size = len(batches[0])
    for length in range(4 * size + 1):
        died = disk.copy()
        del died.files[path][length:]
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            log = reopen(died, ONE_SEGMENT)
        whole = length // size
        assert read_all(log) == batches[:whole]
        assert log.log_end_offset == whole
        assert len(died.files[path]) == whole * size
        told = [record for record in caplog.records if "cut at position" in record.message]
        assert len(told) == (1 if length % size else 0)
        if told:
            assert (
                f"{path}: cut at position {whole * size}, offset {whole}: {length % size} bytes"
                in (told[0].message)
            )
        # and it goes on from there
        assert append(log, batch_of(1, producer=(7, 0, whole))).first_offset == whole


def test_every_bit_of_an_unflushed_tail(disk: MemoryDisk) -> None:
    _, batches = filled(disk, 3, ONE_SEGMENT)
    path = f"{DIRECTORY}/{file_name(0, '.log')}"
    size = len(batches[0])
    for position in range(size, 2 * size):
        for bit in (1, 16, 128):
            died = disk.copy()
            died.files[path][position] ^= bit
            log = reopen(died, ONE_SEGMENT, recovery_point=1)
            # Leader epoch (12..15) and base offset (0..7) stand outside of the CRC. An epoch that
            # grew is seen by the next batch, one below 0 at once; what stands at the recovery
            # point begins there.
            if position - size in range(12, 16):
                assert log.log_end_offset == (1 if (position - size, bit) == (12, 128) else 2)
            else:
                assert read_all(log) == batches[:1]
                assert log.log_end_offset == 1


def test_damage_below_the_recovery_point_is_corruption_and_nothing_is_cut(
    disk: MemoryDisk,
) -> None:
    _, batches = filled(disk, 30)
    path = f"{DIRECTORY}/{log_names(disk)[-1]}"
    died = disk.copy()
    died.files[path][80] ^= 1
    logs = {name: bytes(died.files[f"{DIRECTORY}/{name}"]) for name in log_names(died)}
    with pytest.raises(CorruptionError) as caught:
        reopen(died, recovery_point=30)
    assert caught.value.path == path
    assert caught.value.position == 0
    assert {name: bytes(died.files[f"{DIRECTORY}/{name}"]) for name in log_names(died)} == logs
    assert died.open_count == 0
    assert len(read_all(reopen(died, recovery_point=3))) < len(batches)


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_log_that_ends_below_the_recovery_point_is_corruption(
    disk: MemoryDisk, is_clean: bool
) -> None:
    log, _ = filled(disk, 30)
    log.settle()
    del disk.files[f"{DIRECTORY}/{log_names(disk)[-1]}"][:]
    with pytest.raises(CorruptionError):
        reopen(disk, is_clean=is_clean, recovery_point=30)


def test_segments_behind_a_cut_go_with_it(disk: MemoryDisk) -> None:
    _, batches = filled(disk, 30)
    first, second, *later = log_names(disk)
    assert later
    disk.files[f"{DIRECTORY}/{second}"][200] ^= 1
    log = reopen(disk)
    got = read_all(log)
    assert got == batches[: len(got)]
    assert log_names(disk) == [first, second]
    assert log.log_end_offset == read_header(got[-1]).last_offset + 1


def test_a_segment_that_lost_whole_batches_ends_the_log(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by the simulation: what was left of it was sound, and offsets were missing."""
    _, batches = filled(disk, 30)
    names = log_names(disk)
    first = parse_file(names[0])
    second = parse_file(names[1])
    assert first and second
    for emptied in ([], names[1:]):
        died = disk.copy()
        del died.files[f"{DIRECTORY}/{names[0]}"][-len(batches[0]) :]
        for name in emptied:
            died.files[f"{DIRECTORY}/{name}"].clear()
        later_bytes = sum(len(died.files[f"{DIRECTORY}/{name}"]) for name in names[1:])
        caplog.clear()
        log = reopen(died)
        if not emptied:
            assert f"{later_bytes} bytes that no flush covered (its last batches" in caplog.text
        assert read_all(log) == batches[: second.offset - 1]
        assert log_names(died) == names[:1]
        assert append(log, batch_of(1)).first_offset == second.offset - 1


def test_a_first_segment_that_was_lost_ends_the_log(disk: MemoryDisk) -> None:
    """Found by the simulation (seed 1355): what was behind it began the log."""
    filled(disk, 30)
    first, second, *_ = log_names(disk)
    disk.files[f"{DIRECTORY}/{first}"].clear()
    flushed = parse_file(second)
    assert flushed is not None
    with pytest.raises(CorruptionError, match="missing, below offset"):
        reopen(disk.copy(), recovery_point=flushed.offset)
    log = reopen(disk)
    assert (log.log_start_offset, log.log_end_offset) == (0, 0)
    assert log_names(disk) == [first]


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_log_that_lost_all_of_its_segments_is_not_taken_for_an_empty_one(
    disk: MemoryDisk, is_clean: bool
) -> None:
    filled(disk, 30)
    for name in log_names(disk):
        del disk.files[f"{DIRECTORY}/{name}"]
    with pytest.raises(CorruptionError, match="all segments are missing"):
        reopen(disk.copy(), recovery_point=30, is_clean=is_clean)
    log = reopen(disk, recovery_point=0, is_clean=is_clean)
    assert append(log, batch_of(1)).first_offset == 0


def test_segments_below_the_recovery_point_are_not_read(disk: MemoryDisk) -> None:
    log = make_log(disk)
    for _ in range(30):  # of no idempotent producer, which might send again what it sent
        append(log, batch_of(1))
    flush_now(disk, [log])
    names = log_names(disk)
    disk.calls.clear()
    reopen(disk, recovery_point=30)
    read = {path for name, path in disk.calls if name == "pread"}
    assert f"{DIRECTORY}/{names[-1]}" in read
    assert f"{DIRECTORY}/{names[0]}" not in read


def test_a_segment_that_ends_at_the_recovery_point_has_its_indexes_built_anew(
    disk: MemoryDisk,
) -> None:
    """Found by the simulation (seed 2133): rolled after the flush, its time index was zeros, and
    retention dropped it."""
    log, _ = filled(disk, 30)
    second = log.segments[1].base_offset
    path = f"{DIRECTORY}/{file_name(0, '.timeindex')}"
    kept = bytes(disk.files[path])
    disk.files[path][:] = bytes(len(kept))
    again = reopen(disk, recovery_point=second)
    assert again.segments[0].max_timestamp == log.segments[0].max_timestamp
    assert bytes(disk.files[path]) == kept


@pytest.mark.parametrize("kind", [".index", ".timeindex"])
@pytest.mark.parametrize("damage", ["lost", "zeros", "ones", "short"])
def test_an_index_that_is_lost_or_wrong_costs_time_but_no_data(
    disk: MemoryDisk, kind: str, damage: str
) -> None:
    log, batches = filled(disk, 60)
    log.settle()
    log.close()
    kept = {path: bytes(data) for path, data in disk.files.items()}
    for name in disk.list_directory(DIRECTORY):
        if name.endswith(kind):
            data = disk.files[f"{DIRECTORY}/{name}"]
            if damage == "lost":
                del disk.files[f"{DIRECTORY}/{name}"]
            elif damage == "short":
                del data[len(data) // 2 + 3 :]
            else:
                data[:] = bytes([0 if damage == "zeros" else 0x7F]) * len(data)
    open_count = disk.open_count
    log = reopen(disk, is_clean=True)
    assert log.log_end_offset == 60
    if damage == "lost":
        assert disk.open_count - open_count <= len(log.segments), "what was built anew was closed"
    if damage == "lost":  # built anew at the start, not when it is first asked for
        sealed = [f"{each.stem}{kind}" for each in log.segments[:-1]]
        assert {path: bytes(disk.files[path]) for path in sealed} == {
            path: kept[path] for path in sealed
        }
    for offset in range(60):
        found = log.read(offset, 1, 60)
        assert found is not None
        file, position, length = found.range
        assert file.pread(length, position) == batches[offset]
    if kind == ".index" or damage == "lost":
        for timestamp in range(1_000, 1_060):
            at = log.offset_for_timestamp(timestamp, 60)
            assert at is not None
            assert at.offset == timestamp - 1_000


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("damage", ["none", "lost", "torn", "flipped"])
def test_producers_come_back_with_or_without_snapshot(
    disk: MemoryDisk, is_clean: bool, damage: str
) -> None:
    log, _ = filled(disk, 30)
    if is_clean:
        log.settle()
    log.close()
    snapshots = [name for name in disk.list_directory(DIRECTORY) if name.endswith(".snapshot")]
    assert len(snapshots) == 2
    for name in snapshots:
        path = f"{DIRECTORY}/{name}"
        if damage == "lost":
            del disk.files[path]
        elif damage == "torn":
            del disk.files[path][20:]
        elif damage == "flipped":
            disk.files[path][30] ^= 1
    log = reopen(disk, is_clean=is_clean)
    (producer,) = log.producers()
    assert (producer.producer_id, producer.last_sequence) == (7, 29)
    assert append(log, batch_of(1, producer=(7, 0, 29))).is_duplicate
    assert append(log, batch_of(1, producer=(7, 0, 30))).first_offset == 30


@pytest.mark.parametrize("count", range(5, 31))
def test_what_was_in_flight_at_a_crash_is_known_when_it_is_sent_again(
    disk: MemoryDisk, count: int
) -> None:
    """Five batches, also where a snapshot, which has one, was taken between or behind them."""
    log = make_log(disk)
    for sequence in range(count):
        append(log, batch_of(1, producer=(7, 0, sequence)), batch_of(1, producer=(8, 0, sequence)))
    again = reopen(disk.copy())
    for sequence in range(count - 5, count):
        for place, producer_id in enumerate((7, 8)):
            info = append(again, batch_of(1, producer=(producer_id, 0, sequence)))
            assert info.is_duplicate
            assert info.first_offset == 2 * sequence + place
    assert again.log_end_offset == 2 * count


def test_producers_whose_records_were_deleted_are_known(disk: MemoryDisk) -> None:
    """Found by the simulation (seed 1183): a batch that was sent again got a second place."""
    log = make_log(disk, ONE_SEGMENT)
    append(log, batch_of(1, producer=(7, 0, 0)))
    append(log, batch_of(1, producer=(8, 0, 0)))
    for is_clean in (False, True):
        again = reopen(disk, ONE_SEGMENT, is_clean=is_clean, log_start_offset=1)
        assert append(again, batch_of(1, producer=(7, 0, 0))).is_duplicate


def test_what_compaction_and_deletion_left_behind(disk: MemoryDisk) -> None:
    log, batches = filled(disk, 30)
    log.settle()
    log.close()
    bases = [each.offset for each in map(parse_file, log_names(disk)) if each]
    stem = f"{DIRECTORY}/{bases[1]:020d}"
    # A compacted twin of the second and third segment: the second's batches alone.
    for kind in (".log", ".index", ".timeindex"):
        disk.files[f"{stem}{kind}.swap"] = bytearray(disk.files[stem + kind])
    disk.files[f"{DIRECTORY}/{bases[2]:020d}.log.cleaned"] = bytearray(b"junk")
    disk.files[f"{DIRECTORY}/{99:020d}.log.deleted"] = bytearray(b"junk")
    disk.files[f"{DIRECTORY}/{77:020d}.index"] = bytearray(8)
    disk.files[f"{DIRECTORY}/leader-epoch-checkpoint.tmp"] = bytearray(b"junk")
    log = reopen(disk, is_clean=True)
    assert read_all(log) == batches
    names = disk.list_directory(DIRECTORY)
    assert not [n for n in names if n.endswith((".swap", ".cleaned", ".deleted", ".tmp"))]
    assert f"{77:020d}.index" not in names


def test_an_empty_segment_that_a_failed_roll_left(disk: MemoryDisk) -> None:
    _, batches = filled(disk, 3, ONE_SEGMENT)
    disk.files[f"{DIRECTORY}/{2:020d}.log"] = bytearray()
    log = reopen(disk, ONE_SEGMENT)
    assert read_all(log) == batches
    assert append(log, batch_of(1)).first_offset == 3


@pytest.mark.parametrize("is_clean", [True, False])
def test_an_empty_segment_between_others_goes(disk: MemoryDisk, is_clean: bool) -> None:
    log, batches = filled(disk, 30)
    log.settle()
    log.close()
    bases = [each.offset for each in map(parse_file, log_names(disk)) if each]
    disk.files[f"{DIRECTORY}/{bases[1] - 1:020d}.log"] = bytearray()
    log = reopen(disk, is_clean=is_clean, recovery_point=30)
    assert read_all(log) == batches
    assert log_names(disk) == [file_name(base, ".log") for base in bases]


def test_what_a_failed_append_left_before_a_failed_roll(disk: MemoryDisk) -> None:
    """Found by the simulation (seed 343): all is flushed, but for the cut behind the last batch
    and the removal of the new segment."""
    _, batches = filled(disk, 3, ONE_SEGMENT)
    disk.files[f"{DIRECTORY}/{0:020d}.log"] += b"beginning of a batch"
    disk.files[f"{DIRECTORY}/{3:020d}.log"] = bytearray()
    log = reopen(disk, ONE_SEGMENT, recovery_point=3)
    assert read_all(log) == batches
    assert append(log, batch_of(1)).first_offset == 3


def test_the_first_flush_behind_a_crash_makes_the_names_durable(disk: MemoryDisk) -> None:
    """The crash may have come before anything synced them."""
    filled(disk, 3, ONE_SEGMENT)
    log = reopen(disk, ONE_SEGMENT)
    disk.has_sync_file_system = False
    disk.calls.clear()
    flush_now(disk, [log])
    synced = [path for name, path in disk.calls if name == "sync_directory"]
    assert sorted(synced) == ["data", DIRECTORY]


def test_a_log_start_past_all_that_is_left(disk: MemoryDisk) -> None:
    filled(disk, 5)
    log = reopen(disk, log_start_offset=9)
    assert (log.log_start_offset, log.log_end_offset) == (9, 9)
    assert log_names(disk) == [file_name(9, ".log")], "its name tells the start"
    assert log.epochs.is_dirty, "the file of the epochs speaks of what is gone"
    assert append(log, batch_of(1)).first_offset == 9


@pytest.mark.parametrize("for_good", [False, True])
def test_recovery_that_dies_at_any_call_is_repeated(disk: MemoryDisk, for_good: bool) -> None:
    _, batches = filled(disk, 20)
    path = f"{DIRECTORY}/{log_names(disk)[-1]}"
    disk.files[path] += b"torn"
    count = 0
    while True:
        count += 1
        died = disk.copy()
        died.fail_at(count, for_good=for_good)
        try:
            reopen(died, recovery_point=3)
        except OSError:
            pass
        else:
            break
        assert read_all(reopen(died.copy(), recovery_point=3)) == batches
    assert count > 10


def test_a_leader_epoch_that_no_flush_told_of_is_warned_of(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the last batch: no neighbour contradicts it, and no CRC covers it."""
    log, batches = filled(disk, 4, ONE_SEGMENT)
    flush_now(disk, [log])
    log.close()
    path = f"{DIRECTORY}/{file_name(0, '.log')}"
    position = 3 * len(batches[0])
    disk.files[path][position + 12] ^= 1  # epoch 0 becomes 1 << 24

    died = disk.copy()
    log = reopen(died, ONE_SEGMENT, recovery_point=4)
    assert f"{path}: position {position}: leader epoch {1 << 24} where 0 is known" in caplog.text
    assert log.epochs.latest == 0
    caplog.clear()

    died = disk.copy()
    log = reopen(died, ONE_SEGMENT, recovery_point=2, high_watermark=4)
    assert f"{path}: position {position}: leader epoch {1 << 24}, of which no" in caplog.text
    caplog.clear()

    died = disk.copy()
    reopen(died, ONE_SEGMENT, recovery_point=2, high_watermark=3)
    assert "leader epoch" not in caplog.text

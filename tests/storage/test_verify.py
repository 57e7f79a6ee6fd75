"""What `verify` says of a directory, and what `repair` makes of it, on a disk in memory."""

import pytest

from ottla.base.ids import id_text
from ottla.records.control import Marker, build_marker
from ottla.storage.dump import DumpOptions, dump, escaped
from ottla.storage.findings import Finding
from ottla.storage.names import SNAPSHOT, file_name
from ottla.storage.rebuild import rebuild_snapshot
from ottla.storage.repair import Deed, RepairOptions, repair
from ottla.storage.verify import NotALogDirectoryError, verify
from ottla.storage.verify_log import Tally

from .bit_flips import MARK, NAMES, POINTS, Truth, disk_of, make_truth, open_dir, outcomes
from .makers import DIRECTORY, ORDERS, append, batch_of, make_log
from .memory_disk import MemoryDisk
from .test_log_dir import OTHER_ID, TOPIC_ID

FIRST = "data/orders-0/00000000000000000000"


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make_truth()


@pytest.fixture
def clean(truth: Truth) -> MemoryDisk:
    return disk_of(truth, "clean")


def findings(disk: MemoryDisk, path: str = "data") -> list[Finding]:
    return list(verify(disk, path, Tally()))


def damage(disk: MemoryDisk) -> list[str]:
    return [str(each) for each in findings(disk) if not each.is_note]


def mend(disk: MemoryDisk, **options: bool) -> list[Deed]:
    return list(repair(disk, "data", RepairOptions(**options), Tally()))


def test_a_sound_directory_has_no_findings(clean: MemoryDisk) -> None:
    tally = Tally()
    before = {path: bytes(data) for path, data in clean.files.items()}
    assert list(verify(clean, "data", tally)) == []
    assert (tally.logs, tally.batches) == (2, 28)
    assert tally.records > 50
    assert mend(clean) == []
    assert {path: bytes(data) for path, data in clean.files.items()} == before
    assert clean.open_count == 0


def test_one_partition_of_a_directory(clean: MemoryDisk) -> None:
    clean.files[FIRST + ".log"][70] ^= 1
    assert findings(clean, "data/orders-1") == []
    (found,) = findings(clean, "data/orders-0")
    assert (found.path, found.cause, found.position) == (FIRST + ".log", "CRC", 0)


def test_what_is_no_log_directory(clean: MemoryDisk) -> None:
    clean.make_directory("elsewhere")
    for path in ("elsewhere", "nowhere"):
        with pytest.raises(NotALogDirectoryError, match=path):
            findings(clean, path)


def test_the_walk_goes_on_behind_a_batch_that_is_not_sound(clean: MemoryDisk) -> None:
    data = clean.files[FIRST + ".log"]
    data[11] ^= 64  # its length
    lines = damage(clean)
    assert len([line for line in lines if ".log" in line]) == 1
    assert "position 0" in lines[0]
    rows = list(dump(clean, FIRST + ".log", DumpOptions(with_records=True)))
    assert rows[1]["fault"]
    assert [row["isvalid"] for row in rows if "isvalid" in row].count(True) >= 3


def test_a_length_that_claims_gigabytes_costs_nothing(clean: MemoryDisk) -> None:
    clean.files[FIRST + ".log"][8:12] = b"\x7f\xff\xff\xf0"
    assert "a batch of 2147483644 bytes" in damage(clean)[0]


def test_a_torn_tail_is_a_note_until_it_is_cut(truth: Truth) -> None:
    disk = disk_of(truth, "early")
    last = max(path for path in disk.files if path.startswith("data/orders-0/") and ".log" in path)
    size = len(disk.files[last])
    disk.files[last] += b"\0" * 10
    assert damage(disk) == []
    (tail,) = [each for each in findings(disk) if each.path == last]
    assert (tail.position, tail.size_bytes) == (size, 10)
    assert mend(disk) == []
    assert len(disk.files[last]) == size + 10
    assert [deed.path for deed in mend(disk, truncate_torn_tail=True, is_dry=True)] == [last]
    assert len(disk.files[last]) == size + 10
    assert [deed.path for deed in mend(disk, truncate_torn_tail=True)] == [last]
    assert len(disk.files[last]) == size


def test_indexes_snapshots_epochs_and_checkpoints_are_built_anew(
    truth: Truth, clean: MemoryDisk
) -> None:
    snapshot = max(path for path in clean.files if path.endswith(".snapshot"))
    broken = [
        FIRST + ".index",
        FIRST + ".timeindex",
        snapshot,
        "data/orders-0/leader-epoch-checkpoint",
        "data/orders-1/partition.metadata",
        POINTS,
    ]
    for path in broken:
        data = clean.files[path]
        data[len(data) // 2] ^= 0x81
    lines = damage(clean)
    assert {path for path in broken if any(line.startswith(path) for line in lines)} == set(broken)
    deeds = mend(clean, is_dry=True)
    assert len(damage(clean)) == len(lines)
    assert {deed.path for deed in mend(clean)} == {deed.path for deed in deeds} >= set(broken)
    assert findings(clean) == []
    assert not [path for path in clean.files if path.endswith(".tmp")]
    assert set(outcomes(truth, clean).values()) == {"right"}


def test_where_a_log_starts_is_told_by_the_book_of_epochs_too(
    truth: Truth, clean: MemoryDisk
) -> None:
    path = "data/log-start-offset-checkpoint"
    clean.files[path][0] ^= 0x40
    assert [line for line in damage(clean) if line.startswith(path)]
    assert path in {deed.path for deed in mend(clean)}
    assert findings(clean) == []
    assert set(outcomes(truth, clean).values()) == {"right"}


def test_a_log_that_ends_too_early_is_left_until_that_is_accepted(
    truth: Truth, clean: MemoryDisk
) -> None:
    last = max(path for path in clean.files if path.startswith("data/orders-0/") and ".log" in path)
    del clean.files[last][-40:]
    assert any("CRC" in line or "a batch of" in line for line in damage(clean))
    (deed, *_) = mend(clean)
    assert deed.is_left
    rows = [row for row in dump(clean, last, DumpOptions()) if "position" in row]
    start = rows[-1]["position"]
    assert isinstance(start, int)
    del clean.files[last][start:]
    assert any("was flushed, the log ends at" in line for line in damage(clean))
    assert any(deed.is_left for deed in mend(clean))
    mend(clean, accept_log_end=True)
    mend(clean)
    assert damage(clean) == []
    assert not open_dir(clean).offline_logs


def test_corrupt_batches_are_left(clean: MemoryDisk) -> None:
    clean.files[FIRST + ".log"][70] ^= 1
    before = bytes(clean.files[FIRST + ".log"])
    (deed,) = mend(clean, truncate_torn_tail=True, accept_log_end=True)
    assert deed.is_left
    assert "replica or a backup" in deed.what
    assert clean.files[FIRST + ".log"] == before


def test_ids_of_one_topic_agree(clean: MemoryDisk) -> None:
    path = "data/orders-0/partition.metadata"
    clean.files[path][:] = f"version: 0\ntopic_id: {id_text(OTHER_ID)}".encode()
    assert [line for line in damage(clean) if "other partitions" in line]
    assert all(deed.is_left for deed in mend(clean)) and mend(clean)


def test_left_overs_are_notes(clean: MemoryDisk) -> None:
    clean.files["data/orders-0/" + file_name(0, ".log") + ".deleted"] = bytearray(b"x")
    clean.files["data/orders-0/" + file_name(99, ".index")] = bytearray()
    clean.files["data/recovery-point-offset-checkpoint.tmp"] = bytearray()
    clean.make_directory(f"data/old-0.{'0' * 32}-delete")
    clean.make_directory(f"data/old-1.{'0' * 32}-stray")
    clean.files[POINTS][:] = b"0\n3\ngone 0 1\n" + bytes(clean.files[POINTS]).split(b"\n", 2)[2]
    found = findings(clean)
    assert all(each.is_note for each in found)
    for word in (".deleted", "99.index", ".tmp", "-delete", "-stray", "a line of gone-0"):
        assert [each for each in found if word in str(each)], word
    del clean.files[MARK]
    assert [each for each in findings(clean) if "not stopped cleanly" in each.cause]


def test_an_abort_must_be_in_the_transaction_index(disk: MemoryDisk) -> None:
    log = make_log(disk)
    data = batch_of(2, producer=(9, 0, 0))
    data[22] |= 1 << 4
    from ottla.records.batch import seal_batch

    seal_batch(data)
    append(log, data)
    append(log, build_marker(Marker(False, 3), producer_id=9, producer_epoch=0, timestamp=1))
    log.settle()
    log.close()
    index = f"{DIRECTORY}/{file_name(0, '.txnindex')}"
    disk.files.pop(index, None)
    disk.files[MARK] = bytearray()
    assert [each for each in findings(disk, DIRECTORY) if "abort of producer 9" in each.cause]
    deeds = list(repair(disk, DIRECTORY, RepairOptions(), Tally()))
    assert deeds[0] == (index, "rebuilt: 1 aborted transactions", False)
    assert not [each for each in findings(disk, DIRECTORY) if each.path == index]
    assert list(dump(disk, index, DumpOptions())) == [
        {"version": 0, "producerId": 9, "firstOffset": 0, "lastOffset": 2, "lastStableOffset": 3}
    ]


def test_a_snapshot_built_anew_knows_the_coordinator_of_each_producer(disk: MemoryDisk) -> None:
    log = make_log(disk)
    append(log, batch_of(1, producer=(7, 0, 0)))
    marker = Marker(True, 11)
    batch = build_marker(marker, producer_id=7, producer_epoch=0, timestamp=1_000)
    log.append_marker(batch, marker, is_bumped=False, leader_epoch=0, now_ms=1_000)
    append(log, batch_of(1, producer=(8, 0, 0)))
    log.settle()
    written = log.producer_state.snapshot()
    (path,) = [path for path in disk.files if path.endswith(SNAPSHOT)]
    assert disk.files[path] == written
    disk.files[path][-1] ^= 1
    rebuild_snapshot(disk, DIRECTORY, [0], log.log_end_offset)
    assert disk.files[path] == written


def test_names_and_ids_of_the_harness() -> None:
    assert NAMES[0] == ORDERS
    assert len(TOPIC_ID) == 16


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("žluť".encode(), "žluť"),
        (b"a\nb\x1b", "a\\nb\\x1b"),
        (b"\xff\\x", "\\xff\\\\x"),
        ("\u2028".encode(), "\\u2028"),
    ],
)
def test_keys_and_values_are_one_line_of_text(data: bytes, text: str) -> None:
    assert escaped(data) == text

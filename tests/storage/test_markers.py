import pytest

from ottla.records import sieve
from ottla.records.batch import read_header
from ottla.records.control import Marker, build_marker
from ottla.storage import markers
from ottla.storage.markers import marker_at

from .memory_disk import MemoryDisk


def test_a_control_batch_without_a_record_is_no_marker(disk: MemoryDisk) -> None:
    marker = build_marker(Marker(True, 0), producer_id=7, producer_epoch=0, timestamp=1)
    empty = sieve.empty_batch(read_header(marker))
    disk.make_directory("data")
    file = disk.open("data/file", create=True)
    file.pwrite(marker, 0)
    file.pwrite(empty, len(marker))
    assert marker_at(file, 0, read_header(marker)) == Marker(True, 0)
    assert marker_at(file, len(marker), read_header(empty)) is None


def test_a_batch_of_data_is_no_marker_whatever_its_record(disk: MemoryDisk) -> None:
    marker = build_marker(Marker(True, 0), producer_id=7, producer_epoch=0, timestamp=1)
    disk.make_directory("data")
    file = disk.open("data/file", create=True)
    file.pwrite(marker, 0)
    header = read_header(marker)
    as_data = header._replace(attributes=header.attributes & ~0x20)
    assert marker_at(file, 0, as_data) is None


def test_a_control_batch_that_no_coordinator_wrote_is_not_read(
    disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = build_marker(Marker(False, 3), producer_id=7, producer_epoch=0, timestamp=1)
    disk.make_directory("data")
    file = disk.open("data/file", create=True)
    file.pwrite(marker, 0)
    monkeypatch.setattr(markers, "CONTROL_BYTES", len(marker))
    assert marker_at(file, 0, read_header(marker)) == Marker(False, 3)
    monkeypatch.setattr(markers, "CONTROL_BYTES", len(marker) - 1)
    assert marker_at(file, 0, read_header(marker)) is None

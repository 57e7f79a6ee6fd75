from ottla.storage.removal import remove_directories

from .memory_disk import MemoryDisk


def test_a_directory_that_is_gone_already_is_passed_over(disk: MemoryDisk) -> None:
    disk.make_directory("data/a")
    remove_directories(disk, "data", ["data/b", "data/a"])
    assert not disk.is_directory("data/a")


def test_new_names_are_durable_before_a_directory_goes(disk: MemoryDisk) -> None:
    """A power cut would bring it back under its old name, half empty."""
    disk.make_directory("data/a")
    disk.calls.clear()
    remove_directories(disk, "data", ["data/a"])
    assert disk.calls == [("sync_directory", "data"), ("remove_directory", "data/a")]


def test_where_nothing_goes_nothing_is_synced(disk: MemoryDisk) -> None:
    disk.make_directory("data")
    disk.calls.clear()
    remove_directories(disk, "data", [])
    assert not disk.calls

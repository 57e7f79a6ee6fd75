from ottla.storage.leaving import LeavingLogs
from ottla.storage.log import Log

from .makers import DIRECTORY, TINY, append, batch_of
from .memory_disk import MemoryDisk
from .test_log_dir import Clock


def test_files_of_a_log_that_never_opened_go_at_once_and_a_strays_stay(disk: MemoryDisk) -> None:
    leaving = LeavingLogs(disk, "data", Clock())
    leaving.add(None, "data/broken-delete", is_removed=True)
    leaving.add(None, "data/broken-stray", is_removed=False)
    assert leaving.take_due() == ["data/broken-delete"]
    assert leaving.take_due() == ["data/broken-delete"], "until it is told to be gone"
    leaving.removed(["data/broken-delete"])
    assert leaving.take_due() == []


def test_a_stop_closes_what_waits(disk: MemoryDisk, log: Log) -> None:
    clock = Clock()
    append(log, batch_of(1))
    leaving = LeavingLogs(disk, "data", clock)
    disk.rename(DIRECTORY, "data/gone")
    leaving.add(log, "data/gone", is_removed=True)
    leaving.add(None, "data/other", is_removed=False)
    assert disk.open_count
    leaving.close()
    assert disk.open_count == 0
    clock.now_ms += TINY.file_delete_delay_ms
    assert leaving.take_due() == []


def test_files_go_after_the_delay_unless_a_flush_uses_them(disk: MemoryDisk, log: Log) -> None:
    clock = Clock()
    append(log, batch_of(1))
    leaving = LeavingLogs(disk, "data", clock)
    disk.rename(DIRECTORY, "data/gone")
    leaving.add(log, "data/gone", is_removed=True)
    assert log.directory == "data/gone"
    clock.now_ms += TINY.file_delete_delay_ms - 1
    assert leaving.take_due() == []
    work = log.begin_flush()
    assert leaving.take_due() == []
    clock.now_ms += 1
    assert leaving.take_due() == []
    log.finish_flush(work)
    assert disk.open_count
    assert leaving.take_due() == ["data/gone"]
    assert disk.open_count == 0

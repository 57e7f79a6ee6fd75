"""Every call of the disk that a piece of work makes fails once, for the first, the second, … until
the work meets no fault: a start, a flush, retention, DeleteRecords, a checkpoint, a deletion, a
truncation, a clean stop. (Appends and rolls: `test_faults`; compaction: `test_compaction`.)

Afterwards the process dies, or the power goes, and a start without faults must find all that was
promised, as the model of `ottla.sim.storage_model` has it, and nothing that was not.
"""

import copy
import errno
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.faults import Fault
from ottla.sim.storage_life import PARTITIONS, Clock, Life
from ottla.sim.storage_model import promise_of, whole_promise_of
from ottla.sim.storage_workload import StorageRun, Untraced, open_dir
from ottla.sim.workload import Violation
from ottla.storage.flusher import flush_now
from ottla.storage.log_dir import LogDir, LogDirError
from tests.storage.makers import remove_deleted_of

from .makers import ORDERS, TINY, append, batch_of
from .test_faults import no_syncfs
from .test_log_dir import TOPIC_ID

NAME = PARTITIONS[1]
CALLS_MAX = 400


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def prepared(seed: int) -> tuple[StorageRun, Life]:
    """A directory with some logs of several segments, part of them flushed."""
    run = StorageRun(seed, image_limit=0)
    run._boot()
    life = run.life
    life.begin(0)
    for _ in range(4):
        life.append_some()
        life.flusher.kick()
        life.offload.run()
    life.append_some()
    life.flusher.on_offline = lambda error: life.log_dir.go_offline()
    return run, life


# -- the pieces of work


def flush(life: Life) -> None:
    life.flusher.kick()
    life.offload.run()


def retention(life: Life) -> None:
    life._retain()
    life.offload.run()
    life.clock.now_ms += 100
    life._sweep()


def expiry(life: Life) -> None:
    life._expire()
    life.offload.run()
    life.clock.now_ms += 100
    life._sweep()


def delete_records(life: Life) -> None:
    flush(life)
    log, model = life.logs[NAME], life.run.models[NAME]
    model.asked_start = log.flushed_end_offset
    log.advance_start(log.flushed_end_offset)
    life._starts_are_durable()
    life.offload.run()


def checkpoint(life: Life) -> None:
    life._checkpoint()
    life.offload.run()


def delete(life: Life) -> None:
    life.flusher.forget(life.logs[NAME])
    life.run.models.pop(NAME)
    life.log_dir.delete(NAME)
    life.logs.pop(NAME)
    life.clock.now_ms += 100
    remove_deleted_of(life.log_dir)


def make_anew(life: Life) -> None:
    life.flusher.forget(life.logs[NAME])
    life.run.models.pop(NAME)
    life.logs.pop(NAME)
    life.log_dir.delete(NAME)
    life._make(NAME)
    flush(life)


def truncate(life: Life) -> None:
    log, model = life.logs[NAME], life.run.models[NAME]
    offset = model.batches[2].base_offset
    model.truncate(offset)
    log.truncate_to(offset, life.clock.now_ms)
    life.flusher.mark_dirty(log)
    flush(life)


def clean_stop(life: Life) -> None:
    flush(life)
    life.log_dir.close({})


WORKS = [
    flush,
    retention,
    expiry,
    delete_records,
    checkpoint,
    delete,
    make_anew,
    truncate,
    clean_stop,
]


# -- the loops


def start(drive: Drive) -> LogDir:
    return open_dir(SimDisk(drive, random.Random(1), Untraced()), 1, Clock())


def survive(drive: Drive, run: StorageRun, told: str, *, has_lost_pages: bool) -> None:
    """The process dies, or the power goes: the start after it finds what was promised."""
    make = promise_of if has_lost_pages else whole_promise_of
    log_dir = start(drive.clone())
    run._hold(run._promises(make), log_dir, f"{told}, killed", is_whole=not has_lost_pages)
    for mode in (CrashMode.DROP, CrashMode.FULL):
        twin = drive.clone()
        twin.power_cut(random.Random(told), mode)
        run._hold(copy.deepcopy(run._promises()), start(twin), f"{told}, {mode}")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("times", [1, 1 << 30], ids=["once", "for good"])
@pytest.mark.parametrize("work", WORKS, ids=[work.__name__ for work in WORKS])
def test_no_call_that_fails_loses_what_was_promised(
    work: Callable[[Life], None], times: int, code: int
) -> None:
    count, met = 0, 1
    while met:
        count += 1
        assert count < CALLS_MAX
        run, life = prepared(3)
        fault = Fault(nth=count, times=times, code=code, loses_pending=code == errno.EIO)
        life.disk.faults.plan(fault)
        with suppress(OSError, LogDirError):
            work(life)
        if NAME not in life.logs:  # it could not be made, and nothing of it is promised
            run.models.pop(NAME, None)
        met = fault.hits
        if met and code == errno.EIO:
            life.disk.faults.planned.clear()
            life.log_dir.go_offline()  # as a node does
        life.disk.die()
        told = f"{work.__name__}, call {count}"
        survive(run.drive.clone(), run, told, has_lost_pages=bool(met) and code == errno.EIO)
    assert count > 3


@pytest.mark.parametrize("is_clean", [False, True], ids=["unclean", "clean"])
@pytest.mark.parametrize("times", [1, 1 << 30], ids=["once", "for good"])
def test_no_call_of_a_start_that_fails_loses_anything(times: int, is_clean: bool) -> None:
    count, met = 0, 1
    while met:
        count += 1
        assert count < CALLS_MAX
        run, life = prepared(4)
        if is_clean:
            clean_stop(life)
        life.disk.die()
        drive = run.drive.clone()
        disk = SimDisk(drive, random.Random(1), Untraced())
        fault = disk.faults.plan(Fault(nth=count, times=times))
        with suppress(Violation, OSError):  # no start: one line for the operator
            open_dir(disk, 1, Clock())
        met = fault.hits
        disk.die()
        survive(drive.clone(), run, f"start, call {count}", has_lost_pages=False)
    assert count > 20


@pytest.mark.parametrize("seed", range(20))
def test_a_truncation_that_was_flushed_is_not_undone_by_a_power_cut(seed: int) -> None:
    """Its renames are part of what a flush has to make durable, though no content is new."""
    drive = Drive()
    disk = SimDisk(drive, random.Random(seed), Untraced())
    log_dir = open_dir(disk, 1, Clock())
    log = log_dir.create(ORDERS, TOPIC_ID, TINY)
    disk.sync_file_system = no_syncfs  # type: ignore[method-assign]
    for _ in range(30):
        append(log, batch_of(1))
    flush_now(disk, [log])
    kept = log.active.base_offset
    log.truncate_to(kept, 1_000)
    flush_now(disk, [log])
    disk.die()
    drive.power_cut(random.Random(seed), CrashMode.DROP)
    again = start(drive).logs[ORDERS]
    assert again.log_end_offset == kept

"""Compaction against a model: for any history of keys, tombstones, transactions, producers,
rolls, passes and crashes the last committed value of each key survives, offsets never change, a
consumer that reads from the start sees the right map, and no tombstone goes before its time."""

import random
from contextlib import suppress
from copy import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.drive import Drive
from ottla.sim.trace import Trace
from ottla.storage.offset_map import SLOT_BYTES

from .compacting import History, batches, checkpoint, compact
from .test_faults import no_syncfs
from .test_log_dir import Clock

LOSSY = list(CrashMode)
KINDS = ("put", "put", "put", "transaction", "transaction", "end", "roll", "flush", "compact")
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*KINDS, "compact small", "wait", "crash", "crash", "stop")),
        st.integers(0, 1 << 16),
    ),
    max_size=40,
)


class World:
    """A drive and the node on it, which may die at any call."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.drive = Drive()
        self.clock = Clock()
        self.history = History(self._disk(), self.clock)
        self.history.flush()

    def _disk(self) -> SimDisk:
        disk = SimDisk(self.drive, self.rng, Trace(lambda: 0.0))
        if self.rng.random() < 0.5:
            disk.sync_file_system = no_syncfs  # type: ignore[method-assign, assignment]
        self.disk = disk
        return disk

    def step(self, kind: str, number: int) -> None:
        history, rng = self.history, random.Random(number)
        keys = [rng.randrange(9) for _ in range(rng.randrange(1, 5))]
        self.clock.now_ms += rng.randrange(20)
        if kind == "put":
            history.put(keys, rng.choice((-1, 1, 2)))
        elif kind == "transaction":
            history.put(keys, rng.choice((11, 12, 13)), transactional=True)
        elif kind == "end":
            history.end(rng.choice((11, 12, 13)), commit=rng.random() < 0.5)
        elif kind == "roll":
            history.roll()
        elif kind == "flush":
            history.flush()
        elif kind == "compact":
            history.compact()
        elif kind == "compact small":
            history.compact(map_bytes=rng.randrange(3, 9) * SLOT_BYTES)
        elif kind == "wait":
            self.clock.now_ms += rng.choice((300, 700, 1_500))
        elif kind == "stop":
            history.log_dir.close({})
            history.open_log(self._disk())
        else:
            self.crash(rng)

    def crash(self, rng: random.Random) -> None:
        """Power is lost at some call of a pass, and perhaps again at some call of the start."""
        self._die_at(rng.randrange(1, 200), self.history.compact, rng)
        while True:
            disk = self._disk()
            if rng.random() < 0.6:
                break
            self._die_at(rng.randrange(1, 60), lambda: self.history.open_log(self.disk), rng)
        self.history.open_log(disk)
        self.history.cut_to_log()

    def _die_at(self, count: int, call, rng: random.Random) -> None:  # type: ignore[no-untyped-def]
        self.die_at(count, call)
        if rng.random() < 0.8:  # else the process alone died
            self.drive.power_cut(rng, rng.choice(LOSSY))
        self.drive.locks = {}

    def die_at(self, count: int, call) -> bool:  # type: ignore[no-untyped-def]
        """Whether the call came so far that the node died."""
        disk, left = self.disk, count

        def on_call(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                disk.die()
                raise OSError(5, "power lost")

        disk.faults.on_call = on_call  # type: ignore[assignment]
        try:
            call()
        except Exception:
            assert not disk.is_alive
        disk.faults.on_call = None  # type: ignore[assignment]
        has_died = not disk.is_alive
        if disk.is_alive:
            disk.die()
        self.drive = self.drive.clone()
        self.drive.locks = {}
        return has_died


def run(steps: list[tuple[str, int]], seed: int) -> World:
    world = World(seed)
    for kind, number in steps:
        world.step(kind, number)
        if kind in ("compact", "compact small", "crash", "stop"):
            world.history.check()
    for producer_id in list(world.history.open):
        world.history.end(producer_id, commit=bool(producer_id % 2))
    for number in range(5):  # a marker goes in the third pass that finds its transaction empty
        world.history.put([number % 2 + 7], -1)
        world.history.roll()
        world.history.compact()
        world.history.check()
        world.clock.now_ms += 600
    return world


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(steps=STEPS, seed=st.integers(0, 1 << 16))
def test_the_last_committed_value_of_each_key_survives(
    steps: list[tuple[str, int]], seed: int
) -> None:
    run(steps, seed)


def random_steps(seed: int, count: int = 60) -> list[tuple[str, int]]:
    rng = random.Random(seed)
    kinds = (*KINDS, *KINDS, "compact small", "wait", "crash", "stop")
    return [(rng.choice(kinds), rng.randrange(1 << 16)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(60))
def test_long_histories(seed: int) -> None:
    run(random_steps(seed), seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60, 3_000))
def test_many_long_histories(seed: int) -> None:
    run(random_steps(seed, 90), seed)


class Died(Exception):
    pass


def swapping(moment: int) -> World:
    """A world whose node died at that step of the swaps of a pass, and not the power."""
    world = World(moment)
    for number in range(24):
        world.step("transaction" if number % 6 == 2 else "put", number)
        world.step("end", number)
        if number % 2:
            world.step("roll", number)  # small ones, of which several become one
    for producer_id in list(world.history.open):
        world.history.end(producer_id, commit=False)
    world.history.roll()
    world.history.flush()
    left = moment

    def between() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    with suppress(Died):
        history = world.history
        compact(
            history.log,
            world.clock.now_ms,
            write_checkpoint=lambda: checkpoint(history.log_dir),
            between=between,
        )
    world.disk.die()
    world.drive = world.drive.clone()
    world.drive.locks = {}
    return world


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_start_that_finishes_a_swap_may_lose_power_at_any_call(moment: int) -> None:
    """What the process before had not made durable, too."""
    before = swapping(moment)
    count, dies = 0, True
    while dies:
        count += 1
        for seed in range(2):
            world = copy(before)
            world.history = copy(before.history)
            world.drive = before.drive.clone()
            world.history.disk = world._disk()
            dies = world.die_at(count, lambda w=world: w.history.open_log(w.disk))  # type: ignore[misc]
            mode = CrashMode.DROP if seed % 2 else CrashMode.TEAR
            world.drive.power_cut(random.Random(f"{moment}{count}{seed}"), mode)
            world.history.open_log(world._disk())
            world.history.check()
    assert count > 8


def test_the_histories_hold_what_they_are_to_test() -> None:
    """Markers that went, empty batches, horizons, holes: all of it comes up."""
    horizons = empties = holes = gone = 0
    for seed in range(60):
        world = run(random_steps(seed), seed)
        seen = list(batches(world.history.log))
        due = world.history.log.log_start_offset
        for header, records in seen:
            horizons += header.has_delete_horizon
            empties += not records
            holes += header.base_offset > due
            due = header.last_offset + 1
        offsets = {record.offset for each in seen for record in each.records}
        gone += sum(entry.last_offset not in offsets for entry in world.history.aborted)
    assert min(horizons, empties, holes, gone) > 20, (horizons, empties, holes, gone)

"""Deadlines on a loop whose time is moved by hand."""

import asyncio
from typing import Any

import pytest

from ottla.replica.purgatory import SWEEP_BUCKETS, TICK_S, Deadlines, Parked
from tests.replica.conftest import HandLoop


class One(Parked):
    def __init__(self, loop: HandLoop) -> None:
        super().__init__()
        self._loop = loop
        self.expired_at: float | None = None

    def expire(self) -> None:
        assert self.expired_at is None
        self.expired_at = self._loop.time()

    def abandon(self) -> None:
        raise AssertionError("nobody abandons it")


@pytest.fixture
def deadlines(loop: HandLoop) -> Deadlines:
    return Deadlines(loop)


def test_it_expires_once_and_not_before_its_time(loop: HandLoop, deadlines: Deadlines) -> None:
    started = loop.time()
    timeouts = [0, 1, 9, 10, 11, 500, 30_000, 2**31 - 1]
    parked = [One(loop) for _ in timeouts]
    for one, timeout_ms in zip(parked, timeouts, strict=True):
        deadlines.add(one, timeout_ms)
    loop.pass_time(40)
    for one, timeout_ms in zip(parked[:-1], timeouts, strict=False):
        assert one.expired_at is not None
        late = one.expired_at - started - timeout_ms / 1000
        assert -1e-6 <= late <= TICK_S + 1e-6
    assert parked[-1].expired_at is None


def test_a_negative_timeout_is_none(loop: HandLoop, deadlines: Deadlines) -> None:
    one = One(loop)
    deadlines.add(one, -(2**31))
    loop.pass_time(TICK_S)
    assert one.expired_at is not None


def test_what_was_removed_does_not_expire(loop: HandLoop, deadlines: Deadlines) -> None:
    kept, removed = One(loop), One(loop)
    deadlines.add(kept, 50)
    deadlines.add(removed, 50)
    deadlines.remove(removed)
    deadlines.remove(removed)
    loop.pass_time(1)
    assert removed.expired_at is None
    assert kept.expired_at is not None
    deadlines.remove(kept)


def test_one_timer_however_many_wait(loop: HandLoop, deadlines: Deadlines) -> None:
    for timeout_ms in (5_000, 100, 900, 10, 70_000):
        deadlines.add(One(loop), timeout_ms)
        assert len(loop.timers) == 1
    loop.pass_time(1)
    assert len(loop.timers) == 1
    deadlines.close()
    assert not loop.timers


def test_who_expires_may_wait_anew(loop: HandLoop, deadlines: Deadlines) -> None:
    class Again(One):
        def expire(self) -> None:
            super().expire()
            deadlines.add(second, 100)

    second = One(loop)
    deadlines.add(Again(loop), 100)
    loop.pass_time(1)
    assert second.expired_at is not None


def test_deadlines_that_were_emptied_do_not_pile_up(loop: HandLoop, deadlines: Deadlines) -> None:
    """A client chooses its deadlines: each finished request may leave an empty bucket."""
    waiting = One(loop)
    deadlines.add(waiting, 60_000)
    for number in range(20 * SWEEP_BUCKETS):
        one = One(loop)
        deadlines.add(one, 100_000 + number * 20)
        deadlines.remove(one)
    assert len(deadlines._buckets) <= 2 * SWEEP_BUCKETS
    assert len(deadlines._order) == len(deadlines._buckets)
    loop.pass_time(61)
    assert waiting.expired_at is not None


def test_many_that_all_wait_are_all_kept(loop: HandLoop, deadlines: Deadlines) -> None:
    parked = [One(loop) for _ in range(3 * SWEEP_BUCKETS)]
    for number, one in enumerate(parked):
        deadlines.add(one, number * 15)
    loop.pass_time(60)
    assert all(one.expired_at is not None for one in parked)


def test_it_runs_on_a_real_loop() -> None:
    async def run() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        class Real(Parked):
            def expire(self) -> None:
                done.set_result(None)

        deadlines = Deadlines(loop)
        deadlines.add(Real(), 1)
        await asyncio.wait_for(done, 30)
        deadlines.close()

    asyncio.run(run())

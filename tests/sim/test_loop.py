import asyncio
import gc

import pytest

from ottla.sim.loop import START_S, SimDeadlock, SimLoop, SimStuck
from ottla.sim.process import Process


def test_time_jumps_to_the_next_timer() -> None:
    loop = SimLoop()

    async def main() -> list[float]:
        times = []
        for pause in (0.0, 1.5, 3600.0):
            await asyncio.sleep(pause)
            times.append(loop.time() - START_S)
        return times

    assert loop.run(main()) == [0.0, 1.5, 3601.5]


def test_timers_of_one_moment_run_in_the_order_they_were_set() -> None:
    loop = SimLoop()
    seen: list[int] = []

    async def main() -> None:
        for number in range(50):
            loop.call_later(1.0, seen.append, number)
        loop.call_later(0.5, seen.append, -1)
        loop.call_soon_threadsafe(seen.append, -2)
        await asyncio.sleep(2)

    loop.run(main())
    assert seen == [-2, -1, *range(50)]


def test_wait_for_times_out_and_cancelled_timers_do_not_move_time() -> None:
    loop = SimLoop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 2.0)
        assert loop.time() == START_S + 2.0
        for _ in range(5_000):
            await asyncio.wait_for(asyncio.sleep(0), 1_000.0)
        assert loop.time() == START_S + 2.0
        assert len(loop._timers) < 2_500

    loop.run(main())


def test_events_queues_locks_and_groups() -> None:
    loop = SimLoop()

    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()
        got = []

        async def producer() -> None:
            for number in range(10):
                await queue.put(number)

        async def consumer() -> None:
            async with lock:
                for _ in range(10):
                    got.append(await queue.get())
                    await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            group.create_task(consumer())
        return got

    assert loop.run(main()) == list(range(10))


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    loop = SimLoop()

    async def waits_for_ever() -> None:
        await loop.create_future()

    with pytest.raises(SimDeadlock, match="waits_for_ever"):
        loop.run(waits_for_ever())


def test_a_run_that_never_ends_is_stuck() -> None:
    async def ticks() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(SimStuck, match="virtual time is up"):
        SimLoop(time_limit_s=100).run(ticks())


def test_time_that_stands_still_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.sim.loop.STANDSTILL_CALLS", 1_000)

    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimStuck, match="at one moment"):
        SimLoop().run(spins())


def test_an_error_in_a_callback_fails_the_run() -> None:
    loop = SimLoop()

    async def main() -> None:
        loop.call_later(1, [].pop)
        await asyncio.sleep(10)

    with pytest.raises(IndexError):
        loop.run(main())
    assert loop.time() == START_S + 1


def test_a_task_whose_error_nobody_looks_at_fails_the_run() -> None:
    loop = SimLoop()

    async def fails() -> None:
        raise KeyError("lost")

    async def main() -> None:
        task = loop.create_task(fails())
        await asyncio.sleep(1)
        del task
        await asyncio.sleep(1)

    with pytest.raises(KeyError):
        loop.run(main())


def test_what_main_leaves_behind_is_cancelled_in_order() -> None:
    loop = SimLoop()
    ended = []

    async def background(number: int) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append(number)

    async def main() -> None:
        for number in range(20):
            loop.create_task(background(number))
        await asyncio.sleep(0.1)

    loop.run(main())
    assert ended == list(range(20))


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(NotImplementedError, match="no threads"):
        SimLoop().run(main())


def test_a_killed_process_stops_where_it_is() -> None:
    loop = SimLoop()
    seen: list[str] = []

    async def child() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append("child")

    async def victim() -> None:
        loop.create_task(child())
        loop.call_later(2.5, seen.append, "timer")
        try:
            await loop.create_future()
        finally:
            seen.append("unwound")
            raise OSError("the world is dead")

    async def main() -> None:
        process = Process("victim")
        process.spawn(victim())
        await asyncio.sleep(2.2)
        loop.kill(process)
        seen.append("killed")
        await asyncio.sleep(10)

    loop.run(main())
    gc.collect()
    assert seen == ["child", "child", "unwound", "killed"]

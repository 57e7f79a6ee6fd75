import asyncio
import threading

import pytest

from ottla.host.offload import HostOffload


def run(test):
    """Run `test(loop, offload)` and close the offload after it."""

    async def whole():
        loop = asyncio.get_running_loop()
        offload = HostOffload(loop, thread_count=3)
        try:
            async with asyncio.timeout(30):
                await test(loop, offload)
        finally:
            offload.close()

    asyncio.run(whole())


def outcome(loop, offload, call):
    future = loop.create_future()

    def done(result, error):
        if error is None:
            future.set_result((result, threading.current_thread()))
        else:
            future.set_exception(error)

    offload.submit(call, done)
    return future


def test_the_call_is_made_elsewhere_and_its_result_comes_back_here():
    async def test(loop, offload):
        thread, where = await outcome(loop, offload, threading.current_thread)
        assert where is threading.current_thread()
        assert thread is not where
        assert thread.daemon

    run(test)


def test_an_error_comes_back():
    async def test(loop, offload):
        def fail():
            raise OSError(5, "broken")

        with pytest.raises(OSError, match="broken"):
            await outcome(loop, offload, fail)
        assert (await outcome(loop, offload, lambda: 7))[0] == 7

    run(test)


def test_calls_overlap_up_to_the_thread_count_and_no_thread_starts_before_it_is_needed():
    async def test(loop, offload):
        before = threading.active_count()
        for _ in range(5):
            await outcome(loop, offload, lambda: None)
        assert threading.active_count() == before + 1
        barrier = threading.Barrier(3)
        await asyncio.gather(*(outcome(loop, offload, barrier.wait) for _ in range(3)))
        await asyncio.gather(*(outcome(loop, offload, lambda: None) for _ in range(50)))
        assert threading.active_count() <= before + 3

    run(test)


def test_many_outcomes_cost_few_wake_ups():
    async def test(loop, offload):
        wake_ups = []
        told = loop.call_soon_threadsafe

        def counted(call):
            wake_ups.append(call)
            return told(call)

        loop.call_soon_threadsafe = counted
        results = []
        ready = threading.Semaphore(0)
        for number in range(100):
            offload.submit(
                lambda number=number: (ready.release(), number)[1],
                lambda result, _: results.append(result),
            )
        for _ in range(100):  # the loop stands still until all calls are made
            ready.acquire()
        while len(results) < 100:
            await asyncio.sleep(0)
        assert sorted(results) == list(range(100))
        # One for all, and one at most for each call that ended while the loop took outcomes.
        assert len(wake_ups) < 10

    run(test)


def test_a_callback_that_fails_is_reported_and_the_others_are_called():
    async def test(loop, offload):
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

        def bad(result, error):
            raise ValueError("mine")

        offload.submit(lambda: None, bad)
        assert (await outcome(loop, offload, lambda: 1))[0] == 1
        while not reported:
            await asyncio.sleep(0)
        assert str(reported[0]) == "mine"

    run(test)


def test_close_ends_the_threads_after_their_calls():
    before = threading.enumerate()  # other tests of this process may keep a broker

    async def test(loop, offload):
        made = []
        for number in range(20):
            offload.submit(lambda number=number: made.append(number), lambda result, error: None)
        offload.close()
        assert sorted(made) == list(range(20))
        assert not [t for t in threading.enumerate() if t not in before]

    run(test)


def test_outcomes_after_the_loop_is_closed_are_dropped():
    loop = asyncio.new_event_loop()
    offload = HostOffload(loop)
    go_on = threading.Event()
    offload.submit(go_on.wait, lambda result, error: None)
    loop.close()
    go_on.set()
    offload.close()

"""The bound on what connections keep, with keepers that only count, and over real sockets."""

import asyncio
import logging

import pytest

from ottla.base.world import ListenCaps
from ottla.host import pool as pool_module
from ottla.host.pool import SHORT_READ_BYTES, Pool

CAPACITY = 1 << 20


class Clock(asyncio.AbstractEventLoop):
    """A loop of which only what the pool uses works; timers are run by hand."""

    def __init__(self):
        self.now = 100.0
        self.calls = []
        self.timer = None

    def time(self):
        return self.now

    def call_soon(self, call, *args):
        self.calls.append(call)

    def call_later(self, delay, call):
        assert self.timer is None
        self.timer = call
        return self

    def cancel(self):
        self.timer = None

    def pass_time(self, seconds):
        self.now += seconds
        call, self.timer = self.timer, None
        call()


class Keeper:
    def __init__(self, pool):
        self.pool = pool
        self.unread = 0
        self.is_gone = False

    def keep(self, size, *, got_on=False):
        self.pool.keep_input(self, size, got_on=got_on)

    def unread_bytes(self):
        return self.unread

    def read_on(self):
        raise AssertionError("called by the loop alone")

    def give_up(self):
        self.is_gone = True
        self.pool.forget(self)


@pytest.fixture
def loop():
    return Clock()


@pytest.fixture
def pool(loop):
    made = Pool(loop)
    made.capacity = CAPACITY
    return made


@pytest.fixture
def keepers(pool):
    return [Keeper(pool) for _ in range(4)]


def test_nobody_waits_while_there_is_room(pool, loop, keepers):
    for keeper in keepers:
        keeper.keep(CAPACITY // 4)
    assert not pool.is_short
    assert loop.timer is None


def test_past_the_bound_the_oldest_alone_is_read(pool, keepers):
    first, second, third, _ = keepers
    for keeper in (first, second, third):
        keeper.keep(CAPACITY // 2)
    assert pool.is_short
    assert [pool.may_read(each) for each in keepers] == [True, False, False, True]


def test_the_next_oldest_goes_on_when_the_first_is_finished(pool, loop, keepers):
    first, second, third, _ = keepers
    first.keep(10)
    second.keep(CAPACITY)
    third.keep(CAPACITY)
    assert not pool.may_read(second) and not pool.may_read(third)
    first.keep(0, got_on=True)
    assert loop.calls == [second.read_on]
    assert pool.is_short
    second.keep(0, got_on=True)
    assert loop.calls == [second.read_on, third.read_on]
    assert not pool.is_short
    assert pool.input_bytes == CAPACITY


def test_who_finishes_a_frame_and_begins_another_is_the_youngest(pool, keepers):
    first, second, *_ = keepers
    first.keep(CAPACITY)
    second.keep(CAPACITY)
    first.keep(CAPACITY, got_on=True)
    assert not pool.may_read(first)
    assert pool.may_read(second)


def test_who_does_not_get_on_is_closed_while_memory_is_short(pool, loop, keepers):
    first, second, third, _ = keepers
    first.keep(CAPACITY)
    loop.now += 5
    second.keep(1)
    third.keep(1)
    third.keep(2)  # more of the same frame is no progress
    loop.pass_time(5)
    assert [each.is_gone for each in keepers] == [True, False, False, False]
    assert not pool.is_short
    first.pool.keep_input(second, CAPACITY + 1, got_on=False)
    loop.pass_time(5)
    assert second.is_gone
    assert not third.is_gone, "closed though memory was not short any more"


def test_nobody_is_closed_for_being_slow_while_there_is_room(pool, loop, keepers):
    keepers[0].keep(CAPACITY)
    loop.now += 1_000
    keepers[1].keep(1)
    loop.pass_time(0)
    assert keepers[0].is_gone  # older than the patience when memory became short
    assert not pool.is_short


def test_unread_answers_count(pool, loop, keepers):
    reader, other, *_ = keepers
    reader.unread = CAPACITY + 1
    pool.keep_output(reader)
    assert not pool.is_short
    loop.pass_time(1)
    assert pool.is_short
    loop.now += 8
    pool.keep_output(other)
    loop.pass_time(1)
    assert reader.is_gone and not other.is_gone
    assert not pool.is_short
    pool.forget_output(other)
    loop.pass_time(1)
    assert loop.timer is None


def test_a_reader_that_reads_is_not_closed(pool, loop, keepers):
    reader = keepers[0]
    reader.unread = CAPACITY + 1
    for _ in range(100):
        pool.keep_output(reader)
        loop.pass_time(5)
        assert pool.is_short
    assert not reader.is_gone


def test_without_a_bound_nothing_is_short(pool, loop, keepers):
    pool.capacity = None
    keepers[0].keep(1 << 40)
    pool.keep_output(keepers[0])
    assert not pool.is_short
    assert loop.timer is None


# Over sockets: every peer's frames are `FRAME` bytes.

FRAME = 300_000
SENDERS = 40


def test_half_sent_frames_stop_at_the_bound_and_small_ones_are_served(place, monkeypatch, caplog):
    async def run():
        async with place(ListenCaps(max_kept_bytes=CAPACITY), FRAME) as here:
            pool = here.world.network._hub.pool
            senders = [await here.pair() for _ in range(SENDERS)]
            writes = [
                asyncio.ensure_future(here.loop.sock_sendall(sock, bytes(FRAME - 1)))
                for sock, _ in senders
            ]
            while not pool.is_short:
                await asyncio.sleep(0)
            assert pool.input_bytes < CAPACITY + 2 * FRAME + SENDERS * SHORT_READ_BYTES
            here.frame = 10
            small, small_peer = await here.pair()
            await here.loop.sock_sendall(small, bytes(10))
            await small_peer.until(lambda peer: len(peer.data) == 10)
            monkeypatch.setattr(pool_module, "PATIENCE_SECONDS", 0.0)
            for _, peer in senders:
                if pool.is_short:
                    await peer.until(lambda peer: bool(peer.causes or peer.calls))
            while pool.is_short:
                await asyncio.sleep(0.01)
            assert any(peer.causes == ["memory is short"] for _, peer in senders)
            assert not small_peer.causes
            for write in writes:
                write.cancel()
            await asyncio.gather(*writes, return_exceptions=True)

    caplog.set_level(logging.WARNING)
    asyncio.run(run())
    assert all("queued.max.request.bytes" in line for line in caplog.messages)


def test_past_the_bound_a_socket_with_a_tail_is_not_read(place):
    async def run():
        async with place(ListenCaps(max_kept_bytes=1_000), FRAME) as here:
            (first, first_peer), (second, second_peer) = await here.pair(), await here.pair()
            await here.loop.sock_sendall(first, bytes(900))
            await first_peer.until(lambda peer: peer.calls == [900])
            await here.loop.sock_sendall(second, bytes(900))
            await second_peer.until(lambda peer: peer.calls == [900])
            await here.loop.sock_sendall(second, bytes(100))
            for size in (901, 902, 903):
                await here.loop.sock_sendall(first, bytes(1))
                await first_peer.until(lambda peer, size=size: peer.calls[-1] == size)
            assert second_peer.calls == [900]
            first.close()
            await second_peer.until(lambda peer: peer.calls == [900, 1_000])

    asyncio.run(run())


def test_frames_that_wait_for_memory_come_whole_in_the_end(place):
    """Twenty frames are wanted at once where three have room: each gets its turn."""

    async def run():
        async with place(ListenCaps(max_kept_bytes=CAPACITY), FRAME) as here:
            pairs = [await here.pair() for _ in range(20)]
            pool = here.world.network._hub.pool
            was_short = False

            async def send(sock, half):
                await here.loop.sock_sendall(sock, bytes(half))

            await asyncio.gather(*(send(sock, FRAME // 2) for sock, _ in pairs[:10]))
            writes = [
                asyncio.ensure_future(send(sock, FRAME // 2 if at < 10 else FRAME))
                for at, (sock, _) in enumerate(pairs)
            ]
            for _, peer in pairs:
                was_short = was_short or pool.is_short
                await peer.until(lambda peer: len(peer.data) == FRAME)
            await asyncio.gather(*writes)
            assert was_short
            assert pool.input_bytes == 0

    asyncio.run(run())


def test_a_reader_that_does_not_read_is_closed_when_memory_is_short(place, monkeypatch):
    async def run():
        monkeypatch.setattr(pool_module, "SWEEP_SECONDS", 0.01)
        monkeypatch.setattr(pool_module, "PATIENCE_SECONDS", 0.05)
        async with place(ListenCaps(max_kept_bytes=CAPACITY)) as here:
            _, peer = await here.pair(receive_bytes=4096)
            peer.connection.send([bytes(64 << 20)])
            await peer.until(lambda peer: bool(peer.causes))
            assert peer.causes == ["memory is short"]

    asyncio.run(run())

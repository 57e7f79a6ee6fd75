import asyncio
import gc
import logging
import os
import socket
import struct
import subprocess
import sys

import pytest

from ottla.base.limits import SCRATCH_BYTES
from ottla.base.world import FileRange
from ottla.host import connection as connection_module
from ottla.host import syscalls
from ottla.host.disk import HostDisk


def run(test):
    asyncio.run(test)


async def some_went(peer):
    unsent = peer.connection.unsent_bytes
    while peer.connection.unsent_bytes == unsent:
        await asyncio.sleep(0)


# Reading


def test_what_is_sent_arrives_and_both_ends_are_named(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            await here.loop.sock_sendall(sock, b"hello")
            await peer.until(lambda p: p.data == b"hello")
            assert peer.connection.peer == "{}:{}".format(*sock.getsockname())
            assert peer.connection.local == "{}:{}".format(*here.listener.address)

    run(test())


def test_a_frame_cut_into_single_bytes_is_handed_over_whole(place):
    async def test():
        async with place(frame=50) as here:
            sock, peer = await here.pair()
            message = os.urandom(50)
            for number, byte in enumerate(message, 1):
                await here.loop.sock_sendall(sock, bytes([byte]))
                await peer.until(lambda p, number=number: p.calls[-1:] == [number])
            assert peer.data == message

    run(test())


@pytest.mark.parametrize("size", [SCRATCH_BYTES - 1, SCRATCH_BYTES, 3 * SCRATCH_BYTES + 7])
def test_a_frame_around_and_past_the_size_of_the_scratch(place, size):
    async def test():
        async with place(frame=size) as here:
            sock, peer = await here.pair()
            frames = os.urandom(1 << 16) * (2 * size // (1 << 16) + 1)
            frames = frames[: 2 * size]
            await here.loop.sock_sendall(sock, frames)
            await peer.until(lambda p: len(p.data) == 2 * size)
            assert peer.data == frames
            await here.loop.sock_sendall(sock, frames[: size - 1])
            await peer.until(lambda p: p.calls[-1] == size - 1)
            await here.loop.sock_sendall(sock, frames[size - 1 : size])
            await peer.until(lambda p: len(p.data) == 3 * size)
            assert peer.data[2 * size :] == frames[:size]

    run(test())


def test_connections_that_share_the_scratch_do_not_mix(place):
    async def test():
        async with place(frame=1000) as here:
            pairs = [await here.pair() for _ in range(10)]
            for _ in range(7):
                for index, (sock, _) in enumerate(pairs):
                    await here.loop.sock_sendall(sock, bytes([index]) * 300)
            for index, (_, peer) in enumerate(pairs):
                await peer.until(lambda p: len(p.data) == 2000)
                assert peer.data == bytes([index]) * 2000

    run(test())


def test_while_paused_nothing_is_read_and_resume_presents_the_rest(place):
    async def test():
        async with place(frame=10) as here:
            sock, peer = await here.pair()
            peer.on_received = peer.connection.pause
            await here.loop.sock_sendall(sock, b"a" * 14)
            await peer.until(lambda p: len(p.data) == 10)
            await here.loop.sock_sendall(sock, b"a" * 6)
            calls = list(peer.calls)
            other, other_peer = await here.pair()
            for _ in range(3):  # the loop goes round, and would have read
                await here.loop.sock_sendall(other, b"b" * 10)
                size = len(other_peer.data)
                await other_peer.until(lambda p, size=size: len(p.data) > size)
            assert peer.calls == calls
            peer.connection.resume()
            assert peer.calls == calls, "resume must not call from within"
            await peer.until(lambda p: len(p.calls) > len(calls))
            assert peer.calls[len(calls)] == 4
            peer.on_received = lambda: None
            peer.connection.resume()
            await peer.until(lambda p: p.data == b"a" * 20)

    run(test())


def test_pause_and_resume_within_received(place):
    async def test():
        async with place(frame=4) as here:
            sock, peer = await here.pair()

            def back_and_forth():
                peer.connection.pause()
                peer.connection.resume()

            peer.on_received = back_and_forth
            for _ in range(50):
                await here.loop.sock_sendall(sock, b"abcdef")
            await peer.until(lambda p: len(p.data) == 300)
            assert peer.data == b"abcdef" * 50

    run(test())


def test_paused_frames_are_handled_one_by_one(place):
    """A handler that pauses after each frame is given the rest again until none is left."""

    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            seen = bytearray()

            def received(data):
                seen.append(data[0])
                peer.connection.pause()
                here.loop.call_soon(peer.connection.resume)
                return 1

            peer.received = received
            message = os.urandom(200)
            await here.loop.sock_sendall(sock, message)
            while len(seen) < 200:
                await asyncio.sleep(0)
            assert seen == message

    run(test())


# Writing


def test_what_is_sent_in_a_turn_leaves_in_one_call(place, monkeypatch):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            calls = []
            write_once = connection_module.outbox.write_once

            def counted(sock, queue):
                calls.append(len(queue))
                return write_once(sock, queue)

            monkeypatch.setattr(connection_module.outbox, "write_once", counted)
            connection = peer.connection
            for number in range(20):
                connection.send([b"%02d" % number, b"", bytearray(b"-"), memoryview(b";")])
            assert connection.unsent_bytes == 80
            assert calls == []
            expected = b"".join(b"%02d-;" % number for number in range(20))
            assert await here.read(sock, 80) == expected
            assert calls == [60]
            assert connection.unsent_bytes == 0
            assert peer.drained_count == 1

            peer.on_received = lambda: connection.send([b"reply"])
            await here.loop.sock_sendall(sock, b"x")
            assert await here.read(sock, 5) == b"reply"
            assert calls == [60, 1]

    run(test())


def test_nothing_to_send_is_nothing_sent(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            peer.connection.send([])
            peer.connection.send([b"", memoryview(b"")])
            peer.connection.send([b"x"])
            assert await here.read(sock, 1) == b"x"

    run(test())


@pytest.fixture
def file(tmp_path, noise):
    opened = HostDisk().open(str(tmp_path / "file"), create=True)
    opened.pwrite(noise, 0)
    yield opened
    opened.close()


@pytest.mark.parametrize("send_range", [syscalls.send_range, syscalls.send_copy])
def test_ranges_and_bytes_to_a_slow_reader_are_exact(place, file, noise, send_range, monkeypatch):
    monkeypatch.setattr(syscalls, "send_range", send_range)

    async def test():
        async with place() as here:
            sock, peer = await here.pair(receive_bytes=4096)
            expected = bytearray()
            for number in range(60):
                start, length = number * 50_001, 1 + number * 1234
                header = b"[%d]" % number
                small = [b"x" * (number % 3)] * number
                peer.connection.send([header, FileRange(file, start, length), *small])
                expected += header + noise[start : start + length] + b"".join(small)
            blob = noise[:2_000_000]
            peer.connection.send([blob])
            expected += blob
            assert peer.connection.unsent_bytes == len(expected)
            assert await here.read(sock, 100_000) == expected[:100_000]
            assert 0 < peer.connection.unsent_bytes <= len(expected) - 100_000
            assert peer.drained_count == 0
            peer.connection.send([b"last"])
            expected += b"last"
            assert await here.read(sock, len(expected) - 100_000) == expected[100_000:]
            await peer.until(lambda p: p.drained_count == 1)
            assert peer.connection.unsent_bytes == 0
            assert not here.loop.remove_writer(peer.connection._socket), "still watched"

    run(test())


def test_a_turn_writes_no_more_than_its_share(place, file, noise, monkeypatch):
    monkeypatch.setattr(connection_module, "TURN_WRITE_BYTES", 1000)

    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            peer.connection.send([FileRange(file, at, 400) for at in range(0, 4000, 400)])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert peer.connection.unsent_bytes > 0
            assert await here.read(sock, 4000) == noise[:4000]

    run(test())


def test_a_range_past_the_end_of_its_file_ends_the_connection(place, file, noise, caplog):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            peer.connection.send([b"head", FileRange(file, len(noise) - 10, 20)])
            assert await here.read_to_end(sock) == b"head" + noise[-10:]
            await peer.until(lambda p: p.causes)
            assert "no 10 bytes" in peer.causes[0]
            assert peer.connection.unsent_bytes == 0

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "no 10 bytes at position" in caplog.text


# Ending


def test_close_writes_what_is_queued_and_tells_the_handler_once(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            peer.connection.send([b"bye"])
            peer.connection.close()
            assert peer.causes == [], "lost must not be called from within"
            peer.connection.close()
            peer.connection.send([b"too late"])
            peer.connection.pause()
            peer.connection.resume()
            assert await here.read_to_end(sock) == b"bye"
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["closed"]
            assert peer.drained_count == 0

    run(test())


def test_close_to_a_peer_that_does_not_read_does_not_wait(place, noise):
    async def test():
        async with place() as here:
            sock, peer = await here.pair(receive_bytes=4096)
            peer.connection.send([noise] * 10)
            await some_went(peer)
            peer.connection.close()
            await peer.until(lambda p: p.causes)
            data = await here.read_to_end(sock)
            assert 0 < len(data) < 30 << 20
            assert data == (noise * 10)[: len(data)]

    run(test())


def test_close_within_received(place):
    async def test():
        async with place(frame=3) as here:
            sock, peer = await here.pair()

            def finish():
                peer.connection.send([b"no"])
                peer.connection.close()

            peer.on_received = finish
            await here.loop.sock_sendall(sock, b"abcdabcd")
            await peer.until(lambda p: p.causes)
            assert peer.calls == [8]

    run(test())


@pytest.mark.parametrize("who", ["peer", "handler, later", "handler, within"])
def test_a_lost_connection_gives_its_buffer_back(place, who):
    async def test():
        size = 200_000
        async with place(frame=size) as here:
            sock, peer = await here.pair()
            if who == "handler, within":
                peer.on_received = lambda: peer.calls[-1] == size - 1 and peer.connection.close()
            await here.loop.sock_sendall(sock, bytes(size - 1))
            await peer.until(lambda p: p.calls[-1:] == [size - 1])
            if who == "peer":
                sock.close()
            elif who == "handler, later":
                peer.connection.close()
            await peer.until(lambda p: p.causes)
            assert here.world.network._hub.scratch._lent_count == 0

    run(test())


def test_a_peer_that_closes(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            sock.close()
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["closed by peer"]

    run(test())


def test_a_peer_that_closed_its_sending_side_gets_what_is_queued(place, noise):
    async def test():
        async with place() as here:
            sock, peer = await here.pair(receive_bytes=4096)
            peer.on_received = lambda: peer.connection.send([noise] * 10)
            await here.loop.sock_sendall(sock, b"?")
            sock.shutdown(socket.SHUT_WR)
            assert await here.read_to_end(sock) == noise * 10
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["closed by peer"]

    run(test())


@pytest.mark.parametrize("queued", [False, True])
def test_a_reset_by_the_peer(place, noise, queued):
    async def test():
        async with place() as here:
            sock, peer = await here.pair(receive_bytes=4096)
            if queued:
                peer.connection.send([noise] * 10)
                await some_went(peer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            await peer.until(lambda p: p.causes)
            assert len(peer.causes) == 1
            assert "failed" in peer.causes[0]
            peer.connection.send([b"x"])
            assert peer.connection.unsent_bytes == 0

    run(test())


@pytest.mark.parametrize("method", ["received", "drained"])
def test_a_handler_that_fails_loses_its_own_connection_alone(place, method):
    async def test():
        async with place() as here:
            reported = []
            here.loop.set_exception_handler(lambda _, context: reported.append(context))
            sock, peer = await here.pair()
            other_sock, other = await here.pair()
            peer.on_received = lambda: peer.connection.send([b"x"])

            def fail(*_):
                raise ValueError("mine")

            setattr(peer, method, fail)
            await here.loop.sock_sendall(sock, b"x")
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["handler failed"]
            assert str(reported[0]["exception"]) == "mine"
            await here.loop.sock_sendall(other_sock, b"fine")
            await other.until(lambda p: p.data == b"fine")

    run(test())


@pytest.mark.parametrize("used", [-1, 5])
def test_a_handler_that_uses_more_than_there_is(place, used):
    async def test():
        async with place() as here:
            here.loop.set_exception_handler(lambda _, context: None)
            sock, peer = await here.pair()
            peer.received = lambda data: used
            await here.loop.sock_sendall(sock, b"four")
            await peer.until(lambda p: p.causes)

    run(test())


def test_a_lost_connection_holds_nothing(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            sock.close()
            await peer.until(lambda p: p.causes)
            connection, peer.connection = peer.connection, None
            assert connection.local == ""
            await asyncio.sleep(0)
            kept = [
                o for o in gc.get_referrers(connection) if not isinstance(o, type(sys._getframe()))
            ]
            assert kept == []

    run(test())


IDLE = """
import asyncio, socket, sys
from ottla.host.reactor import real_world

class Handler:
    __slots__ = ("connection",)
    def __init__(self, connection): self.connection = connection
    def received(self, data): return 0
    def drained(self): pass
    def lost(self, cause): pass

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

async def main(count):
    loop = asyncio.get_running_loop()
    world = real_world(loop)
    came = []
    full = asyncio.Event()
    def accept(connection):
        handler = Handler(connection)
        came.append(handler)
        if len(came) == count: full.set()
        return handler
    listener = world.network.listen("127.0.0.1", 0, accept)
    clients = []
    for _ in range(count):
        sock = socket.socket(); sock.setblocking(False); clients.append(sock)
    before = resident()
    for sock in clients:
        await loop.sock_connect(sock, listener.address)
    await full.wait()
    print((resident() - before) // count)

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_connection_costs_a_few_kilobytes():
    out = subprocess.run(
        [sys.executable, "-c", IDLE, "400"], check=True, capture_output=True, timeout=60
    ).stdout
    assert int(out) < 6000, out

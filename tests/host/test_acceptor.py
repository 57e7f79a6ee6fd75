import asyncio
import subprocess
import sys

import pytest

from ottla.base.world import ListenCaps
from ottla.host import acceptor as acceptor_module


def test_one_too_many_from_an_address_is_closed_at_once(place):
    async def test():
        async with place(ListenCaps(max_connections_per_ip=2)) as here:
            first, peer = await here.pair()
            await here.pair()
            third = await here.dial()
            assert await here.read_to_end(third) == b""
            assert len(here.peers) == 2
            first.close()
            await peer.until(lambda p: p.causes)
            await here.pair()
            assert len(here.peers) == 3

    asyncio.run(test())


def test_at_the_cap_new_ones_wait_until_one_goes(place, monkeypatch):
    monkeypatch.setattr(acceptor_module, "PAUSE_SECONDS", 3600)

    async def test():
        async with place(ListenCaps(max_connections=2)) as here:
            first, peer = await here.pair()
            await here.pair()
            third = await here.dial()  # the kernel has taken it, we have not
            await here.loop.sock_sendall(third, b"early")
            await here.loop.sock_sendall(first, b"served")
            await peer.until(lambda p: p.data == b"served")
            assert len(here.peers) == 2
            assert not here.loop.remove_reader(here.listener._socket), "the loop would spin"
            first.close()
            await peer.until(lambda p: p.causes)
            while len(here.peers) < 3:
                await asyncio.sleep(0)
            await here.peers[2].until(lambda p: p.data == b"early")

    asyncio.run(test())


def test_a_connection_that_nobody_wants_is_closed(place):
    async def test():
        async with place() as here:
            here.accept = None
            listener = here.world.network.listen("127.0.0.1", 0, lambda connection: None)
            here.listener = listener
            assert await here.read_to_end(await here.dial()) == b""

    asyncio.run(test())


def test_an_acceptor_of_handlers_that_fails_closes_and_goes_on(place):
    async def test():
        async with place() as here:
            reported = []
            here.loop.set_exception_handler(lambda _, context: reported.append(context))
            accept = here.accept

            def fail_once(connection):
                if not reported:
                    raise ValueError("mine")
                return accept(connection)

            here.listener = here.world.network.listen("127.0.0.1", 0, fail_once)
            assert await here.read_to_end(await here.dial()) == b""
            assert str(reported[0]["exception"]) == "mine"
            await here.pair()

    asyncio.run(test())


def test_who_makes_the_handler_may_send_and_close(place):
    async def test():
        async with place() as here:
            accept = here.accept

            def greet(connection):
                peer = accept(connection)
                connection.send([b"go away"])
                connection.close()
                return peer

            here.listener = here.world.network.listen("127.0.0.1", 0, greet)
            sock, peer = await here.pair()
            assert await here.read_to_end(sock) == b"go away"
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["closed"]

    asyncio.run(test())


def test_closing_a_listener_keeps_its_connections(place):
    async def test():
        async with place() as here:
            sock, peer = await here.pair()
            here.listener.close()
            here.listener.close()
            with pytest.raises(ConnectionRefusedError):
                await here.dial()
            await here.loop.sock_sendall(sock, b"still")
            await peer.until(lambda p: p.data == b"still")

    asyncio.run(test())


def test_an_idle_connection_is_closed(place):
    async def test():
        async with place(ListenCaps(max_idle_ms=100)) as here:
            sock, peer = await here.pair()
            assert await here.read_to_end(sock) == b""
            await peer.until(lambda p: p.causes)
            assert peer.causes == ["idle for too long"]

    asyncio.run(test())


@pytest.mark.parametrize("direction", ["reads", "writes"])
def test_a_busy_connection_is_not(place, direction):
    async def test():
        async with place(ListenCaps(max_idle_ms=1000_000)) as here:
            busy_sock, busy = await here.pair()
            _, idle = await here.pair()
            hub = here.world.network._hub
            hub.now += 1500  # as the sweep would set it
            if direction == "reads":
                await here.loop.sock_sendall(busy_sock, b"x")
                await busy.until(lambda p: p.data)
            else:
                busy.connection.send([b"x"])
                await busy.until(lambda p: p.drained_count)
            for peer in (busy, idle):
                peer.connection.close_if_idle(hub.now - 10)
            await idle.until(lambda p: p.causes)
            await asyncio.sleep(0)
            assert busy.causes == []

    asyncio.run(test())


EXHAUSTED = """
import asyncio, logging, resource, socket
logging.basicConfig(format="%(message)s")
from ottla.host.reactor import real_world, close_world

class Echo:
    def __init__(self, connection): self.connection = connection
    def received(self, data):
        self.connection.send([bytes(data)])
        return len(data)
    def drained(self): pass
    def lost(self, cause): pass

async def main():
    loop = asyncio.get_running_loop()
    world = real_world(loop)
    took = []
    def accept(connection):
        took.append(connection)
        return Echo(connection)
    listener = world.network.listen("127.0.0.1", 0, accept)
    clients = [socket.socket() for _ in range(20)]
    for client in clients: client.setblocking(False)
    probe = socket.socket(); free = probe.fileno(); probe.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 10, free + 10))
    for client in clients: await loop.sock_connect(client, listener.address)
    async def echo(client):
        await loop.sock_sendall(client, b"ping")
        assert await loop.sock_recv(client, 4) == b"ping"
    await echo(clients[0])
    assert len(took) == 10, took
    turns = 0
    for _ in range(50):  # the others are served, and the loop does not spin on the listener
        await echo(clients[5])
    for client in clients[:10]: client.close()
    for client in clients[10:]: await echo(client)
    assert len(took) == 20
    for client in clients: client.close()
    close_world(world)
    print("served all")

asyncio.run(asyncio.wait_for(main(), 50))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_NOFILE")
def test_without_descriptors_the_open_connections_are_served_and_the_waiting_ones_later():
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "served all\n", done.stderr
    assert "takes no connections for now" in done.stderr
    assert "Traceback" not in done.stderr

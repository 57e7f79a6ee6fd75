import asyncio
import socket

import pytest

from ottla.host import network as network_module


def test_connecting_by_address_and_by_name(place):
    async def test():
        async with place() as here:
            port = here.listener.address[1]
            for host in ("127.0.0.1", "localhost"):
                came = len(here.peers)
                ours = await here.call(host, port)
                ours.connection.send([b"hello"])
                while len(here.peers) == came:
                    await asyncio.sleep(0)
                theirs = here.peers[-1]
                await theirs.until(lambda p: p.data == b"hello")
                theirs.connection.send([b"welcome"])
                await ours.until(lambda p: p.data == b"welcome")
                assert ours.connection.peer == f"127.0.0.1:{port}"
                assert ours.connection.local == theirs.connection.peer

    asyncio.run(test())


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_connection_that_is_refused_is_an_os_error(place):
    async def test():
        async with place() as here:
            with pytest.raises(ConnectionRefusedError):
                await here.world.network.connect("127.0.0.1", free_port(), here.accept)
            assert here.peers == []

    asyncio.run(test())


@pytest.mark.parametrize(
    "host, port",
    [("a" * 70, 9), ("a..b", 9), ("\ud800", 9), ("127.0.0.1", 1 << 16), ("127.0.0.1", -1)],
)
def test_what_can_be_no_address_is_an_os_error(place, host, port):
    async def test():
        async with place() as here:
            with pytest.raises(OSError, match=r"is no host name|is none"):
                await here.world.network.connect(host, port, here.accept)

    asyncio.run(test())


def test_a_name_that_is_not_known_is_an_os_error(place, monkeypatch):
    def look_up(host, port, flags):
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    async def test():
        async with place() as here:
            monkeypatch.setattr(network_module, "_look_up", look_up)
            with pytest.raises(OSError, match="not known"):
                await here.world.network.connect("nowhere.invalid", 1, here.accept)

    asyncio.run(test())


def test_a_name_that_is_none_is_an_os_error(place):
    async def test():
        async with place() as here:
            with pytest.raises(OSError, match="no host name"):
                await here.world.network.connect("a..b", 1, here.accept)

    asyncio.run(test())


def test_the_next_address_of_a_name_is_tried(place, monkeypatch):
    async def test():
        async with place() as here:
            port = here.listener.address[1]
            addresses = [("127.0.0.1", free_port()), ("127.0.0.1", port)]
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", one) for one in addresses]
            monkeypatch.setattr(network_module, "_look_up", lambda host, port, flags: found)
            connection = await here.world.network.connect("two", 1, here.accept)
            assert connection.peer == f"127.0.0.1:{port}"

    asyncio.run(test())


def test_a_port_in_use_is_an_os_error(place):
    async def test():
        async with place() as here:
            port = here.listener.address[1]
            with pytest.raises(OSError, match="in use"):
                here.world.network.listen("127.0.0.1", port, here.accept)

    asyncio.run(test())


def test_a_port_can_be_taken_again_at_once(place):
    async def test():
        async with place() as here:
            _, peer = await here.pair()
            port = here.listener.address[1]
            here.listener.close()
            peer.connection.close()
            here.world.network.listen("127.0.0.1", port, here.accept)

    asyncio.run(test())


def test_ipv6(place):
    async def test():
        async with place() as here:
            try:
                listener = here.world.network.listen("::1", 0, here.accept)
            except OSError:
                pytest.skip("no IPv6 here")
            port = listener.address[1]
            connection = await here.world.network.connect("::1", port, here.accept)
            assert connection.peer == f"[::1]:{port}"

    asyncio.run(test())

"""The real network: listeners and outgoing connections over one hub.

Names are looked up on a helper thread; an address given in figures needs no look-up, so that a
node among nodes named by address starts no thread for it.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from ottla.base.world import NO_CAPS, Connection, Handler, ListenCaps, Offload
from ottla.host.acceptor import BACKLOG, Accept, Acceptor
from ottla.host.connection import HostConnection
from ottla.host.hub import Hub

PORT_MAX: Final = 65_535
NAME_MAX: Final = 80
"""Of a host name in an error."""

_Found = list[tuple[Any, Any, int, str, Any]]


class HostNetwork:
    def __init__(self, loop: asyncio.AbstractEventLoop, offload: Offload) -> None:
        self._loop = loop
        self._offload = offload
        self._hub = Hub(loop)
        self._acceptors: list[Acceptor] = []

    def listen(
        self, host: str, port: int, accept: Accept, *, caps: ListenCaps = NO_CAPS
    ) -> Acceptor:
        family, kind, protocol, _, address = _look_up(host, port, socket.AI_PASSIVE)[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(BACKLOG)
            acceptor = Acceptor(self._hub, sock, accept, caps)
        except BaseException:
            sock.close()
            raise
        self._acceptors.append(acceptor)
        return acceptor

    async def connect(
        self, host: str, port: int, handler: Callable[[Connection], Handler]
    ) -> HostConnection:
        failure: OSError = OSError(f"no address of {host}")
        for family, kind, protocol, _, address in await self._find(host, port):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                await self._loop.sock_connect(sock, address)
                connection = HostConnection(self._hub, sock, address)
            except OSError as error:
                sock.close()
                failure = error
                continue
            except BaseException:
                sock.close()
                raise
            connection.start(handler(connection))
            return connection
        raise failure

    async def _find(self, host: str, port: int) -> _Found:
        try:
            return _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        found: asyncio.Future[_Found] = self._loop.create_future()

        def done(result: _Found | None, error: BaseException | None) -> None:
            if found.done():  # cancelled meanwhile
                return
            if result is None:
                found.set_exception(error or OSError(f"no address of {host}"))
            else:
                found.set_result(result)

        self._offload.submit(lambda: _look_up(host, port, 0), done)
        return await found

    def close(self) -> None:
        """Close every listener and every connection."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._hub.close()


def _look_up(host: str, port: int, flags: int) -> _Found:
    """OSError also for what can be no address: peers tell of others, and may tell anything."""
    if not 0 <= port <= PORT_MAX:  # which the system would take modulo 65536
        raise OSError(f"port {port} is none")
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        raise OSError(f"{host[:NAME_MAX]!r} is no host name") from error

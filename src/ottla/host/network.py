"""The real network: listeners and outgoing connections over one hub.

Names are looked up on a helper thread; an address given in figures needs no look-up, so that a
node among nodes named by address starts no thread for it. The files of TLS are read there too,
once for each way of speaking it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ottla.base.world import NO_CAPS, Connection, Handler, ListenCaps, Offload, Tls, TlsError
from ottla.host.acceptor import BACKLOG, Accept, Acceptor
from ottla.host.connection import HostConnection, TlsConnection
from ottla.host.hub import Hub
from ottla.host.tls import client_context, shake_hands

PORT_MAX: Final = 65_535
NAME_MAX: Final = 80
"""Of a host name in an error."""

T = TypeVar("T")
_Found = list[tuple[Any, Any, int, str, Any]]


class HostNetwork:
    def __init__(self, loop: asyncio.AbstractEventLoop, offload: Offload) -> None:
        self._loop = loop
        self._offload = offload
        self._hub = Hub(loop)
        self._acceptors: list[Acceptor] = []
        self._contexts: dict[Tls, ssl.SSLContext] = {}

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
        self,
        host: str,
        port: int,
        handler: Callable[[Connection], Handler],
        *,
        tls: Tls | None = None,
    ) -> HostConnection:
        if tls is not None and tls not in self._contexts:
            self._contexts[tls] = await self._on_thread(lambda: client_context(tls))
        context = None if tls is None else self._contexts[tls]
        failure: OSError = OSError(f"no address of {host}")
        for family, kind, protocol, _, address in await self._find(host, port):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                await self._loop.sock_connect(sock, address)
                connection = await self._over(sock, address, context, host)
            except TlsError:
                sock.close()
                raise
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

    async def _over(
        self,
        sock: socket.socket,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        host: str,
    ) -> HostConnection:
        if context is None:
            return HostConnection(self._hub, sock, address)
        secured = await shake_hands(self._loop, sock, context, host)
        try:
            return TlsConnection(self._hub, secured, address)
        except OSError:  # the peer is gone already
            secured.close()
            raise

    async def _find(self, host: str, port: int) -> _Found:
        try:
            return _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        return await self._on_thread(lambda: _look_up(host, port, 0))

    async def _on_thread(self, call: Callable[[], T]) -> T:
        outcome: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if outcome.done():  # cancelled meanwhile
                return
            if result is None:
                outcome.set_exception(error or OSError("nothing came of it"))
            else:
                outcome.set_result(result)

        self._offload.submit(call, done)
        return await outcome

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

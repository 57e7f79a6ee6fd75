"""A listening socket: takes connections until there are none, and keeps to the caps.

- More than `max_connections_per_ip` from one address: the new one is closed at once.
- `max_connections` open: no more are taken; they wait in the kernel's queue (Kafka does so).
- No descriptor left (EMFILE, ENFILE) or no memory: the same, since the loop would otherwise
  report the waiting connection for ever. What is open is served on.
Taking begins again when a connection goes, or after a pause: descriptors are used by others too.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from ottla.base.world import Connection, Handler, ListenCaps
from ottla.host.connection import HostConnection
from ottla.host.hub import Hub

_log = logging.getLogger(__name__)

BACKLOG: Final = 1024
ACCEPTS_PER_TURN: Final = 128
PAUSE_SECONDS: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Accept = Callable[[Connection], Handler | None]


class Acceptor:
    def __init__(self, hub: Hub, sock: socket.socket, accept: Accept, caps: ListenCaps) -> None:
        self._hub = hub
        self._socket = sock
        self._accept = accept
        self._caps = caps
        self._idle_seconds = None if caps.max_idle_ms is None else caps.max_idle_ms / 1000
        self._pause: asyncio.TimerHandle | None = None
        self._full = False  # so that a spell of it is logged once
        self._closed = False
        host, port = sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        if self._idle_seconds is not None:
            hub.sweep_every(self._idle_seconds)
        if caps.max_kept_bytes is not None:
            hub.pool.capacity = caps.max_kept_bytes
        hub.loop.add_reader(sock, self._take)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._hub.loop.remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._closed:
                return
            cap = self._caps.max_connections
            if cap is not None and len(self._hub.connections) >= cap:
                self._wait("max.connections is reached")
                return
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._wait(str(error))
                    return
                continue  # that connection broke before it was taken
            self._full = False
            self._open(sock, address)

    def _open(self, sock: socket.socket, address: tuple[str, int]) -> None:
        cap = self._caps.max_connections_per_ip
        if cap is not None and self._hub.accepted_from.get(address[0], 0) >= cap:
            sock.close()
            return
        try:
            connection = HostConnection(
                self._hub, sock, address, accepted=True, idle_seconds=self._idle_seconds
            )
        except OSError:  # the peer is gone before we looked
            sock.close()
            return
        try:
            handler = self._accept(connection)
        except BaseException:
            connection.close()
            raise
        if handler is None:
            connection.close()
        else:
            connection.start(handler)

    def _wait(self, cause: str) -> None:
        if not self._full:
            self._full = True
            _log.warning("%s:%s takes no connections for now: %s", *self.address, cause)
        self._hub.loop.remove_reader(self._socket)
        self._pause = self._hub.loop.call_later(PAUSE_SECONDS, self._go_on)
        if self._go_on not in self._hub.vacancies:
            self._hub.vacancies.append(self._go_on)

    def _go_on(self) -> None:
        if self._pause is None or self._closed:
            return
        self._pause.cancel()
        self._pause = None
        self._hub.loop.add_reader(self._socket, self._take)

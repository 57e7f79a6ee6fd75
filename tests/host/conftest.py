"""Two ends for the tests of `host`: a world on a loop, a recording handler, plain sockets."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from ottla.base.world import NO_CAPS, Connection, ListenCaps, Listener, World
from ottla.host.reactor import close_world, real_world


class Peer:
    """A handler that keeps everything it is given, `frame` bytes at a time."""

    def __init__(self, connection: Connection, frame: int = 1) -> None:
        self.connection = connection
        self.frame = frame
        self.data = bytearray()
        self.calls: list[int] = []
        self.drained_count = 0
        self.causes: list[str] = []
        self.on_received: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()

    def received(self, data: memoryview) -> int:
        used = len(data) // self.frame * self.frame
        self.calls.append(len(data))
        self.data += data[:used]
        self._changed.set()
        self.on_received()
        return used

    def drained(self) -> None:
        self.drained_count += 1
        self._changed.set()

    def lost(self, cause: str) -> None:
        self.causes.append(cause)
        self._changed.set()

    async def until(self, condition: Callable[["Peer"], bool]) -> None:
        while not condition(self):
            self._changed.clear()
            await self._changed.wait()


class Place:
    """A world with one listener; `peers` are the handlers of its connections."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = asyncio.get_running_loop()
        self.peers: list[Peer] = []
        self.frame = 1
        self.listener: Listener | None = None
        self._came = asyncio.Event()
        self._sockets: list[socket.socket] = []

    def accept(self, connection: Connection) -> Peer:
        peer = Peer(connection, self.frame)
        self.peers.append(peer)
        self._came.set()
        return peer

    async def call(self, host: str, port: int) -> Peer:
        """The handler of a connection that this world opened."""
        peers: list[Peer] = []

        def handler(connection: Connection) -> Peer:
            peers.append(Peer(connection))
            return peers[0]

        assert await self.world.network.connect(host, port, handler) is peers[0].connection
        return peers[0]

    def listen(self, caps: ListenCaps = NO_CAPS) -> None:
        self.listener = self.world.network.listen("127.0.0.1", 0, self.accept, caps=caps)

    async def dial(self, receive_bytes: int | None = None) -> socket.socket:
        """A plain socket connected to the listener, in non-blocking mode."""
        assert self.listener is not None
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        self._sockets.append(sock)
        await self.loop.sock_connect(sock, self.listener.address)
        return sock

    async def pair(self, receive_bytes: int | None = None) -> tuple[socket.socket, Peer]:
        count = len(self.peers)
        sock = await self.dial(receive_bytes)
        while len(self.peers) == count:
            self._came.clear()
            await self._came.wait()
        return sock, self.peers[-1]

    async def read(self, sock: socket.socket, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self.loop.sock_recv(sock, min(count - len(data), 1 << 18))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def read_to_end(self, sock: socket.socket) -> bytes:
        return await self.read(sock, 1 << 40)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@asynccontextmanager
async def _place(caps: ListenCaps = NO_CAPS, frame: int = 1) -> AsyncIterator[Place]:
    world = real_world(asyncio.get_running_loop())
    here = Place(world)
    here.frame = frame
    here.listen(caps)
    try:
        async with asyncio.timeout(60):
            yield here
    finally:
        here.close()
        close_world(world)


@pytest.fixture
def place() -> Callable[..., AbstractAsyncContextManager[Place]]:
    """`async with place(caps, frame) as here`: the world, and its end after the test."""
    return _place


@pytest.fixture
def noise() -> bytes:
    """Three mebibytes in which every byte's place can be told."""
    return os.urandom(1 << 20) * 3

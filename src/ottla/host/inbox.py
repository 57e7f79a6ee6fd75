"""What a connection keeps of the bytes its handler left unused: the unfinished tail.

A short tail is plain `bytes`, copied back to the front of the scratch buffer before the next
receive: most frames end up whole in one receive, and a tail of a few KiB costs nothing to move.
A long one is a Backlog, a buffer with room behind its bytes that the socket is received into
directly. The room is as large as what has arrived: a frame's claimed length is not known here,
so a peer can make us hold at most twice what it really sent.

Rejected: a buffer of the frame's length (a claim is free, memory is not); a list of chunks
joined at the end (the frame would have to be copied once more, and read in pieces).
"""

import socket
from typing import Final

SHORT_TAIL_BYTES: Final = 64 * 1024


class Backlog:
    __slots__ = ("_buffer", "_filled")

    def __init__(self, tail: memoryview) -> None:
        self._filled = len(tail)
        self._buffer = memoryview(bytearray(2 * self._filled))
        self._buffer[: self._filled] = tail

    def receive(self, sock: socket.socket) -> int:
        if self._filled == len(self._buffer):
            grown = memoryview(bytearray(2 * self._filled))
            grown[: self._filled] = self._buffer
            self._buffer = grown
        count = sock.recv_into(self._buffer[self._filled :])
        self._filled += count
        return count

    def view(self) -> memoryview:
        return self._buffer[: self._filled]


Tail = bytes | Backlog


def receive(sock: socket.socket, tail: Tail, scratch: memoryview) -> tuple[int, memoryview]:
    """Receive behind `tail`: (bytes that came, the tail and they in one piece)."""
    if isinstance(tail, Backlog):
        count = tail.receive(sock)
        return count, tail.view()
    start = len(tail)
    scratch[:start] = tail
    count = sock.recv_into(scratch[start:])
    return count, scratch[: start + count]


def view_of(tail: Tail, scratch: memoryview) -> memoryview:
    """The tail alone, writable, to be handed in once more."""
    if isinstance(tail, Backlog):
        return tail.view()
    scratch[: len(tail)] = tail
    return scratch[: len(tail)]


def tail_after(data: memoryview, used: int, before: Tail | None) -> Tail | None:
    """What to keep of `data`; `before` is the tail that it began with."""
    if used == len(data):
        return None
    if used == 0 and isinstance(before, Backlog):
        return before
    rest = data[used:]
    return bytes(rest) if len(rest) <= SHORT_TAIL_BYTES else Backlog(rest)

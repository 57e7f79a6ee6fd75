"""Where a connection receives to, and what it keeps: the unfinished tail of what its handler used.

All connections of a node receive into one Scratch, one after the other. What a handler leaves
unused there is kept in one of three ways:

- A short tail as plain `bytes`, copied back to the front of the scratch before the next receive.
  Most frames end up whole in one receive, and a few KiB cost nothing to move.
- A long tail where it stands: the connection borrows the buffer, the scratch goes on with a
  spare one. So a frame up to the size of the scratch is never copied, however it arrives, but
  for what came of it with the end of the frame before. At most LENT_COUNT are lent.
- A longer one, or one when all are lent, in a buffer of its own that is as large again as what
  has arrived. A frame's claimed length is not known here: a peer can make us hold twice what it
  really sent, and no more.

A Backlog is the second and the third: a buffer with room behind its bytes.

Rejected: a buffer of the frame's length (a claim is free, memory is not); a list of chunks
joined at the end (the frame would be copied once more, and read in pieces); only growing buffers
(making their pages anew for every frame costs more than the receive).
"""

from typing import Final

from ottla.base.limits import SCRATCH_BYTES
from ottla.host.tls import Socket

SHORT_TAIL_BYTES: Final = 64 * 1024
LENT_COUNT: Final = 16


class Scratch:
    """The shared buffer: `view`. It is in use only within one call of `received`."""

    __slots__ = ("_lent_count", "_spare", "view")

    def __init__(self, size: int = SCRATCH_BYTES) -> None:
        self.view = memoryview(bytearray(size))
        self._spare: list[memoryview] = []
        self._lent_count = 0

    def lend(self) -> memoryview | None:
        """Give the buffer away with what it holds, unless too many are lent."""
        if self._lent_count == LENT_COUNT:
            return None
        lent = self.view
        self._lent_count += 1
        self.view = self._spare.pop() if self._spare else memoryview(bytearray(len(lent)))
        return lent

    def take_back(self, lent: memoryview) -> None:
        self._lent_count -= 1
        self._spare.append(lent)


class Backlog:
    __slots__ = ("_buffer", "_filled", "_lender")

    def __init__(self, rest: memoryview, scratch: Scratch) -> None:
        """Keep `rest`, which may stand in the very buffer that the scratch lends."""
        lent = scratch.lend() if len(rest) <= len(scratch.view) else None
        self._lender = None if lent is None else scratch
        self._buffer = memoryview(bytearray(2 * len(rest))) if lent is None else lent
        self._put(rest)

    def _put(self, rest: memoryview) -> None:
        self._filled = len(rest)
        self._buffer[: self._filled] = rest

    def keep(self, rest: memoryview) -> bool:
        """Move its own end to the front; False for a buffer of its own, which may be far larger."""
        if self._lender is not None:
            self._put(rest)
        return self._lender is not None

    def receive(self, sock: Socket) -> int:
        if self._filled == len(self._buffer):
            grown = memoryview(bytearray(2 * self._filled))
            grown[: self._filled] = self._buffer
            self.release()
            self._buffer = grown
        count = sock.recv_into(self._buffer[self._filled :])
        self._filled += count
        return count

    def view(self) -> memoryview:
        return self._buffer[: self._filled]

    def kept_bytes(self) -> int:
        """What it costs: a lent buffer is there anyway."""
        return self._filled if self._lender is not None else len(self._buffer)

    def release(self) -> None:
        """Give a lent buffer back."""
        if self._lender is not None:
            self._lender.take_back(self._buffer)
            self._lender = None


Tail = bytes | Backlog


def receive(sock: Socket, tail: Tail, scratch: Scratch) -> tuple[int, memoryview]:
    """Receive behind `tail`: (bytes that came, the tail and they in one piece)."""
    if isinstance(tail, Backlog):
        count = tail.receive(sock)
        return count, tail.view()
    start = len(tail)
    view = scratch.view
    view[:start] = tail
    count = sock.recv_into(view[start:])
    return count, view[: start + count]


def view_of(tail: Tail, scratch: Scratch) -> memoryview:
    """The tail alone, writable, to be handed in once more."""
    if isinstance(tail, Backlog):
        return tail.view()
    scratch.view[: len(tail)] = tail
    return scratch.view[: len(tail)]


def tail_after(data: memoryview, used: int, before: Tail | None, scratch: Scratch) -> Tail | None:
    """What to keep of `data`; `before` is the tail that it began with."""
    rest = data[used:]
    is_long = len(rest) > SHORT_TAIL_BYTES
    if isinstance(before, Backlog) and (not used or (is_long and before.keep(rest))):
        return before
    if is_long:
        tail: Tail | None = Backlog(rest, scratch)
    else:
        tail = bytes(rest) if rest else None
    drop(before)
    return tail


def kept_bytes(tail: Tail | None) -> int:
    """The memory that a tail takes."""
    if tail is None:
        return 0
    return tail.kept_bytes() if isinstance(tail, Backlog) else len(tail)


def drop(tail: Tail | None) -> None:
    if isinstance(tail, Backlog):
        tail.release()

"""One end of a simulated TCP connection.

    send -> queue -> (wire: delayed, in order, CAPACITY_BYTES at most) -> inbox -> Handler.received

What is sent leaves at the end of the turn. A file range is read when it leaves, as sendfile does,
so a file that was cut or closed meanwhile breaks the connection. What the wire does not take stays
in the queue (`unsent_bytes`) until the peer reads.
What arrives is handed over in random pieces: a byte, half a frame, three frames at once.

Both sides of the contract in base/world.py are held to: a queued part that changed before it left,
or a view into received bytes that was kept, is a BugError, and the received buffer is overwritten
when `received` returns.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ottla.base.errors import check
from ottla.base.world import Bytes, FileRange, Handler
from ottla.sim.process import Process
from ottla.sim.trace import Trace

CAPACITY_BYTES: Final = 64 * 1024
"""What one direction holds between the two queues: both sockets' buffers."""
POISON: Final = 0xDB


class Carrier(Protocol):
    """What a connection needs of the wires."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def trace(self) -> Trace: ...
    def carry(self, sender: "SimConnection", item: bytes | str) -> None: ...
    def forget(self, connection: "SimConnection") -> None: ...
    def piece_bytes(self, available: int) -> int: ...


class Sent(NamedTuple):
    """Bytes in the queue: the caller's, and what they were when they were sent."""

    part: Bytes
    copy: bytes


class SimConnection:
    other: "SimConnection"
    handler: Handler | None = None

    def __init__(
        self,
        wires: Carrier,
        process: Process,
        *,
        local: str,
        peer: str,
    ) -> None:
        self.process = process
        self._wires = wires
        self._local = local
        self._peer = peer
        self._queue: deque[Sent | FileRange] = deque()
        self._unsent = 0
        self._in_flight = 0
        self._inbox = bytearray()
        self._tail = b""
        self._end: str | None = None
        self._is_paused = False
        self._is_closed = False
        self._is_lost = False
        self._flush_is_due = False
        self._delivery_is_due = False
        self._rehand = False
        self.last_arrival = 0.0
        """When the last of what is on its way in will be here."""
        self.last_active = wires.loop.time()

    # ---- base.world.Connection

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def local(self) -> str:
        return self._local

    @property
    def unsent_bytes(self) -> int:
        return self._unsent

    def send(self, parts: Sequence[Bytes | FileRange]) -> None:
        if self._is_closed or not self.process.is_alive:
            return
        for part in parts:
            if isinstance(part, FileRange):
                self._queue.append(part)
                self._unsent += part.length
            else:
                copy = bytes(part)
                self._queue.append(Sent(part, copy))
                self._unsent += len(copy)
        self._flush_soon()

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._rehand = True
            self._deliver_soon()

    def close(self) -> None:
        if self._is_closed or not self.process.is_alive:
            return
        self._write_out()
        if not self._is_closed:
            self.break_off("closed", "closed by peer")

    @property
    def host(self) -> str:
        return self._local.rpartition(":")[0]

    # ---- the way out

    def shut(self) -> None:
        """It is over, whatever is still queued or on its way; `lose` tells the handler."""
        self._is_closed = True

    def break_off(self, cause: str, peers_cause: str) -> None:
        """End it from this side; the peer reads what is on the wire, then its end."""
        self._is_closed = True
        self._wires.carry(self, peers_cause)
        self._call_soon(self.lose, cause)

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._write_out() and not self._queue and self.handler is not None:
            self.handler.drained()

    def _write_out(self) -> bool:
        """Put on the wire what it takes; whether that was anything."""
        chunk = bytearray()
        while not self._is_closed and self._queue:
            room = CAPACITY_BYTES - self._in_flight - len(chunk)
            if room <= 0:
                break
            piece = self._take(room)
            if piece is None:
                self.break_off("the file of a range failed", "reset by peer")
                return False
            chunk += piece
        if chunk:
            self._in_flight += len(chunk)
            self._wires.carry(self, bytes(chunk))
        return bool(chunk)

    def _take(self, room: int) -> bytes | None:
        """The next bytes of the queue; None where a file range cannot be read."""
        head = self._queue.popleft()
        if isinstance(head, FileRange):
            wanted = min(room, head.length)
            try:
                piece = head.file.pread(wanted, head.position)
            except OSError:
                return None
            if len(piece) < wanted:
                return None
            if wanted < head.length:
                rest = FileRange(head.file, head.position + wanted, head.length - wanted)
                self._queue.appendleft(rest)
        else:
            check(head.part == head.copy, "bytes were changed after they were sent")
            piece = head.copy[:room]
            if room < len(head.copy):
                self._queue.appendleft(Sent(memoryview(head.part)[room:], head.copy[room:]))
        self._unsent -= len(piece)
        return piece

    # ---- the way in

    def arrive(self, item: bytes | str) -> None:
        """Bytes from the wire, or the cause of its end."""
        if isinstance(item, str):
            self._end = item
        else:
            self._inbox += item
            self.last_active = self._wires.loop.time()
        self._deliver_soon()

    def established(self, handler: Handler) -> None:
        self.handler = handler
        self._deliver_soon()

    def _deliver_soon(self) -> None:
        if not self._delivery_is_due:
            self._delivery_is_due = True
            self._call_soon(self._deliver)

    def _deliver(self) -> None:
        self._delivery_is_due = False
        if self._is_closed or self._is_paused or self.handler is None:
            return
        if self._inbox or (self._rehand and self._tail):
            self._rehand = False
            size = self._wires.piece_bytes(len(self._inbox))
            piece = bytes(self._inbox[:size])
            del self._inbox[:size]
            self.other.made_room(size)
            self._wires.trace.note("received", self._local, self._peer, size)
            self._hand_over(self.handler, bytearray(self._tail + piece))
            self._deliver_soon()
        elif self._end is not None:
            self.lose(self._end)

    def _hand_over(self, handler: Handler, buffer: bytearray) -> None:
        size = len(buffer)
        with memoryview(buffer) as view:
            used = handler.received(view)
        check(0 <= used <= size, f"{used} of {size} received bytes used")
        self._tail = bytes(buffer[used:])
        buffer[:] = bytes([POISON]) * size
        try:
            buffer.clear()
        except BufferError:
            check(False, "a view into received bytes was kept")

    def made_room(self, size: int) -> None:
        self._in_flight -= size
        if self._queue:
            self._flush_soon()

    def lose(self, cause: str) -> None:
        self._is_closed = True
        if self._is_lost:
            return
        self._is_lost = True
        self._queue.clear()
        self._unsent = 0
        self._wires.forget(self)
        self._wires.trace.note("lost", self._local, self._peer, cause)
        if self.handler is not None:
            self.handler.lost(cause)

    def _call_soon(self, call: Callable[..., None], *args: str) -> None:
        self._wires.loop.call_soon(call, *args, context=self.process.context)

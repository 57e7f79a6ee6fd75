"""One peer on a non-blocking socket: reads into the scratch, writes at the end of the turn.

Reading. One receive for each time the loop says that there is something. The handler uses up
whole frames in place; the unfinished tail is kept (`inbox`). What the handler sends meanwhile
is written when it returns: a small request costs one recv and one send. A pause is only noted;
the loop forgets the socket when data comes while paused, so a short pause costs no system call.

Writing. `send` queues (`outbox`); `flush` writes until the queue is empty, the peer's socket is
full, or this turn's share is spent; then the loop tells when to go on.

Ending. Whatever the reason, `_end` closes the socket, drops what is queued and calls `lost` in
a later callback, once; no call of a handler ever happens inside another. A peer that has closed
its sending side first gets what is queued, then we close.

An idle connection is this object, its socket and the loop's entry: no buffer, no queue.
What is sent must not be a view of what `received` was given: the scratch is reused at once.
"""

import logging
import socket
from collections.abc import Sequence
from typing import Final

from ottla.base.errors import BugError
from ottla.base.world import Bytes, FileRange, Handler
from ottla.host import inbox, outbox
from ottla.host.hub import Hub
from ottla.host.inbox import Tail
from ottla.host.outbox import Part
from ottla.host.pool import SHORT_READ_BYTES
from ottla.host.tls import Socket, TlsSocket

_log = logging.getLogger(__name__)

TURN_WRITE_BYTES: Final = 4 << 20
"""Most that one connection writes before others have their turn."""


class HostConnection:
    __slots__ = (
        "_closed",
        "_dirty",
        "_ended_by_peer",
        "_handler",
        "_hub",
        "_idle_seconds",
        "_paused",
        "_queue",
        "_reading",
        "_socket",
        "_stamp",
        "_tail",
        "_writing",
        "accepted_from",
        "peer",
        "unsent_bytes",
    )

    def __init__(
        self,
        hub: Hub,
        sock: Socket,
        address: tuple[str, int],
        *,
        accepted: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.peer = address_text(address)
        self.accepted_from = address[0] if accepted else None
        self.unsent_bytes = 0
        self._hub = hub
        self._socket = sock
        self._handler: Handler | None = None
        self._tail: Tail | None = None
        self._queue: list[Part] | None = None
        self._stamp = hub.now
        self._idle_seconds = idle_seconds
        self._dirty = False  # somebody will flush: the hub, or our own reading
        self._reading = False  # the loop watches for data
        self._writing = False  # the loop watches for room
        self._paused = False
        self._ended_by_peer = False
        self._closed = False
        hub.add(self, self.accepted_from)

    @property
    def local(self) -> str:
        return "" if self._closed else address_text(self._socket.getsockname())

    def start(self, handler: Handler) -> None:
        """Begin to read for `handler`."""
        self._handler = handler
        if self._closed:  # by who made the handler
            self._hub.loop.call_soon(handler.lost, "closed")
        elif not self._paused:
            self._watch()

    # Reading

    def _watch(self) -> None:
        if not self._reading:
            self._reading = True
            self._hub.loop.add_reader(self._socket, self._receive)

    def _unwatch(self) -> None:
        if self._reading:
            self._reading = False
            self._hub.loop.remove_reader(self._socket)

    def _receive(self) -> None:
        # hot: produce
        if self._paused:
            self._unwatch()
            return
        hub = self._hub
        try:
            if hub.pool.is_short and not hub.pool.may_read(self):
                self._unwatch()
                return
            if self._tail is None:
                scratch = hub.scratch.view
                if hub.pool.is_short:
                    scratch = scratch[:SHORT_READ_BYTES]
                count = self._socket.recv_into(scratch)
                data = scratch[:count]
            else:
                count, data = inbox.receive(self._socket, self._tail, hub.scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"receive failed: {error}")
            return
        if count:
            self._hand_over(data)
        else:
            self._peer_ended()

    def _hand_over(self, data: memoryview) -> None:
        # hot: produce
        handler = self._handler
        if handler is None:
            return
        self._dirty = True
        try:
            used = handler.received(data)
            if not 0 <= used <= len(data):
                raise BugError(f"a handler used {used} of {len(data)} bytes")
        except Exception as error:
            self._failed(error)
            return
        if self._closed:
            return
        hub = self._hub
        if used:
            self._stamp = hub.now
        if used != len(data) or self._tail is not None:
            self._tail = inbox.tail_after(data, used, self._tail, hub.scratch)
            hub.pool.keep_input(self, inbox.kept_bytes(self._tail), got_on=used > 0)
        self._dirty = False
        if self._queue is not None and not self._writing:
            self.flush()

    def _peer_ended(self) -> None:
        if self._queue is None:
            self._end("closed by peer")
        else:
            self._ended_by_peer = True
            self._unwatch()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            self._hub.loop.call_soon(self._resumed)

    def _resumed(self) -> None:
        if self._paused or self._closed:
            return
        if self._tail is not None:
            self._hand_over(inbox.view_of(self._tail, self._hub.scratch))
        if not self._paused and not self._closed and not self._ended_by_peer:
            self._watch()

    def read_on(self) -> None:
        """Memory is there again (pool)."""
        if not (self._paused or self._closed or self._ended_by_peer):
            self._watch()

    # Writing

    def send(self, parts: Sequence[Bytes | FileRange]) -> None:
        # hot: fetch
        if self._closed:
            return
        unsent = self.unsent_bytes
        for part in parts:
            size = part.length if isinstance(part, FileRange) else len(part)
            if size:
                unsent += size
                if self._queue is None:
                    self._queue = [part]
                else:
                    self._queue.append(part)
        self.unsent_bytes = unsent
        if not self._dirty and not self._writing:
            self._dirty = True
            self._hub.mark_dirty(self)

    def flush(self) -> None:
        """Write what is queued, as far as it goes now."""
        # hot: fetch
        self._dirty = False
        if self._queue is None:
            return
        try:
            empty = self._write(self._queue)
        except OSError as error:
            self._broken(error)
            return
        if empty:
            self._emptied()
            return
        self._hub.pool.keep_output(self)
        if not self._writing:
            self._writing = True
            self._hub.loop.add_writer(self._socket, self.flush)

    def _write(self, queue: list[Part]) -> bool:
        """Write until all is out (then true), the socket is full or the turn's share spent."""
        # hot: fetch
        floor = self.unsent_bytes - TURN_WRITE_BYTES
        try:
            while True:
                sent = outbox.write_once(self._socket, queue)
                self._stamp = self._hub.now
                self.unsent_bytes -= sent
                if not self.unsent_bytes:
                    self._queue = None
                    return True
                if not outbox.drop(queue, sent) or self.unsent_bytes <= floor:
                    return False
        except (BlockingIOError, InterruptedError):
            return False

    def _emptied(self) -> None:
        if self._writing:
            self._writing = False
            self._hub.loop.remove_writer(self._socket)
            self._hub.pool.forget_output(self)
        if self._ended_by_peer:
            self._end("closed by peer")
        elif self._handler is not None:
            try:
                self._handler.drained()
            except Exception as error:
                self._failed(error)

    def unread_bytes(self) -> int:
        """Memory of what the peer has not taken."""
        return sum(len(part) for part in self._queue or () if not isinstance(part, FileRange))

    # Ending

    def give_up(self) -> None:
        """Memory is short, and this peer has not got on for long (pool)."""
        kept = inbox.kept_bytes(self._tail) + self.unread_bytes()
        _log.warning(
            "%s: connection closed: keeps %d bytes of what it does not finish, and all that may "
            "be kept (queued.max.request.bytes) is in use",
            self.peer,
            kept,
        )
        self._end("memory is short")

    def close(self) -> None:
        if self._queue is not None:
            try:
                self._write(self._queue)
            except OSError as error:
                self._broken(error)
        self._end("closed")

    def close_if_idle(self, stamped_before: float) -> None:
        idle = self._idle_seconds
        if idle is not None and self._stamp + idle <= stamped_before:
            self._end("idle for too long")

    def _broken(self, error: OSError) -> None:
        if isinstance(error, outbox.FileCutShortError):
            _log.error("%s: closed: %s", self.peer, error)
        self._end(f"send failed: {error}")

    def _failed(self, error: Exception) -> None:
        """A handler raised: that is a bug of its own, which ends its connection alone."""
        self._hub.loop.call_exception_handler(
            {"message": f"{self.peer}: handler failed", "exception": error}
        )
        self._end("handler failed")

    def _end(self, cause: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        if self._writing:
            self._hub.loop.remove_writer(self._socket)
        self._socket.close()
        self._queue = None
        inbox.drop(self._tail)
        self._tail = None
        self.unsent_bytes = 0
        self._hub.pool.forget(self)
        self._hub.remove(self, self.accepted_from)
        handler, self._handler = self._handler, None
        if handler is not None:
            self._hub.loop.call_soon(handler.lost, cause)


class TlsConnection(HostConnection):
    """One peer over TLS (`tls`): it also reads on while there is something decrypted."""

    __slots__ = ("_secured",)

    def __init__(
        self,
        hub: Hub,
        sock: TlsSocket,
        address: tuple[str, int],
        *,
        accepted: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        self._secured = sock
        super().__init__(hub, sock, address, accepted=accepted, idle_seconds=idle_seconds)

    def _watch(self) -> None:
        super()._watch()
        self._look_inside()

    def _receive(self) -> None:
        super()._receive()
        self._look_inside()

    def _look_inside(self) -> None:
        if self._reading and self._secured.pending():
            self._hub.loop.call_soon(self._receive_more)

    def _receive_more(self) -> None:
        if self._reading:
            self._receive()


def address_text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

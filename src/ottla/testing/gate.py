"""The gate between a connection and the broker: what strikes a request, strikes it here.

    socket ── HostConnection ── Gate ── broker's Session
                   │  Handler ▲  │ Handler          ▲
                   └──────────┘  └──────────────────┘   and back: the Session sends to the Gate

For the connection it is the handler, for the session the connection; neither knows. Requests go
through one frame at a time while faults are ordered, and as they came while none are.

What strikes a response waits for it by its correlation id. A request that is refused must be
answered in its turn, after those that wait: an ApiVersions with its correlation id goes to the
session in its place (it is let through when all before it are answered, and has no effect), and
the answer to that is replaced.

A Fetch within a session (KIP-227) names only what changed. While a fault needs to know its topics,
its session is said to be gone: the client asks again and names all, and that Fetch is judged.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from ottla.base import limits
from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.base.world import Bytes, Connection, FileRange, Handler
from ottla.protocol.api_key import ApiKey
from ottla.protocol.framing import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from ottla.protocol.message import Request
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.produce import ProduceRequest
from ottla.protocol.wire import DecodeError
from ottla.testing.faults import Fault, Faults, Kind
from ottla.testing.refusals import refusal, topics_named

Parts = Sequence[Bytes | FileRange]
TopicOf = Callable[[Uuid], str | None]
"""The name of the topic that has an id."""


class Gate:
    def __init__(
        self,
        connection: Connection,
        accept: Callable[[Connection], Handler | None],
        faults: Faults,
        topic_of: TopicOf,
    ) -> None:
        self._connection = connection
        self._faults = faults
        self._topic_of = topic_of
        self._replies: dict[int, Callable[[Parts], None]] = {}
        """What becomes of a response, by its correlation id."""
        self._is_judged = False
        """Whether the request in front, which the session has not taken yet, was counted."""
        self._fault: Fault | None = None
        """What strikes it."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_dead = False
        self.session = accept(self)

    # The handler of the connection

    def received(self, data: memoryview) -> int:
        if self.session is None or self._is_dead:
            return len(data)
        at = 0
        while not (self._timer or self._is_dead):
            size = _frame_bytes(data[at:])
            if size is None or not (self._faults.has_orders or self._is_judged):
                return at + self.session.received(data[at:])
            if not self._take(self.session, data[at : at + size]):
                break
            at += size
        return len(data) if self._is_dead else at

    def drained(self) -> None:
        if self.session is not None:
            self.session.drained()

    def lost(self, cause: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.session is not None:
            self.session.lost(cause)

    # The connection of the session

    @property
    def peer(self) -> str:
        return self._connection.peer

    @property
    def local(self) -> str:
        return self._connection.local

    @property
    def unsent_bytes(self) -> int:
        return self._connection.unsent_bytes

    def send(self, parts: Parts) -> None:
        if not self._replies and not self._is_dead:
            self._connection.send(parts)
            return
        for correlation_id, reply in _replies_in(parts):
            if not self._is_dead:
                self._replies.pop(correlation_id, self._connection.send)(reply)

    def pause(self) -> None:
        self._is_paused = True
        self._connection.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._timer is None:
            self._connection.resume()

    def close(self) -> None:
        self._connection.close()

    # The faults

    def _take(self, session: Handler, frame: memoryview) -> bool:
        """One whole frame, its size in front; False leaves it for later."""
        if not self._is_judged:
            self._fault = self._judge(frame[4:])
            self._is_judged = True
            if self._fault is not None and self._fault.kind is Kind.DELAY:
                self._hold(self._fault.ms)
                self._fault = None
                return False
        if self._fault is None:
            is_taken = bool(session.received(frame))
        else:
            is_taken = self._strike(session, frame, self._fault)
        self._is_judged = not is_taken
        return is_taken

    def _judge(self, frame: memoryview) -> Fault | None:
        key = int.from_bytes(frame[:2], "big")
        if key == ApiKey.FETCH and self._faults.needs_topics(key) and _is_in_session(frame):
            return _SESSION_IS_GONE

        def topics() -> Collection[str]:
            try:
                _, request = decode_request(frame)
            except DecodeError:
                return ()
            return self._topics(request)

        return self._faults.strike(key, topics)

    def _topics(self, request: Request) -> Collection[str]:
        found = [
            self._topic_of(Uuid(each)) if isinstance(each, bytes) else each
            for each in topics_named(request)
        ]
        if isinstance(request, MetadataRequest) and not request.topics:
            return _All()
        return [each for each in found if each is not None]

    def _hold(self, ms: float) -> None:
        self._connection.pause()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(ms / 1000, self._let_go)

    def _let_go(self) -> None:
        self._timer = None
        if not self._is_paused:
            self._connection.resume()

    def _strike(self, session: Handler, frame: memoryview, fault: Fault) -> bool:
        end = self._end_of(fault)
        if fault.kind is not Kind.ERROR and fault.when == "request":
            end(())
            return True
        try:
            header, request = decode_request(frame[4:])
        except DecodeError:
            return bool(session.received(frame))  # which refuses it
        if isinstance(request, ProduceRequest) and request.acks == 0:  # which has no response
            is_taken = fault.kind is Kind.ERROR or bool(session.received(frame))
            if is_taken:
                end(())
            return is_taken
        key, version, correlation_id, _ = header
        then = end
        if fault.kind is Kind.ERROR:
            if key == ApiKey.METADATA:
                then = self._metadata(version, fault)
            else:
                refused = encode_response(
                    key, version, correlation_id, refusal(request, version, fault.code)
                )
                then = lambda _: self._connection.send(refused)  # noqa: E731
                frame = _stand_in(correlation_id)
        self._replies[correlation_id] = then
        if session.received(frame):
            return True
        del self._replies[correlation_id]
        return False

    def _end_of(self, fault: Fault) -> Callable[[Parts], None]:
        """How the connection ends, given the response."""

        def end(parts: Parts) -> None:
            self._is_dead = True
            if fault.kind is Kind.DROP:
                return
            if fault.when == "mid-response":
                self._connection.send(_first_half(parts))
            self._connection.close()

        return end

    def _metadata(self, version: int, fault: Fault) -> Callable[[Parts], None]:
        """The true answer, but for the codes of the topics."""

        def answer(parts: Parts) -> None:
            whole = b"".join(part for part in parts if not isinstance(part, FileRange))
            correlation_id, response = decode_response(
                ApiKey.METADATA, version, memoryview(whole)[4:]
            )
            assert isinstance(response, MetadataResponse)
            for row in response.topics:
                if fault.topic is None or row.name == fault.topic:
                    row.error_code = fault.code
                    row.partitions = []
            self._connection.send(
                encode_response(ApiKey.METADATA, version, correlation_id, response)
            )

        return answer


class _All(Collection[str]):
    """Every topic: what a Metadata names that names none."""

    def __contains__(self, topic: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_SIZE_BYTES: Final = 4
_CORRELATION_END: Final = 8


def _frame_bytes(data: memoryview) -> int | None:
    """How long the first frame is, its size included; None where it is not whole, or none."""
    if len(data) < _SIZE_BYTES:
        return None
    size = int.from_bytes(data[:_SIZE_BYTES], "big", signed=True)
    if not limits.FRAME_MIN_BYTES <= size <= len(data) - _SIZE_BYTES:
        return None
    return size + _SIZE_BYTES


_SESSION_IS_GONE: Final = Fault(
    Faults(),
    Kind.ERROR,
    "Fetch",
    topic=None,
    times=None,
    after=0,
    code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
)


def _is_in_session(frame: memoryview) -> bool:
    try:
        _, request = decode_request(frame)
    except DecodeError:
        return False
    return isinstance(request, FetchRequest) and request.session_epoch > 0


def _stand_in(correlation_id: int) -> memoryview:
    parts = encode_request(correlation_id, None, 0, ApiVersionsRequest())
    return memoryview(bytearray().join(part for part in parts if not isinstance(part, FileRange)))


def _replies_in(parts: Parts) -> Iterator[tuple[int, list[Bytes | FileRange]]]:
    """(correlation id, its parts) of each response. A response begins with a part of its own."""
    reply: list[Bytes | FileRange] = []
    correlation_id = missing = 0
    for part in parts:
        if not reply:
            assert not isinstance(part, FileRange)
            missing = int.from_bytes(part[:_SIZE_BYTES], "big") + _SIZE_BYTES
            correlation_id = int.from_bytes(part[_SIZE_BYTES:_CORRELATION_END], "big", signed=True)
        reply.append(part)
        missing -= part.length if isinstance(part, FileRange) else len(part)
        if not missing:
            yield correlation_id, reply
            reply = []


def _first_half(parts: Parts) -> list[Bytes | FileRange]:
    total = sum(part.length if isinstance(part, FileRange) else len(part) for part in parts)
    left = total // 2
    half: list[Bytes | FileRange] = []
    for part in parts:
        if isinstance(part, FileRange):
            half.append(part._replace(length=min(part.length, left)))
            left -= min(part.length, left)
        else:
            half.append(part[:left])
            left -= min(len(part), left)
    return half

"""The way of a frame: length → header → handler → response, in order, for one connection.

    bytes ──split──▶ frame ──decode──▶ request ──handler──▶ response ──encode──▶ parts
                                                   │ or
                                                   └──▶ Parked … completes later

Replies leave in the order of their requests. A Produce or a Fetch (`Endpoint.pipelined`) is
handled while earlier ones of the connection are parked: it is done, and its sequence numbers
are checked, before the next frame is looked at; only its reply waits. Every other API is a
barrier both ways: it starts when all earlier replies have left, and the next frame waits for it.

A frame is decoded in place and forgotten when its handler returns: what is parked keeps offsets,
not bytes. What breaks the protocol (a hostile length, an unknown key, bytes that do not parse)
closes the connection with one log line naming the peer and the cause; nothing is answered that
could be mistaken for something else.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ottla.base import limits
from ottla.base.errors import BugError
from ottla.base.world import Connection
from ottla.broker.context import CloseConnection, RequestContext, Services
from ottla.broker.produce_shape import SMALL_BYTES, ProduceShapes
from ottla.broker.registry import endpoint_of
from ottla.protocol.framing import UnsupportedVersion, decode_request, encode_response
from ottla.protocol.message import Response
from ottla.protocol.messages.produce import ProduceRequest
from ottla.protocol.registry import ApiKey
from ottla.protocol.wire import DecodeError, Part
from ottla.replica.purgatory import Parked
from ottla.security.acl import ANONYMOUS
from ottla.security.authorizer import Requester

log = logging.getLogger(__name__)

_SIZE: Final = struct.Struct(">i")
_KEY_AND_VERSION: Final = struct.Struct(">hh")


class Reply:
    """A place in a connection's queue of replies; `parts` is None until its response is there."""

    __slots__ = ("api_key", "api_version", "correlation_id", "parked", "parts", "session")

    def __init__(
        self, session: "Session", api_key: int, api_version: int, correlation_id: int
    ) -> None:
        self.session = session
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.parts: list[Part] | None = None
        self.parked: Parked | None = None

    def encode(self, response: Response) -> None:
        self.parts = encode_response(self.api_key, self.api_version, self.correlation_id, response)

    def complete(self, response: Response) -> None:
        self.parked = None
        try:
            self.encode(response)
        except Exception as error:
            self.session.fail(self.api_key, error)
        else:
            self.session.release()

    # hot: produce
    def complete_encoded(self, parts: list[Part]) -> None:
        """The same of a response that is encoded already."""
        self.parked = None
        self.parts = parts
        self.session.release_soon()


class Session:
    """The handler of one connection."""

    __slots__ = (
        "_closed",
        "_connection",
        "_ending",
        "_forget",
        "_is_release_due",
        "_paused",
        "_replies",
        "_requester",
        "_services",
        "_shapes",
        "_stop_node",
        "_task",
        "frame_cap",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        frame_cap: int,
        stop_node: Callable[[BaseException], None],
        forget: Callable[["Session"], None],
    ) -> None:
        """Nothing is read before `serve`. `forget` is told when the connection is gone."""
        self._connection = connection
        self.frame_cap = frame_cap
        """Largest frame at this stage: what authenticates the peer raises it."""
        self._stop_node = stop_node
        self._forget = forget
        self._services: Services
        host = connection.peer.rpartition(":")[0].strip("[]")
        self._requester = Requester(ANONYMOUS, host)
        """What authenticates the peer says who it is, before `_shapes` learns of it."""
        self._shapes: ProduceShapes | None = None
        self._replies: list[Reply] = []
        self._task: asyncio.Task[Response] | None = None
        self._paused = True
        self._ending = False
        self._is_release_due = False
        self._closed = False
        connection.pause()

    def serve(self, services: Services) -> None:
        self._services = services
        self._shapes = ProduceShapes(services, self._requester)
        self._paused = False
        self._connection.resume()

    @property
    def is_idle(self) -> bool:
        return not self._replies

    def finish(self) -> None:
        """Take no more requests; answer parked fetches with what there is."""
        self._ending = True
        self._pause()
        for reply in list(self._replies):
            if reply.parked is not None and reply.parked.is_patient:
                reply.parked.expire()

    # hot: produce, fetch
    def received(self, data: memoryview) -> int:
        at, end = 0, len(data)
        while end - at >= 4 and not self._paused:
            (size,) = _SIZE.unpack_from(data, at)
            if not limits.FRAME_MIN_BYTES <= size <= self.frame_cap:
                self._refuse(f"frame of {size} bytes")
                break
            stop = at + 4 + size
            if stop > end:
                break
            if not self._take(data[at + 4 : stop]):
                break
            at = stop
        return end if self._closed else at

    def _take(self, frame: memoryview) -> bool:
        """Handle one frame; False leaves it for later."""
        key, version = _KEY_AND_VERSION.unpack_from(frame)
        endpoint = endpoint_of(key)
        if endpoint is None:
            self._refuse(f"unknown api key {key}, version {version}")
            return True
        if self._replies and (
            not endpoint.pipelined or len(self._replies) >= limits.CONNECTION_IN_FLIGHT_COUNT
        ):
            self._pause()
            return False
        if key == ApiKey.PRODUCE and len(frame) <= SMALL_BYTES and self._take_known(frame, version):
            return True
        try:
            header, request = decode_request(frame)
        except UnsupportedVersion as error:
            self._answer_unsupported(key, error)
            return True
        except DecodeError as error:
            self._refuse(f"{ApiKey(key).name} version {version} does not parse: {error}")
            return True
        if self._shapes and isinstance(request, ProduceRequest) and len(frame) <= SMALL_BYTES:
            self._shapes.learn(frame, version, request)
        context = RequestContext(
            self._services, version, header.client_id, self._connection, self._requester
        )
        self._handle(endpoint.handler, context, request, key, header.correlation_id)
        return True

    def _take_known(self, frame: memoryview, version: int) -> bool:
        """Handle a Produce that looks like an earlier one; False where none did."""
        try:
            outcome = self._shapes.take(frame, version) if self._shapes else None
        except CloseConnection as error:
            self._refuse(str(error))
            return True
        except Exception as error:
            self.fail(ApiKey.PRODUCE, error)
            return True
        if outcome is None:
            return False
        if isinstance(outcome, list) and not self._replies:
            if outcome:
                self._send(outcome)
            return True
        if outcome:
            reply = Reply(self, ApiKey.PRODUCE, version, 0)
            self._replies.append(reply)
            if isinstance(outcome, list):
                reply.parts = outcome
            else:
                reply.parked = outcome
                outcome.on_complete = reply.complete_encoded
        return True

    def _handle(
        self,
        handler: Callable[[RequestContext, Any], Any],
        context: RequestContext,
        request: Any,
        key: int,
        correlation_id: int,
    ) -> None:
        reply = Reply(self, key, context.api_version, correlation_id)
        try:
            outcome = handler(context, request)
            if outcome is None:  # acks=0
                return
            if isinstance(outcome, Response):
                reply.encode(outcome)
        except CloseConnection as error:
            self._refuse(str(error))
            return
        except Exception as error:
            self.fail(key, error)
            return
        if reply.parts is not None and not self._replies:
            self._send(reply.parts)
            return
        self._replies.append(reply)
        if isinstance(outcome, Parked):
            reply.parked = outcome
            outcome.on_complete = reply.complete
        elif reply.parts is None:
            self._run(outcome, reply)

    def _run(self, coroutine: Coroutine[Any, Any, Response], reply: Reply) -> None:
        self._pause()
        task = self._services.loop.create_task(coroutine)
        self._task = task

        def done(task: asyncio.Task[Response]) -> None:
            self._task = None
            if self._closed or task.cancelled():
                return
            error = task.exception()
            if error is None:
                reply.complete(task.result())
            else:
                self.fail(reply.api_key, error)

        task.add_done_callback(done)

    def release(self) -> None:
        """Send the replies that are ready and whose turn it is."""
        self._is_release_due = False
        replies = self._replies
        parts: list[Part] = []
        ready = 0
        for reply in replies:
            if reply.parts is None:
                break
            parts += reply.parts
            ready += 1
        if ready:
            del replies[:ready]
            self._send(parts)
        if self._paused:
            self._maybe_resume()

    # hot: produce
    def release_soon(self) -> None:
        """One of the replies is ready. Where there are several, a flush will have made more of
        them so: they leave together when it has told all."""
        if len(self._replies) == 1:
            self.release()
        elif not self._is_release_due:
            self._is_release_due = True
            self._services.loop.call_soon(self.release)

    def _send(self, parts: list[Part]) -> None:
        self._connection.send(parts)
        if self._connection.unsent_bytes > limits.CONNECTION_OUTPUT_BYTES:
            self._pause()

    def drained(self) -> None:
        if self._paused:
            self._maybe_resume()

    def lost(self, cause: str) -> None:
        self._closed = self._paused = True
        self._forget(self)
        if self._shapes is not None:
            self._shapes.forget()
        if self._task is not None:
            self._task.cancel()
        for reply in self._replies:
            if reply.parked is not None:
                reply.parked.abandon()
        self._replies.clear()

    def close(self) -> None:
        self._connection.close()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._connection.pause()

    def _maybe_resume(self) -> None:
        if self._replies or self._ending or self._closed:
            return
        if self._connection.unsent_bytes > limits.CONNECTION_OUTPUT_BYTES:
            return
        self._paused = False
        self._connection.resume()

    def _answer_unsupported(self, key: int, error: UnsupportedVersion) -> None:
        """ApiVersions of any version is answered (KIP-511); anything else is not understood."""
        if key != ApiKey.API_VERSIONS:
            self._refuse(str(error))
            return
        endpoint = endpoint_of(key)
        assert endpoint is not None
        context = RequestContext(
            self._services, 0, error.header.client_id, self._connection, self._requester
        )
        self._handle(endpoint.handler, context, None, key, error.header.correlation_id)

    def _refuse(self, cause: str) -> None:
        log.warning("%s: connection closed: %s", self._connection.peer, cause)
        self._shut()

    def fail(self, key: int, error: BaseException) -> None:
        """A handler broke. Its effect is not known, so the peer gets no answer but a closed
        connection: an error code could make it send again what was already appended. A failed
        check stops the node."""
        if isinstance(error, BugError):
            self._stop_node(error)
        name = ApiKey(key).name
        log.error("%s: %s failed; connection closed", self._connection.peer, name, exc_info=error)
        self._shut()

    def _shut(self) -> None:
        self._closed = self._paused = True
        self._connection.close()

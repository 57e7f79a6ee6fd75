"""One connection to a broker: requests out, answers in, in the order of the requests.

Any number of requests may wait for their answers at once. A broker answers in the order it was
asked, so the waiting ones stand in a queue, and the correlation id of an answer only confirms
that. What does not fit that picture (another correlation id, an answer nobody asked for, a length
below zero or above the cap, bytes that are not the response) closes the channel: a stream that
was misread once cannot be read on.

Rules of memory. A frame is copied out of the receive buffer, whole, before it is decoded, so a
response may be kept and may hold views of its frame. What a request is made of belongs to the
channel until its answer is there or the channel is closed: callers hand in bytes they never
change again.

Cancelling who waits leaves the channel as it was: the answer is dropped when it comes.

A login that the broker lets last for some time only (KIP-368) is renewed before that is over, at
85 to 95 % of it as Java's client does, so that not all of a cluster's clients come at once. While
the two talk about that, the broker takes nothing else: what is sent meanwhile is held back, and
leaves, in its order, when the login stands. What was in flight is answered in its turn.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import TLS_REFUSED, Bytes, Connection, FileRange, Tls, TlsError, World
from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.wire import DecodeError
from ottla.rpc.authentication import authenticate, prepared
from ottla.rpc.errors import (
    AuthenticationError,
    BadResponseError,
    ChannelClosedError,
    ConnectError,
    DisconnectedError,
    RequestTimedOutError,
    RpcError,
    code_of,
)
from ottla.rpc.versions import FIRST_TRY, Versions, second_try
from ottla.security.sasl import Credentials

R = TypeVar("R", bound=Response)
_log = logging.getLogger(__name__)

RESPONSE_MIN_BYTES: Final = 4
SOFTWARE_NAME: Final = "ottla"
SOFTWARE_VERSION: Final = "0"
FIRST_ID: Final = 1
"""Correlation id of the ApiVersions that most brokers understand at once."""
RENEWED_AT: Final = (0.85, 0.95)
"""Of a login's life."""
TLS_ALERT: Final = b"\x15\x03"
"""How a TLS server answers who does not speak TLS."""


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    client_id: str = "ottla"
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 10_000
    max_response_bytes: int = 128 << 20
    """A response that claims to be longer closes the channel."""
    credentials: Credentials | None = None
    """Proved by SASL before anything is asked; None: nobody in particular."""
    tls: Tls | None = None
    """None: in clear."""


@dataclass(slots=True, eq=False)
class _Waiting:
    correlation_id: int
    api_key: int
    version: int
    answer: "asyncio.Future[Response | RpcError]"
    timer: asyncio.TimerHandle


Leaving = tuple[Sequence[Bytes | FileRange], _Waiting | None]
"""A request, and who waits for its answer, if there is one."""


class Channel:
    """An open, negotiated connection. Made by `Channel.open`; not used again once closed."""

    versions: Versions
    features: dict[str, int]
    """Level of each feature that the cluster has finalised (KIP-584), as this broker told it."""

    def __init__(self, world: World, connection: Connection, settings: ChannelSettings) -> None:
        self._world = world
        self._connection = connection
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._correlation_id = 0
        self._failure: RpcError | None = None
        self.on_drained: Callable[[], None] = lambda: None
        """Called when nothing that was sent is to be written any more: it has left, or is lost."""
        self._held: deque[Leaving] | None = None
        """While the login is renewed: what is to leave after that."""
        self._renewal: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, world: World, host: str, port: int, settings: ChannelSettings) -> "Channel":
        """Connect, negotiate versions, log in; RpcError where that fails, AuthenticationError
        where one side does not believe the other."""
        made: list[Channel] = []

        def handler(connection: Connection) -> Channel:
            made.append(cls(world, connection, settings))
            return made[0]

        try:
            async with asyncio.timeout(settings.connect_timeout_ms / 1_000):
                await world.network.connect(host, port, handler, tls=settings.tls)
        except TimeoutError as error:
            raise ConnectError(f"{host}:{port}: no connection in time") from error
        except TlsError as error:
            cause = f"{host}:{port}: {error}"
            raise AuthenticationError(ErrorCode.UNKNOWN_SERVER_ERROR, cause) from error
        except OSError as error:
            raise ConnectError(f"{host}:{port}: {error.strerror or error}") from error
        channel = made[0]
        try:
            await channel._negotiate()
            await channel._log_in()
        except DisconnectedError as failure:
            raise channel._unwelcome(failure) from failure
        except BaseException:
            channel.close()
            raise
        return channel

    @property
    def peer(self) -> str:
        return self._connection.peer

    @property
    def is_open(self) -> bool:
        return self._failure is None

    @property
    def unsent_bytes(self) -> int:
        """Of requests that are still to be written; none once it is closed."""
        held = [part for parts, _ in self._held or () for part in parts]
        sizes = (part.length if isinstance(part, FileRange) else len(part) for part in held)
        return self._connection.unsent_bytes + sum(sizes) if self.is_open else 0

    @property
    def in_flight_count(self) -> int:
        held = self._held or ()
        return len(self._waiting) + sum(waiting is not None for _, waiting in held)

    async def ask(
        self,
        request: Request,
        expected: type[R],
        *,
        last: int | None = None,
        timeout_ms: int | None = None,
    ) -> R:
        """Send a request in the highest common version (at most `last`), and wait."""
        return await self.answer_of(self.send(request, last=last, timeout_ms=timeout_ms), expected)

    def send(
        self, request: Request, *, last: int | None = None, timeout_ms: int | None = None
    ) -> "asyncio.Future[Response | RpcError]":
        """Send now, in the order of the calls. The future holds the response or the reason why
        there is none; it never raises. RpcError at once where the request cannot leave."""
        version = self.versions.pick(int(request.__api__ or 0), last)
        return self._send(request, version, timeout_ms)

    async def answer_of(
        self, waiting: "asyncio.Future[Response | RpcError]", expected: type[R]
    ) -> R:
        """What `send` gave, once it is there; the RpcError is raised."""
        response = await waiting
        if isinstance(response, expected):
            return response
        if isinstance(response, RpcError):
            raise response
        raise TypeError(f"{type(response).__name__} is no {expected.__name__}")

    def post(self, request: Request, *, last: int | None = None) -> None:
        """Send what is never answered (a Produce with acks=0)."""
        parts = self._encoded(request, self.versions.pick(int(request.__api__ or 0), last))
        if self._held is None:
            self._leave(parts, None)
        else:
            self._held.append((parts, None))

    def close(self) -> None:
        """Close; who waits gets a DisconnectedError."""
        self._end(DisconnectedError(f"{self.peer}: closed on this side"))

    # ---- sending

    def _send(
        self,
        request: Request,
        version: int,
        timeout_ms: int | None = None,
        *,
        is_first: bool = False,
    ) -> "asyncio.Future[Response | RpcError]":
        """`is_first`: in front of what is held back."""
        parts = self._encoded(request, version)
        api_key = int(request.__api__ or 0)
        answer: asyncio.Future[Response | RpcError] = self._loop.create_future()
        timeout_ms = self._settings.request_timeout_ms if timeout_ms is None else timeout_ms
        timer = self._loop.call_later(timeout_ms / 1_000, self._late, api_key, timeout_ms)
        waiting = _Waiting(self._correlation_id, api_key, version, answer, timer)
        if self._held is None or is_first:
            self._leave(parts, waiting)
        else:
            self._held.append((parts, waiting))
        return answer

    def _encoded(self, request: Request, version: int) -> Sequence[Bytes | FileRange]:
        if self._failure is not None:
            raise ChannelClosedError(str(self._failure))
        self._correlation_id = (self._correlation_id + 1) & 0x7FFF_FFFF
        return encode_request(self._correlation_id, self._settings.client_id, version, request)

    def _leave(self, parts: Sequence[Bytes | FileRange], waiting: _Waiting | None) -> None:
        self._connection.send(parts)
        if waiting is not None:
            self._waiting.append(waiting)

    # ---- opening

    async def _negotiate(self) -> None:
        version = FIRST_TRY
        for _ in range(2):
            request = ApiVersionsRequest(
                client_software_name=SOFTWARE_NAME, client_software_version=SOFTWARE_VERSION
            )
            waiting = self._send(request, version)
            response = await self.answer_of(waiting, ApiVersionsResponse)
            if response.error_code != ErrorCode.UNSUPPORTED_VERSION:
                break
            version = second_try(response.api_keys)
        if response.error_code:
            raise KafkaError(code_of(response.error_code), f"{self.peer}: ApiVersions was refused")
        self.versions = Versions(response.api_keys)
        self.features = {row.name: row.max_version_level for row in response.finalized_features}

    async def _log_in(self) -> None:
        credentials, world = self._settings.credentials, self._world
        if credentials is None:
            return
        mechanism = await prepared(world, credentials, self._settings.request_timeout_ms)
        if self._renewing is not None:
            self._held = deque()
        lifetime_ms = await authenticate(
            self._ask_first, self.peer, world.offload, credentials.mechanism, mechanism
        )
        held, self._held = self._held or (), None
        for parts, waiting in held:
            self._leave(parts, waiting)
        if lifetime_ms:
            first, last = RENEWED_AT
            share = first + (last - first) * world.rng.random()
            self._renewal = self._loop.call_later(lifetime_ms * share / 1_000, self._renew_soon)

    async def _ask_first(self, request: Request, expected: type[R]) -> R:
        version = self.versions.pick(int(request.__api__ or 0))
        return await self.answer_of(self._send(request, version, is_first=True), expected)

    def _renew_soon(self) -> None:
        self._renewing = self._loop.create_task(self._renew())

    async def _renew(self) -> None:
        try:
            await self._log_in()
        except (RpcError, KafkaError) as failure:  # a new connection will tell its user
            _log.warning("%s: the login could not be renewed: %s", self.peer, failure)
            self._end(DisconnectedError(f"{self.peer}: the login could not be renewed: {failure}"))

    def _unwelcome(self, failure: DisconnectedError) -> Exception:
        """What it means that the connection went before it stood."""
        if TLS_REFUSED in str(failure):
            return AuthenticationError(ErrorCode.UNKNOWN_SERVER_ERROR, str(failure))
        hint = "" if self._settings.tls is not None else ": does this listener want TLS?"
        return DisconnectedError(f"{failure}, before it answered{hint}")

    # ---- base.world.Handler

    def received(self, data: memoryview) -> int:
        at, end = 0, len(data)
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big", signed=True)
            if not RESPONSE_MIN_BYTES <= size <= self._settings.max_response_bytes:
                is_tls = bytes(data[at : at + 2]) == TLS_ALERT
                hint = ": this listener wants TLS" if is_tls else ""
                self._end(BadResponseError(f"{self.peer}: a response of {size} bytes{hint}"))
                return end
            stop = at + 4 + size
            if stop > end:
                break
            self._answered(memoryview(bytes(data[at + 4 : stop])))
            if self._failure is not None:
                return end
            at = stop
        return at

    def _answered(self, frame: memoryview) -> None:
        correlation_id = int.from_bytes(frame[:4], "big", signed=True)
        if not self._waiting or self._waiting[0].correlation_id != correlation_id:
            self._end(BadResponseError(f"{self.peer}: an answer to no request of that turn"))
            return
        waiting = self._waiting[0]
        try:
            _, response = decode_response(waiting.api_key, waiting.version, frame)
        except DecodeError as error:
            self._end(BadResponseError(f"{self.peer}: {error}"))
            return
        self._waiting.popleft()
        _settle(waiting, response)

    def drained(self) -> None:
        self.on_drained()

    def lost(self, cause: str) -> None:
        if self._settings.credentials is None and self._correlation_id == FIRST_ID + 1:
            cause += ", at the first request: does this listener want a login (SASL)?"
        self._end(DisconnectedError(f"{self.peer}: {cause}"))

    # ---- ending

    def _late(self, api_key: int, timeout_ms: int) -> None:
        self._end(
            RequestTimedOutError(f"{self.peer}: no answer to api key {api_key} in {timeout_ms} ms")
        )

    def _end(self, failure: RpcError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._connection.close()
        if self._renewal is not None:
            self._renewal.cancel()
        if self._renewing is not None and self._renewing is not asyncio.current_task():
            self._renewing.cancel()
        while self._waiting:
            _settle(self._waiting.popleft(), failure)
        for _, waiting in self._held or ():
            if waiting is not None:
                _settle(waiting, ChannelClosedError(str(failure)))
        self._held = None
        self.on_drained()


def _settle(waiting: _Waiting, outcome: Response | RpcError) -> None:
    waiting.timer.cancel()
    if not waiting.answer.done():
        waiting.answer.set_result(outcome)

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
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ottla.base.errors import ErrorCode, KafkaError
from ottla.base.world import Bytes, Connection, FileRange, World
from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.wire import DecodeError
from ottla.rpc.authentication import authenticate
from ottla.rpc.errors import (
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

RESPONSE_MIN_BYTES: Final = 4
SOFTWARE_NAME: Final = "ottla"
SOFTWARE_VERSION: Final = "0"


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    client_id: str = "ottla"
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 10_000
    max_response_bytes: int = 128 << 20
    """A response that claims to be longer closes the channel."""
    credentials: Credentials | None = None
    """Proved by SASL before anything is asked; None: nobody in particular."""


@dataclass(slots=True, eq=False)
class _Waiting:
    correlation_id: int
    api_key: int
    version: int
    answer: "asyncio.Future[Response | RpcError]"
    timer: asyncio.TimerHandle


class Channel:
    """An open, negotiated connection. Made by `Channel.open`; not used again once closed."""

    versions: Versions
    features: dict[str, int]
    """Level of each feature that the cluster has finalised (KIP-584), as this broker told it."""

    def __init__(self, connection: Connection, settings: ChannelSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._correlation_id = 0
        self._failure: RpcError | None = None
        self.on_drained: Callable[[], None] = lambda: None
        """Called when all that was sent has left."""

    @classmethod
    async def open(cls, world: World, host: str, port: int, settings: ChannelSettings) -> "Channel":
        """Connect and negotiate versions; RpcError where that fails."""
        made: list[Channel] = []

        def handler(connection: Connection) -> Channel:
            made.append(cls(connection, settings))
            return made[0]

        try:
            async with asyncio.timeout(settings.connect_timeout_ms / 1_000):
                await world.network.connect(host, port, handler)
        except TimeoutError as error:
            raise ConnectError(f"{host}:{port}: no connection in time") from error
        except OSError as error:
            raise ConnectError(f"{host}:{port}: {error.strerror or error}") from error
        channel = made[0]
        try:
            await channel._negotiate()
            if settings.credentials is not None:
                await authenticate(channel, world, settings.credentials)
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
        """Of requests that the broker has not taken yet."""
        return self._connection.unsent_bytes

    @property
    def in_flight_count(self) -> int:
        return len(self._waiting)

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
        api_key = int(request.__api__ or 0)
        version = self.versions.pick(api_key, last)
        return self._send(request, api_key, version, timeout_ms)

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
        self._write(request, self.versions.pick(int(request.__api__ or 0), last))

    def close(self) -> None:
        """Close; who waits gets a DisconnectedError."""
        self._end(DisconnectedError(f"{self.peer}: closed on this side"))

    # ---- sending

    def _send(
        self, request: Request, api_key: int, version: int, timeout_ms: int | None
    ) -> "asyncio.Future[Response | RpcError]":
        self._write(request, version)
        answer: asyncio.Future[Response | RpcError] = self._loop.create_future()
        timeout_ms = self._settings.request_timeout_ms if timeout_ms is None else timeout_ms
        timer = self._loop.call_later(timeout_ms / 1_000, self._late, api_key, timeout_ms)
        self._waiting.append(_Waiting(self._correlation_id, api_key, version, answer, timer))
        return answer

    def _write(self, request: Request, version: int) -> None:
        if self._failure is not None:
            raise ChannelClosedError(str(self._failure))
        self._correlation_id = (self._correlation_id + 1) & 0x7FFF_FFFF
        parts: Sequence[Bytes | FileRange] = encode_request(
            self._correlation_id, self._settings.client_id, version, request
        )
        self._connection.send(parts)

    async def _negotiate(self) -> None:
        version = FIRST_TRY
        for _ in range(2):
            request = ApiVersionsRequest(
                client_software_name=SOFTWARE_NAME, client_software_version=SOFTWARE_VERSION
            )
            waiting = self._send(request, int(request.__api__ or 0), version, None)
            response = await self.answer_of(waiting, ApiVersionsResponse)
            if response.error_code != ErrorCode.UNSUPPORTED_VERSION:
                break
            version = second_try(response.api_keys)
        if response.error_code:
            raise KafkaError(code_of(response.error_code), f"{self.peer}: ApiVersions was refused")
        self.versions = Versions(response.api_keys)
        self.features = {row.name: row.max_version_level for row in response.finalized_features}

    # ---- base.world.Handler

    def received(self, data: memoryview) -> int:
        at, end = 0, len(data)
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big", signed=True)
            if not RESPONSE_MIN_BYTES <= size <= self._settings.max_response_bytes:
                self._end(BadResponseError(f"{self.peer}: a response of {size} bytes"))
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
        waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_result(response)

    def drained(self) -> None:
        self.on_drained()

    def lost(self, cause: str) -> None:
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
        while self._waiting:
            waiting = self._waiting.popleft()
            waiting.timer.cancel()
            if not waiting.answer.done():
                waiting.answer.set_result(failure)

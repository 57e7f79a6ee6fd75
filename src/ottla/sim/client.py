"""A scripted Kafka client in the simulated world: one connection, requests one after another or
many in flight, and an honest word about each of them.

    ok     the response arrived (whatever error codes it holds)
    fail   the request certainly never left: there was no connection
    info   it may have been carried out or not: no answer in time, or the connection broke

A timeout or a lost connection is never a fail: whoever checks a history relies on it. After one
the connection is dropped, as real clients do, since its next answer would be the late one.
Answers must come in the order of the requests, with the right correlation id: a BugError if not.
Received bytes are copied before they are decoded: a response may be kept.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from ottla.base.errors import check
from ottla.base.world import Connection, World
from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request, Response

R = TypeVar("R", bound=Response)

TIMEOUT_S: Final = 30.0


class Ending(Enum):
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    ending: Ending
    response: R | None = None
    cause: str = ""


@dataclass(slots=True)
class Waiting:
    correlation_id: int
    api_key: int
    version: int
    answer: asyncio.Future[Response | str]
    """The response, or why there is none."""


class SimClient:
    """To be used by tasks of the process that `world` belongs to."""

    def __init__(self, world: World, host: str, port: int, client_id: str = "sim") -> None:
        self._world = world
        self._address = host, port
        self._client_id = client_id
        self._correlation_id = 0
        self._link: Link | None = None

    async def connect(self) -> bool:
        """Whether there is a connection, an old or a new one."""
        if self._link is None or self._link.is_lost:
            link = Link()
            try:
                connection = await self._world.network.connect(*self._address, lambda _: link)
            except OSError:
                return False
            link.connection = connection
            self._link = link
        return True

    @property
    def link(self) -> "Link | None":
        """The present connection, for whoever has to send on no other."""
        return self._link

    async def ask(
        self,
        request: Request,
        version: int,
        expected: type[R],
        *,
        timeout_s: float = TIMEOUT_S,
        on: "Link | None" = None,
    ) -> Answer[R]:
        """With `on` only on that connection: what is sent in a row is lost in a row."""
        if on is not None and on.is_lost:
            return Answer(Ending.FAIL, cause="the connection is lost")
        if not await self.connect() or self._link is None:
            return Answer(Ending.FAIL, cause="no connection")
        link = on or self._link
        waiting = link.send(request, version, self._client_id, self._next_id())
        try:
            response = await asyncio.wait_for(waiting.answer, timeout_s)
        except TimeoutError:
            link.drop()
            return Answer(Ending.INFO, cause="timed out")
        if isinstance(response, str):
            return Answer(Ending.INFO, cause=response)
        check(isinstance(response, expected), f"a {type(response).__name__} as answer")
        assert isinstance(response, expected)
        return Answer(Ending.OK, response)

    async def post(self, request: Request, version: int) -> bool:
        """Send what is never answered (a Produce with acks=0); whether it left."""
        if not await self.connect() or self._link is None:
            return False
        self._link.write(request, version, self._client_id, self._next_id())
        return True

    def close(self) -> None:
        if self._link is not None:
            self._link.drop()

    def _next_id(self) -> int:
        self._correlation_id += 1
        return self._correlation_id


class Link:
    """The handler of one connection of a client."""

    connection: Connection

    def __init__(self) -> None:
        self.is_lost = False
        self._waiting: deque[Waiting] = deque()

    def write(self, request: Request, version: int, client_id: str, correlation_id: int) -> None:
        self.connection.send(encode_request(correlation_id, client_id, version, request))

    def send(self, request: Request, version: int, client_id: str, correlation_id: int) -> Waiting:
        check(request.__api__ is not None, "a request of an API")
        api_key = int(request.__api__ or 0)
        answer = asyncio.get_running_loop().create_future()
        waiting = Waiting(correlation_id, api_key, version, answer)
        self._waiting.append(waiting)
        self.write(request, version, client_id, correlation_id)
        return waiting

    def drop(self) -> None:
        self.is_lost = True
        self.connection.close()

    def received(self, data: memoryview) -> int:
        at = 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big", signed=True)
            if end > len(data):
                break
            self._answered(memoryview(bytes(data[at + 4 : end])))
            at = end
        return at

    def _answered(self, frame: memoryview) -> None:
        check(self._waiting, "an answer to no request")
        waiting = self._waiting.popleft()
        correlation_id, response = decode_response(waiting.api_key, waiting.version, frame)
        check(correlation_id == waiting.correlation_id, "an answer out of order")
        if not waiting.answer.done():
            waiting.answer.set_result(response)

    def drained(self) -> None:
        return

    def lost(self, cause: str) -> None:
        self.is_lost = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                waiting.answer.set_result(cause)

"""A machine that answers as a test says, and a client machine beside it, in the simulated world."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.base.world import Connection, World
from ottla.protocol.framing import decode_request, encode_response
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from ottla.protocol.registry import APIS
from ottla.sim.world import SimWorld

PORT = 9092
ALL_VERSIONS = [
    ApiVersion(api_key=key, min_version=api.first, max_version=api.last)
    for key, api in APIS.items()
]
Answer = Response | bytes | None
"""A response, raw bytes to send instead of one, or None to stay silent."""


class FakeBroker:
    """The handler of one accepted connection; `answer(header, request)` says what to send."""

    def __init__(self, connection: Connection, answer: Callable[[Any, Request], Answer]) -> None:
        self.connection = connection
        self._answer = answer

    def received(self, data: memoryview) -> int:
        at = 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                break
            self._handle(memoryview(bytes(data[at + 4 : end])))
            at = end
        return at

    def _handle(self, frame: memoryview) -> None:
        header, request = decode_request(frame)
        answer = self._answer(header, request)
        if isinstance(answer, bytes):
            self.connection.send([answer])
        elif answer is not None:
            version = header.api_version
            if isinstance(answer, ApiVersionsResponse) and answer.error_code == 35:
                version = 0
            self.connection.send(
                encode_response(header.api_key, version, header.correlation_id, answer)
            )

    def drained(self) -> None:
        return

    def lost(self, cause: str) -> None:
        return


class Stage:
    """The simulated world with a machine that listens and one that asks."""

    def __init__(self, seed: int = 1) -> None:
        self.sim = SimWorld(seed)
        self.accepted: list[FakeBroker] = []
        self.requests: list[tuple[Any, Request]] = []
        self.broker_world = self.sim.boot("broker")
        self.world: World = self.sim.boot("client")

    def listen(self, answer: Callable[[Any, Request], Answer], port: int = PORT) -> None:
        def noted(header: Any, request: Request) -> Answer:
            self.requests.append((header, request))
            return answer(header, request)

        def accept(connection: Connection) -> FakeBroker:
            self.accepted.append(FakeBroker(connection, noted))
            return self.accepted[-1]

        self.broker_world.network.listen("", port, accept)

    def play(self, script: Callable[[], Awaitable[None]]) -> None:
        async def coroutine() -> None:
            await script()

        async def main() -> None:
            await self.sim.machine("client").process.spawn(coroutine())

        self.sim.run(main())


def versions_answer(header: Any, request: Request) -> Answer:
    """The answer of a broker that has all versions, to ApiVersions; None to all else."""
    if header.api_key == 18:
        return ApiVersionsResponse(api_keys=ALL_VERSIONS)
    return None


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)

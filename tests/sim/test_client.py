"""The scripted client against a handler that answers, is late, is silent, or goes away."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from ottla.base.errors import BugError
from ottla.base.world import Connection
from ottla.protocol.framing import decode_request, encode_response
from ottla.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from ottla.protocol.messages.produce import ProduceRequest
from ottla.sim.client import Answer, Ending, SimClient
from ottla.sim.world import SimWorld

VERSION = 3


@dataclass
class Broker:
    """Answers each ApiVersions with one row that tells its number; the others with nothing."""

    connection: Connection
    mood: str = "good"
    seen: int = 0

    def received(self, data: memoryview) -> int:
        at = 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                break
            header, request = decode_request(memoryview(bytes(data[at + 4 : end])))
            at = end
            self.seen += 1
            if isinstance(request, ApiVersionsRequest):
                self._answer(header.correlation_id)
        return at

    def _answer(self, correlation_id: int) -> None:
        if self.mood == "silent":
            return
        if self.mood == "gone":
            self.connection.close()
            return
        wrong = 1 if self.mood == "confused" else 0
        row = ApiVersion(api_key=self.seen, min_version=0, max_version=0)
        response = ApiVersionsResponse(api_keys=[row])
        self.connection.send(encode_response(18, VERSION, correlation_id + wrong, response))

    def drained(self) -> None:
        return

    def lost(self, cause: str) -> None:
        return


def play(
    script: Callable[[SimClient, list[Broker]], Awaitable[None]],
    mood: str = "good",
    *,
    seed: int = 1,
    listen: bool = True,
) -> None:
    sim = SimWorld(seed)
    brokers: list[Broker] = []

    def accept(connection: Connection) -> Broker:
        brokers.append(Broker(connection, mood))
        return brokers[-1]

    if listen:
        sim.boot("broker").network.listen("", 9092, accept)
    client = SimClient(sim.boot("client"), "broker", 9092)

    async def main() -> None:
        await sim.machine("client").process.spawn(_as_coroutine(script(client, brokers)))

    sim.run(main())


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def ask(client: SimClient, timeout_s: float = 5.0) -> Answer[ApiVersionsResponse]:
    request = ApiVersionsRequest(client_software_name="sim", client_software_version="1")
    return await client.ask(request, VERSION, ApiVersionsResponse, timeout_s=timeout_s)


@pytest.mark.parametrize("seed", range(5))
def test_many_in_flight_are_answered_in_order(seed: int) -> None:
    async def script(client: SimClient, brokers: list[Broker]) -> None:
        assert await client.connect()
        answers = await asyncio.gather(*(ask(client) for _ in range(50)))
        assert [answer.ending for answer in answers] == [Ending.OK] * 50
        keys = [answer.response.api_keys[0].api_key for answer in answers if answer.response]
        assert keys == list(range(1, 51))
        assert len(brokers) == 1

    play(script, seed=seed)


def test_no_connection_is_a_fail() -> None:
    async def script(client: SimClient, brokers: list[Broker]) -> None:
        assert (await ask(client)).ending is Ending.FAIL
        assert not await client.post(ProduceRequest(acks=0, timeout_ms=1, topic_data=[]), 9)

    play(script, listen=False)


def test_silence_and_a_lost_connection_are_info() -> None:
    async def silent(client: SimClient, brokers: list[Broker]) -> None:
        assert await ask(client) == Answer(Ending.INFO, cause="timed out")
        brokers[0].mood = "good"
        await asyncio.sleep(1)
        assert (await ask(client)).ending is Ending.INFO
        assert len(brokers) == 2, "after a time-out the connection is not used again"

    async def gone(client: SimClient, brokers: list[Broker]) -> None:
        assert await ask(client) == Answer(Ending.INFO, cause="closed by peer")

    play(silent, "silent")
    play(gone, "gone")


def test_a_wrong_correlation_id_is_a_bug() -> None:
    async def script(client: SimClient, brokers: list[Broker]) -> None:
        await ask(client)

    with pytest.raises(BugError, match="out of order"):
        play(script, "confused")


def test_a_post_waits_for_nothing() -> None:
    async def script(client: SimClient, brokers: list[Broker]) -> None:
        assert await client.post(ProduceRequest(acks=0, timeout_ms=1, topic_data=[]), 9)
        assert (await ask(client)).ending is Ending.OK
        assert brokers[0].seen == 2
        client.close()
        assert (await ask(client)).ending is Ending.OK
        assert len(brokers) == 2

    play(script)

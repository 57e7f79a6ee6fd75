"""A channel against brokers that answer well, late, out of turn, with garbage, or not at all."""

import asyncio

import pytest

from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.produce import ProduceRequest
from ottla.rpc.channel import Channel, ChannelSettings
from ottla.rpc.errors import (
    BadResponseError,
    ChannelClosedError,
    ConnectError,
    DisconnectedError,
    RequestTimedOutError,
    RpcError,
    VersionMismatchError,
)
from tests.rpc.conftest import ALL_VERSIONS, PORT, Stage, versions_answer

SETTINGS = ChannelSettings(request_timeout_ms=2_000, max_response_bytes=10_000)


def metadata(number=0):
    return MetadataResponse(brokers=[], topics=[], controller_id=number)


def request():
    return MetadataRequest(topics=[])


async def opened(stage, settings=SETTINGS):
    return await Channel.open(stage.world, "broker", PORT, settings)


@pytest.mark.parametrize("seed", range(5))
def test_many_in_flight_are_answered_in_order(seed):
    stage = Stage(seed)
    numbers = iter(range(100))
    stage.listen(lambda h, r: versions_answer(h, r) or metadata(next(numbers)))

    async def script():
        channel = await opened(stage)
        answers = await asyncio.gather(
            *(channel.ask(request(), MetadataResponse) for _ in range(50))
        )
        assert [answer.controller_id for answer in answers] == list(range(50))
        assert channel.in_flight_count == 0 and len(stage.accepted) == 1

    stage.play(script)


def test_versions_are_the_highest_in_common(stage):
    rows = [
        ApiVersion(api_key=18, min_version=0, max_version=3),
        ApiVersion(api_key=3, min_version=0, max_version=8),
        ApiVersion(api_key=0, min_version=0, max_version=2),
    ]
    stage.listen(lambda h, r: ApiVersionsResponse(api_keys=rows) if h.api_key == 18 else metadata())

    async def script():
        channel = await opened(stage)
        await channel.ask(request(), MetadataResponse)
        await channel.ask(request(), MetadataResponse, last=4)
        assert [h.api_version for h, r in stage.requests if h.api_key == 3] == [8, 4]
        with pytest.raises(VersionMismatchError, match="versions 0 to 2"):
            channel.send(ProduceRequest(acks=1, timeout_ms=1, topic_data=[]))
        with pytest.raises(VersionMismatchError, match="not serve FETCH"):
            channel.versions.pick(1)
        assert channel.is_open

    stage.play(script)


@pytest.mark.parametrize("told, asked", [([(18, 0, 2)], 2), ([], 0), ([(18, 0, 99)], 4)])
def test_an_old_broker_is_asked_again_in_a_version_it_has(stage, told, asked):
    def answer(header, request):
        if len(stage.requests) == 1:
            rows = [ApiVersion(api_key=k, min_version=a, max_version=b) for k, a, b in told]
            return ApiVersionsResponse(error_code=35, api_keys=rows)
        return ApiVersionsResponse(api_keys=ALL_VERSIONS)

    stage.listen(answer)

    async def script():
        await opened(stage)
        assert [header.api_version for header, _ in stage.requests] == [4, asked]
        assert all(isinstance(each, ApiVersionsRequest) for _, each in stage.requests)

    stage.play(script)


@pytest.mark.parametrize(
    "garbage",
    [
        (1 << 30).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02ab",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x08\x7f\0\0\0abcd",
        b"\0\0\0\x05\0\0\0\x02\0",
        b"\0\0\0\x07\0\0\0\x02\0\0\x7f",
    ],
)
def test_garbage_closes_the_channel_and_tells_all_who_wait(stage, garbage):
    stage.listen(lambda h, r: versions_answer(h, r) or garbage)

    async def script():
        channel = await opened(stage)
        waiting = [channel.send(request()) for _ in range(3)]
        for each in waiting:
            with pytest.raises(BadResponseError) as told:
                await channel.answer_of(each, MetadataResponse)
            assert told.value.is_uncertain and "broker:9092" in str(told.value)
        assert not channel.is_open
        with pytest.raises(ChannelClosedError):
            channel.send(request())

    stage.play(script)


def test_a_request_that_is_not_answered_in_time_closes_the_channel(stage):
    stage.listen(versions_answer)

    async def script():
        channel = await opened(stage)
        with pytest.raises(RequestTimedOutError, match="2000 ms"):
            await channel.ask(request(), MetadataResponse)
        assert not channel.is_open

    stage.play(script)


def test_nobody_listens(stage):
    async def script():
        with pytest.raises(ConnectError, match="broker:9092") as told:
            await opened(stage)
        assert not told.value.is_uncertain

    stage.play(script)


def test_a_broker_that_goes_away_while_it_is_asked(stage):
    def answer(header, request):
        if header.api_key != 18:
            stage.accepted[0].connection.close()
        return versions_answer(header, request)

    stage.listen(answer)

    async def script():
        channel = await opened(stage)
        with pytest.raises(DisconnectedError):
            await channel.ask(request(), MetadataResponse)

    stage.play(script)


def test_a_broker_that_answers_versions_with_an_error_or_never(stage):
    stage.listen(lambda h, r: b"SSH-2.0-OpenSSH_9.6\r\n")

    async def script():
        with pytest.raises(RpcError):
            await opened(stage)

    stage.play(script)


def test_who_stops_waiting_leaves_the_channel_usable(stage):
    numbers = iter(range(10))
    stage.listen(lambda h, r: versions_answer(h, r) or metadata(next(numbers)))

    async def script():
        channel = await opened(stage)
        first = asyncio.ensure_future(channel.ask(request(), MetadataResponse))
        await asyncio.sleep(0)
        first.cancel()
        second = await channel.ask(request(), MetadataResponse)
        assert second.controller_id == 1 and channel.in_flight_count == 0

    stage.play(script)


def test_closing_tells_who_waits(stage):
    stage.listen(versions_answer)

    async def script():
        channel = await opened(stage)
        waiting = channel.send(request())
        channel.close()
        assert isinstance(waiting.result(), DisconnectedError)
        with pytest.raises(ChannelClosedError):
            channel.post(ProduceRequest(acks=0, timeout_ms=1, topic_data=[]))

    stage.play(script)

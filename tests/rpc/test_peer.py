"""A peer: one attempt for all who ask, back-off after a failed one, and a new channel later."""

import asyncio
import random

import pytest

from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.rpc.channel import ChannelSettings
from ottla.rpc.errors import ChannelClosedError, ConnectError
from ottla.rpc.peer import Backoff, Peer
from tests.rpc.conftest import PORT, versions_answer

SETTINGS = ChannelSettings(request_timeout_ms=2_000)


def peer(stage):
    return Peer(stage.world, "broker", PORT, SETTINGS, Backoff(50, 1_000))


def answering(header, request):
    return versions_answer(header, request) or MetadataResponse(brokers=[], topics=[])


def test_backoff_doubles_and_is_spread():
    backoff, rng = Backoff(100, 1_000), random.Random(1)
    assert backoff.seconds(0, rng) == 0
    for failures, base in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (500, 1.0)]:
        drawn = [backoff.seconds(failures, rng) for _ in range(100)]
        assert base * 0.8 <= min(drawn) < max(drawn) <= base * 1.2


def test_all_who_ask_share_an_attempt_and_a_cancelled_one_spoils_nothing(stage):
    stage.listen(answering)

    async def script():
        node = peer(stage)
        tasks = [asyncio.ensure_future(node.connected()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        channels = await asyncio.gather(*tasks[1:])
        assert all(each is channels[0] for each in channels) and len(stage.accepted) == 1
        await node.ask(MetadataRequest(topics=[]), MetadataResponse)
        node.close()
        with pytest.raises(ChannelClosedError):
            await node.connected()

    stage.play(script)


def test_attempts_are_put_off_after_a_failure_and_a_broker_that_comes_is_found(stage):
    async def script():
        node, loop = peer(stage), asyncio.get_running_loop()
        start = loop.time()
        for _ in range(6):
            with pytest.raises(ConnectError):
                await node.connected()
        assert loop.time() - start > 0.8 * (0.05 + 0.1 + 0.2 + 0.4 + 0.8)
        stage.listen(answering)
        assert (await node.connected()).is_open

    stage.play(script)


def test_a_closed_channel_is_replaced(stage):
    stage.listen(answering)

    async def script():
        node = peer(stage)
        first = await node.connected()
        first.close()
        assert node.channel is None
        assert await node.connected() is not first

    stage.play(script)


def test_closing_while_it_connects(stage):
    async def script():
        node = peer(stage)
        stage.sim.wires.clog("client", "broker")
        waiting = asyncio.ensure_future(node.connected())
        await asyncio.sleep(0.1)
        node.close()
        with pytest.raises(ChannelClosedError):
            await waiting

    stage.play(script)

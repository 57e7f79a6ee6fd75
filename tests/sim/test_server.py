"""A node on a machine: it starts, serves, stops or dies, and starts again on what is left."""

import asyncio
from collections.abc import Awaitable, Callable

from ottla.metadata import keys
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.sim.client import SimClient
from ottla.sim.faults import Fault
from ottla.sim.server import PORT, Server
from ottla.sim.world import SimWorld


def play(script: Callable[[SimWorld, Server], Awaitable[None]]) -> None:
    sim = SimWorld(1)
    server = Server(sim, "node", {})

    async def main() -> None:
        server.start()
        await asyncio.sleep(1)
        await script(sim, server)

    sim.run(main())


async def brokers(client: SimClient) -> int:
    request = MetadataRequest(topics=[], allow_auto_topic_creation=False)
    answer = await client.ask(request, 12, MetadataResponse)
    return -1 if answer.response is None else len(answer.response.brokers)


def test_it_serves_again_after_every_end() -> None:
    async def script(sim: SimWorld, server: Server) -> None:
        client = SimClient(sim.boot("client"), "node", PORT)
        for _ in range(2):
            for end in (server.kill, server.power_cut):
                assert server.is_serving
                assert await brokers(client) == 1
                end()
                assert not server.is_up
                assert server.node is None
                assert await brokers(client) == -1
                server.start()
                await asyncio.sleep(1)
            assert await server.stop(60)
            assert not server.is_up
            server.start()
            await asyncio.sleep(1)
        assert not server.needs_restart

    play(script)


def test_what_a_process_held_of_the_store_goes_with_it() -> None:
    async def script(sim: SimWorld, server: Server) -> None:
        await asyncio.sleep(100)
        held = list(server.keep.under(keys.BROKERS)) + list(server.keep.under(keys.CONTROLLER))
        assert len(held) == 2
        server.kill()
        assert not server.keep.under(keys.BROKERS)
        assert not server.keep.under(keys.CONTROLLER)
        assert [write.key for write in server.metadata()] == list(server.keep.under(""))

    play(script)


def test_a_start_that_fails_and_a_directory_that_fails_want_a_restart() -> None:
    async def script(sim: SimWorld, server: Server) -> None:
        node = server.node
        assert node is not None
        node.services.replicas.directories[0].go_offline(OSError(5, "EIO"))
        assert server.needs_restart
        server.kill()
        server.start()
        sim.machine("node").disk.faults.plan(Fault("list_directory"))
        await asyncio.sleep(1)
        assert not server.is_serving
        assert server.start_error is not None
        assert "EIO" in str(server.start_error)
        assert server.needs_restart

    play(script)

import asyncio
import threading

from ottla.base.world import Clock, Disk, Network, Offload, Rng
from ottla.host.reactor import close_world, real_world


def test_a_world_has_every_part_and_closing_it_leaves_nothing(place):
    before = threading.enumerate()

    async def test():
        async with place() as here:
            world = here.world
            clock: Clock = world.clock
            rng: Rng = world.rng
            disk: Disk = world.disk
            network: Network = world.network
            offload: Offload = world.offload
            assert clock.monotonic() <= here.loop.time()
            assert rng.randbytes(16) != real_world(here.loop).rng.randbytes(16)
            assert disk.exists("/")
            called = here.loop.create_future()
            offload.submit(lambda: 1, lambda result, error: called.set_result(result))
            assert await called == 1
            sock, peer = await here.pair()
            listener = network.listen("127.0.0.1", 0, here.accept)
            close_world(world)
            assert await here.read_to_end(sock) == b""
            await peer.until(lambda p: p.causes)
            here.listener = listener
            try:
                await here.dial()
                raise AssertionError("it still listens")
            except ConnectionRefusedError:
                pass
            assert not [t for t in threading.enumerate() if t not in before]

    asyncio.run(test())

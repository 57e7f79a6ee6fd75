"""The real world of one node: its loop is the reactor, the rest hangs on it.

The loop must be asyncio's selector loop (the default on Linux and macOS): the network watches
sockets by `add_reader` and `add_writer`. A world belongs to the thread of its loop. Whoever made
it closes it there, when the node has stopped.
"""

import asyncio
import os
import random

from ottla.base.world import World
from ottla.host.clock import SystemClock
from ottla.host.disk import HostDisk
from ottla.host.network import HostNetwork
from ottla.host.offload import HostOffload


def real_world(loop: asyncio.AbstractEventLoop) -> World:
    """Clock, disk, network and threads of this machine for a node on `loop`."""
    offload = HostOffload(loop)
    return World(
        clock=SystemClock(),
        rng=_Random(),
        disk=HostDisk(),
        network=HostNetwork(loop, offload),
        offload=offload,
    )


class _Random(random.Random):
    """Seeds itself from the system's entropy; nonces and ids are drawn from that itself."""

    def randbytes(self, n: int) -> bytes:
        return os.urandom(n)


def close_world(world: World) -> None:
    """Close listeners and connections, and end the helper threads after their last call."""
    if isinstance(world.network, HostNetwork):
        world.network.close()
    if isinstance(world.offload, HostOffload):
        world.offload.close()

"""A whole node on a machine of the simulated world, and the store of metadata beside it.

    start       boot the machine, start the node in it; it serves when the start is through
    kill        SIGKILL: the page cache survives
    power_cut   what was not durable is lost
    stop        a clean stop, and then the end of the process

The metadata store outlives the process and the power: it plays the part that etcd has in a
cluster. A lease of it lives as long as the process that took it, as with the embedded store.
Whatever the node cannot go on after (a failed check, a handler that broke) ends the run.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from ottla.base.world import World
from ottla.broker.node import Node
from ottla.broker.settings import StartError, node_settings
from ottla.metadata import keys
from ottla.metadata.memory import MemoryKeep, MemoryStore
from ottla.metadata.store import LeaseId, Put, Store
from ottla.sim.content import CrashMode
from ottla.sim.disk import SimDisk
from ottla.sim.world import SimWorld

PORT = 9_092
INDEX_BYTES = str(64 << 10)
"""Room for an index is taken beforehand, and a simulated drive keeps every zero of it in memory."""
ENDLESS_MS = 1 << 40
LEASED = (keys.BROKERS, keys.CONTROLLER)
"""Keys of the store that belong to a process."""


class ProcessStore(MemoryStore):
    """One process's face of the store: its leases never run out while it lives."""

    def __init__(self, keep: MemoryKeep) -> None:
        super().__init__(keep)
        self.leases: list[LeaseId] = []

    async def grant(self, ttl_ms: int) -> LeaseId:
        lease = await super().grant(ENDLESS_MS)
        self.leases.append(lease)
        return lease


class Server:
    def __init__(
        self,
        sim: SimWorld,
        host: str,
        settings: Mapping[str, str],
    ) -> None:
        self.sim = sim
        self.host = host
        self.keep = MemoryKeep()
        self.is_serving = False
        self.start_error: StartError | None = None
        """Why the last start failed, if it did."""
        self._settings = node_settings(
            {
                "listeners": f"PLAINTEXT://{host}:{PORT}",
                "node.id": "1",
                "log.dirs": "/d",
                "log.index.size.max.bytes": INDEX_BYTES,
                **settings,
            }
        )
        self.on_boot: Callable[[SimDisk], None] = lambda disk: None
        """Sees the disk of each new process before the node does."""
        self._node: Node | None = None
        self._store: ProcessStore | None = None

    @property
    def is_up(self) -> bool:
        return self.sim.machine(self.host).is_up

    @property
    def node(self) -> Node | None:
        """The node, while it serves."""
        return self._node if self.is_serving else None

    @property
    def needs_restart(self) -> bool:
        """What an operator would restart it for: it did not start, a directory is offline, or a
        partition could not be made."""
        node = self.node
        if node is None:
            return self.start_error is not None
        replicas, image = node.services.replicas, node.services.cluster.image
        wanted = sum(len(topic.partitions) for topic in image.topics.values())
        return wanted != len(list(replicas)) or any(
            directory.log_dir.is_offline for directory in replicas.directories
        )

    def start(self) -> None:
        world = self.sim.boot(self.host)
        machine = self.sim.machine(self.host)
        self.start_error = None
        self.on_boot(machine.disk)
        machine.process.spawn(self._serve(world))

    async def _serve(self, world: World) -> None:
        self._node = Node(world, self._settings, on_failure=self._fail, open_store=self._open_store)
        try:
            await self._node.start()
        except StartError as error:
            self.sim.trace.note("start failed", self.host, str(error))
            self.start_error = error
        else:
            self.sim.trace.note("serving", self.host)
            self.is_serving = True

    async def _open_store(self, world: World, path: str) -> Store:
        self._store = ProcessStore(self.keep)
        return self._store

    def _fail(self, error: BaseException) -> None:
        self.sim.loop.failure = self.sim.loop.failure or error

    def kill(self) -> None:
        self.sim.kill(self.host)
        self._ended()

    def power_cut(self, mode: CrashMode | None = None) -> None:
        self.sim.power_cut(self.host, mode)
        self._ended()

    async def stop(self, within_s: float) -> bool:
        """Ask the node to stop, and end the process when it has or when the time is over;
        whether it had."""
        process = self.sim.machine(self.host).process
        node, self.is_serving = self.node, False
        has_stopped = False
        if node is not None:
            stopping = process.spawn(node.stop())
            await asyncio.wait([stopping], timeout=within_s)
            has_stopped = stopping.done()
            if has_stopped:
                with suppress(OSError):
                    stopping.result()
        self.kill()
        return has_stopped

    def _ended(self) -> None:
        """What the process held of the store goes, as the kernel drops its file lock."""
        self.is_serving = False
        store, self._store, self._node = self._store, None, None
        if store is not None:
            self.keep.faces = [face for face in self.keep.faces if face is not store]
            for lease in store.leases:
                self.keep.revoke(lease)

    # ---- images of the store

    def metadata(self) -> list[Put]:
        """What the store holds, but for what belongs to a process."""
        entries = self.keep.under("")
        return [
            Put(key, entry.value) for key, entry in entries.items() if not key.startswith(LEASED)
        ]

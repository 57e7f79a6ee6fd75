"""The log directories of a node whose store lies elsewhere: a disk that is not mounted is not
taken for a new broker."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ottla.base.world import World
from ottla.broker.node import Node
from ottla.broker.settings import StartError, node_settings
from ottla.host.reactor import close_world, real_world
from ottla.metadata import keys
from ottla.metadata.directories import known_directories
from ottla.metadata.memory import MemoryKeep, MemoryStore
from ottla.metadata.store import Put, Store


class Elsewhere:
    """A store that outlives nodes, whatever becomes of their disks."""

    def __init__(self) -> None:
        self.writes: list[Put] = []

    def start(
        self, *dirs: Path, then: Callable[[Node], Awaitable[None]] | None = None, **settings: str
    ) -> None:
        asyncio.run(self._start(dirs, then, settings))

    async def _start(
        self,
        dirs: tuple[Path, ...],
        then: Callable[[Node], Awaitable[None]] | None,
        settings: dict[str, str],
    ) -> None:
        keep = MemoryKeep()
        keep.write(self.writes)
        texts = {
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "log.dirs": ",".join(map(str, dirs)),
            **settings,
        }

        async def open_store(world: World, path: str) -> Store:
            return MemoryStore(keep)

        world = real_world(asyncio.get_running_loop())
        node = Node(world, node_settings(texts), on_failure=_fail, open_store=open_store)
        try:
            await node.start()
            if then is not None:
                await then(node)
            await node.stop()
        finally:
            close_world(world)
            leased = (keys.BROKERS, keys.CONTROLLER)
            self.writes = [
                Put(key, entry.value)
                for key, entry in keep.under("").items()
                if not key.startswith(leased)
            ]


def _fail(error: BaseException) -> None:
    raise error


async def make_topic(node: Node) -> None:
    await node.services.controller.create_topic("t", partitions=1, replication_factor=1)


def test_the_only_directory_is_missing(tmp_path: Path) -> None:
    store, data = Elsewhere(), tmp_path / "data"
    store.start(data, then=make_topic)
    data.rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(StartError, match=r"data has no meta.properties.* is missing: is its"):
            store.start(data)
        assert [path.name for path in data.iterdir()] == [".lock"]
    shutil.rmtree(data)
    (tmp_path / "elsewhere").rename(data)

    async def is_there(node: Node) -> None:
        assert node.services.replicas.leader_of("t", 0)

    store.start(data, then=is_there)


def test_a_node_of_the_cluster_that_is_new(tmp_path: Path) -> None:
    """It is of the store's cluster, and what another node lacks is nothing to it."""
    store = Elsewhere()
    store.start(tmp_path / "one", then=make_topic)
    shutil.rmtree(tmp_path / "one")
    store.start(tmp_path / "two", **{"node.id": "2"})
    [cluster] = [put for put in store.writes if put.key == keys.CLUSTER]
    meta = (tmp_path / "two" / "meta.properties").read_text()
    assert f"cluster.id={keys.content_of(cluster.value)['id']}\nnode.id=2\n" in meta


def test_a_crash_between_the_first_directory_and_the_second(tmp_path: Path) -> None:
    """Of a first start: nothing is in them, and nothing is missing."""
    store, one, two = Elsewhere(), tmp_path / "one", tmp_path / "two"
    store.start(one)
    store.writes = [put for put in store.writes if not put.key.startswith(keys.DIRECTORIES)]
    store.writes = [put for put in store.writes if put.key != keys.ADOPTED]
    store.start(one, two)
    assert (two / "meta.properties").exists()


def test_the_store_remembers_where_directories_are(tmp_path: Path) -> None:
    store, one, two = Elsewhere(), tmp_path / "one", tmp_path / "two"
    paths: list[list[str]] = []

    async def look(node: Node) -> None:
        store = node.services.cluster.store
        paths.append(sorted((await known_directories(store, node.node_id)).values()))

    store.start(one, two, then=look)
    two.rename(tmp_path / "three")
    store.start(one, tmp_path / "three", then=look)
    store.start(one, then=look)
    assert paths == [[str(one), str(two)], [str(one), str(tmp_path / "three")], [str(one)]]


def test_what_the_store_has_of_them_cannot_be_read(tmp_path: Path) -> None:
    store = Elsewhere()
    store.start(tmp_path)
    for content in (b"[]", b'{"x":"y"}', b"\xff"):
        store.writes = [
            Put(each.key, content) if each.key.startswith(keys.DIRECTORIES) else each
            for each in store.writes
        ]
        with pytest.raises(StartError, match="directories/1"):
            store.start(tmp_path)

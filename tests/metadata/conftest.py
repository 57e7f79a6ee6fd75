"""A world of just what the metadata room asks for: lock files and helper threads."""

import asyncio
import fcntl
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.base.world import World
from ottla.metadata.embedded_store import EmbeddedStore
from ottla.metadata.memory import MemoryKeep, MemoryStore
from ottla.metadata.store import Store


class FileLock:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        os.close(self._descriptor)


class LockDisk:
    def lock(self, path: str) -> FileLock:
        return FileLock(path)


class ThreadOffload:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(3)

    def submit(self, call: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                result, error = call(), None
            except BaseException as failure:
                result, error = None, failure
            loop.call_soon_threadsafe(done, result, error)

        self._threads.submit(run)

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture
def world() -> Any:
    offload = ThreadOffload()
    yield World(None, random.Random(1), LockDisk(), None, offload)  # type: ignore[arg-type]
    offload.close()


class Kind:
    """One twin of the store: opens faces of the same content, again and again."""

    def __init__(self, name: str, open_store: Callable[..., Awaitable[Store]]) -> None:
        self.name = name
        self.open_store = open_store

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        store = await self.open_store()
        try:
            yield store
        finally:
            await store.close()


def kind_of(name: str, world: World, directory: Path, **options: Any) -> Kind:
    if name == "memory":
        options.pop("poll_ms", None)
        keep = MemoryKeep(**options)

        async def open_memory() -> Store:
            return MemoryStore(keep)

        return Kind(name, open_memory)

    async def open_embedded() -> Store:
        return await EmbeddedStore.open(world, str(directory / "metadata.db"), **options)

    return Kind(name, open_embedded)


@pytest.fixture(params=["memory", "embedded"])
def kind_in(request: pytest.FixtureRequest, world: World) -> Any:
    """Like `make_kind`, in a directory that the test chooses."""

    def make(directory: Path) -> Kind:
        return kind_of(request.param, world, directory)

    return make


@pytest.fixture(params=["memory", "embedded"])
def make_kind(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Any:
    def make(**options: Any) -> Kind:
        return kind_of(request.param, world, tmp_path, **options)

    return make


@pytest.fixture
def kind(make_kind: Any) -> Kind:
    return make_kind()

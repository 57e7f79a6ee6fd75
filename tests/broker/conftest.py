"""A real node, whose handlers are asked in process: through the codecs, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ottla.base.world import FileRange
from ottla.broker.context import RequestContext
from ottla.broker.node import Node
from ottla.broker.registry import endpoint_of
from ottla.broker.settings import node_settings
from ottla.host.reactor import close_world, real_world
from ottla.protocol.framing import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from ottla.protocol.message import Request
from ottla.protocol.registry import advertised
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.replica.partition import Partition
from ottla.replica.purgatory import Parked
from ottla.security.authorizer import NOBODY
from ottla.storage.flusher import Flusher


class Peer:
    peer, local, unsent_bytes = "127.0.0.1:50000", "127.0.0.1:9092", 0


class Asked:
    """The node that a test asks."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.requester = NOBODY
        self.parked: Parked | None = None
        """The last request that parked."""

    @property
    def services(self) -> Any:
        return self.node.services

    @property
    def image(self) -> Any:
        return self.services.cluster.image

    async def ask(self, request: Request, version: int | None = None) -> Any:
        """The response as a client of that version (the highest that is advertised) reads it."""
        return await self.begin(request, version)

    def begin(self, request: Request, version: int | None = None) -> "asyncio.Future[Any]":
        """Hand the request to its handler now, as a connection does; its answer comes when it
        does. The frame is spoilt when the handler has returned: nobody may keep a view of it."""
        key = request.__api__
        if version is None:
            version = advertised(key)[1]
        frame = bytearray(b"".join(bytes(p) for p in encode_request(7, "test", version, request)))
        header, received = decode_request(memoryview(frame)[4:])
        context = RequestContext(self.services, version, header.client_id, Peer(), self.requester)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def complete(response: Any) -> None:
            parts = encode_response(key, version, 7, response) if response else []
            answer.set_result(_read(key, version, parts) if parts else None)

        outcome = endpoint_of(key).handler(context, received)
        frame[:] = b"\xff" * len(frame)
        if isinstance(outcome, Parked):
            self.parked = outcome
            outcome.on_complete = complete
        elif asyncio.iscoroutine(outcome):
            task = asyncio.ensure_future(outcome)
            task.add_done_callback(
                lambda done: (
                    answer.set_exception(done.exception())
                    if done.exception()
                    else complete(done.result())
                )
            )
        else:
            complete(outcome)
        return answer

    async def topic(self, name: str, partitions: int = 1, **configs: str) -> Any:
        """Make a topic; `cleanup_policy="compact"` is its cleanup.policy."""
        return await self.services.controller.create_topic(
            name,
            partitions=partitions,
            replication_factor=1,
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )

    async def produce(self, topic: str, count: int, index: int = 0, **options: Any) -> Any:
        """Append one batch of records and wait until it is flushed; the partition."""
        partition = self.services.replicas.leader_of(topic, index)
        now_ms = self.services.world.clock.time_ms()
        records = [Record(n, now_ms, None, b"v%d" % n) for n in range(count)]
        batch = build_batch(records, **options)
        partition.append(memoryview(bytearray(batch)), acks_all=True, now_ms=now_ms, version=9)
        await self.flushed(partition)
        return partition

    async def flushed(self, partition: Partition) -> None:
        """Return when everything in the partition is below its high watermark."""
        while partition.high_watermark < partition.log.log_end_offset:
            await asyncio.sleep(0)


def _read(key: int, version: int, parts: Any) -> Any:
    """The response in these parts, as its client reads it."""
    data = b"".join(
        part.file.pread(part.length, part.position) if isinstance(part, FileRange) else bytes(part)
        for part in parts
    )
    correlation_id, answer = decode_response(key, version, memoryview(data)[4:])
    assert correlation_id == 7
    return answer


async def _run(
    test: Callable[[Asked], Awaitable[None]], directory: Path, settings: dict[str, str], dirs: int
) -> None:
    world = real_world(asyncio.get_running_loop())
    failures: list[BaseException] = []
    paths = [str(directory / f"logs-{number}") for number in range(dirs)]
    texts = {"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": ",".join(paths), **settings}
    node = Node(world, node_settings(texts), on_failure=failures.append)
    try:
        await node.start()
        await test(Asked(node))
        await node.stop()
    finally:
        close_world(world)
    assert not failures


@pytest.fixture
def on_node(tmp_path: Path) -> Any:
    """Run a coroutine function of an `Asked` on a node of its own: `on_node(test, settings)`."""

    def run(
        test: Callable[[Asked], Awaitable[None]],
        settings: dict[str, str] | None = None,
        *,
        log_dirs: int = 1,
        directory: Path = tmp_path,
    ) -> None:
        asyncio.run(_run(test, directory, settings or {}, log_dirs))

    return run


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Flushes wait while `with flushes.held():` lasts; what became dirty is flushed behind it."""
    return Flushes(monkeypatch)


class Flushes:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    @contextmanager
    def held(self) -> Iterator[None]:
        held: dict[Flusher, None] = {}
        with self._monkeypatch.context() as patched:
            patched.setattr(Flusher, "kick", lambda flusher: held.setdefault(flusher))
            yield
        for flusher in held:
            flusher.kick()

"""A real node, whose handlers are asked in process: through the codecs, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

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


class Peer:
    peer, local, unsent_bytes = "127.0.0.1:50000", "127.0.0.1:9092", 0


class Asked:
    """The node that a test asks."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def services(self) -> Any:
        return self.node.services

    @property
    def image(self) -> Any:
        return self.services.cluster.image

    async def ask(self, request: Request, version: int | None = None) -> Any:
        """The response as a client of that version (the highest that is advertised) reads it."""
        key = request.__api__
        if version is None:
            version = advertised(key)[1]
        frame = b"".join(bytes(part) for part in encode_request(7, "test", version, request))
        header, received = decode_request(memoryview(bytearray(frame[4:])))
        context = RequestContext(self.services, version, header.client_id, Peer())
        response = endpoint_of(key).handler(context, received)
        if asyncio.iscoroutine(response):
            response = await response
        parts = b"".join(bytes(part) for part in encode_response(key, version, 7, response))
        correlation_id, answer = decode_response(key, version, memoryview(parts)[4:])
        assert correlation_id == 7
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
        while partition.high_watermark < partition.log.log_end_offset:
            await asyncio.sleep(0)
        return partition


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

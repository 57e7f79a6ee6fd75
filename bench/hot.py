"""The hot path in process: frames into `Session.received`, replies out of a connection that
keeps nothing, over a real node and a real disk. What is left out is the socket.

Prints microseconds of CPU per request, the best of several rounds; with `--profile` the
functions behind it. `# hot:` marks in the source name this benchmark's two figures.
"""

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ottla.broker.node import Node
from ottla.broker.pipeline import Session
from ottla.broker.settings import node_settings
from ottla.host.reactor import close_world, real_world
from ottla.protocol.framing import encode_request
from ottla.protocol.message import Request
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record

REQUESTS: Final = 20_000
PIPELINED: Final = 8
ROUNDS: Final = 5
TOPIC: Final = "hot"


class Sink:
    """A connection that takes every reply and forgets it."""

    peer = local = "bench:0"
    unsent_bytes = 0

    def send(self, parts: Any) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None:
        raise RuntimeError("the broker closed the connection")


def frame(version: int, request: Request) -> bytes:
    return b"".join(bytes(part) for part in encode_request(1, "bench", version, request))  # type: ignore[arg-type]


def produce_frame() -> bytes:
    batch = bytes(build_batch([Record(0, int(time.time() * 1000), None, b"x" * 100)]))
    data = [PartitionProduceData(index=0, records=batch)]
    topics = [TopicProduceData(name=TOPIC, partition_data=data)]
    return frame(9, ProduceRequest(acks=1, timeout_ms=30_000, topic_data=topics))


def fetch_frame() -> bytes:
    partitions = [FetchPartition(partition=0, fetch_offset=100, partition_max_bytes=16_384)]
    topics = [FetchTopic(topic=TOPIC, partitions=partitions)]
    return frame(12, FetchRequest(max_wait_ms=500, min_bytes=1, max_bytes=16_384, topics=topics))


async def send(session: Session, one: bytes, count: int) -> None:
    for number in range(count // PIPELINED):
        session.received(memoryview(bytearray(one * PIPELINED)))
        if number % 4 == 0:
            await asyncio.sleep(0)


async def best(run: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of this thread's CPU per request."""
    figures = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        await run()
        figures.append((time.thread_time() - began) / REQUESTS * 1e6)
    return min(figures)


async def measure(flush_on_ack: str, *, profile: bool) -> None:
    world = real_world(asyncio.get_running_loop())
    with tempfile.TemporaryDirectory() as data:
        texts = {"log.dirs": data, "listeners": "PLAINTEXT://127.0.0.1:0"}
        node = Node(world, node_settings(texts | {"flush.on.ack": flush_on_ack}), on_failure=print)
        await node.start()
        await node.services.controller.create_topic(TOPIC, partitions=1, replication_factor=1)
        session = Session(Sink(), frame_cap=1 << 27, stop_node=print, forget=lambda _: None)  # type: ignore[arg-type]
        session.serve(node.services)
        for name, one in (("produce", produce_frame()), ("fetch", fetch_frame())):

            async def run(one: bytes = one) -> None:
                await send(session, one, REQUESTS)

            figure = await best(run)
            print(f"{name:8} flush.on.ack={flush_on_ack:5} {figure:6.1f} us a request")
            if profile:
                with cProfile.Profile() as profiler:
                    await run()
                pstats.Stats(profiler).sort_stats("tottime").print_stats(20)
        await node.stop()
        close_world(world)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench hot", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args(arguments)
    for flush_on_ack in ("true", "false"):
        asyncio.run(measure(flush_on_ack, profile=chosen.profile))
    return 0

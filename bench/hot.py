"""The hot path in process: frames into `Session.received`, replies out of a connection that
keeps nothing, over a real node and a real disk. What is left out is the socket.

Prints microseconds of CPU per request, the best of several rounds; with `--profile` the
functions behind it. The Fetch begins anew at one offset among batches of one record: its two
ends are found by the index and some 25 headers behind it, which is most of its time; who reads
on from where the last read ended looks for one end alone. Then what it costs a Produce that
every record is walked (`record.validation=deep`), by codec and size. `# hot:` marks in the
source name these figures.
"""

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
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
from ottla.records.compression import CODEC_NUMBERS
from ottla.records.kernel import IS_COMPILED
from ottla.records.record import Record

REQUESTS: Final = 20_000
PIPELINED: Final = 8
ROUNDS: Final = 5
TOPIC: Final = "hot"
TEXT: Final = b"The quick brown fox jumps over the lazy dog. And then it does so once again."
BATCHES: Final = ((1, "none"), (100, "none"), (1_000, "none"), (1_000, "lz4"), (1_000, "zstd"))
"""(records, codec) of what is walked."""
WALKED_BYTES: Final = 20 << 20
"""So much is sent for each figure, or `REQUESTS`, whichever is less."""


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


def produce_frame(topic: str = TOPIC, count: int = 1, codec: int = 0) -> bytes:
    """Of values of 100 bytes, which a codec packs to about a fourth."""
    now_ms = int(time.time() * 1000)
    noise = Random(1)
    values = [noise.randbytes(12).hex().encode() + TEXT for _ in range(count)]
    records = [Record(n, now_ms, None, value) for n, value in enumerate(values)]
    data = [PartitionProduceData(index=0, records=bytes(build_batch(records, codec=codec)))]
    topics = [TopicProduceData(name=topic, partition_data=data)]
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


async def best(run: Callable[[], Awaitable[None]], requests: int = REQUESTS) -> float:
    """Microseconds of this thread's CPU per request."""
    return min([await timed(run, requests) for _ in range(ROUNDS)])


async def timed(run: Callable[[], Awaitable[None]], requests: int) -> float:
    began = time.thread_time()
    await run()
    return (time.thread_time() - began) / requests * 1e6


@asynccontextmanager
async def session_of(settings: dict[str, str]) -> AsyncIterator[tuple[Node, Session]]:
    """A node, and a session of it that has no connection."""
    world = real_world(asyncio.get_running_loop())
    with tempfile.TemporaryDirectory() as data:
        texts = {"log.dirs": data, "listeners": "PLAINTEXT://127.0.0.1:0"}
        node = Node(world, node_settings(texts | settings), on_failure=print)
        await node.start()
        session = Session(Sink(), frame_cap=1 << 27, stop_node=print, forget=lambda _: None)  # type: ignore[arg-type]
        session.serve(node.services)
        yield node, session
        await node.stop()
        close_world(world)


async def measure_walk() -> None:
    print(f"the record kernel is {'compiled' if IS_COMPILED else 'pure'}")
    async with session_of({"log.segment.bytes": str(16 << 20), "log.retention.bytes": "1"}) as (
        node,
        session,
    ):
        for validation in ("header", "deep"):
            await node.services.controller.create_topic(
                validation,
                partitions=1,
                replication_factor=1,
                configs={"record.validation": validation},
            )
        for count, codec in BATCHES:
            frames = {
                name: produce_frame(name, count, CODEC_NUMBERS[codec])
                for name in ("header", "deep")
            }
            requests = min(REQUESTS, WALKED_BYTES // len(frames["deep"]) // PIPELINED * PIPELINED)
            figures: dict[str, list[float]] = {"header": [], "deep": []}
            for _ in range(ROUNDS):
                for name, one in frames.items():

                    async def run(one: bytes = one, requests: int = requests) -> None:
                        await send(session, one, requests)

                    figures[name].append(await timed(run, requests))
            header, deep = min(figures["header"]), min(figures["deep"])
            print(
                f"produce  {count:5} records {codec:5} {len(frames['deep']):7,} B "
                f"{header:7.1f} us, walked {deep:7.1f} us: {deep / header - 1:+.1%}"
            )


async def measure(flush_on_ack: str, *, profile: bool) -> None:
    async with session_of({"flush.on.ack": flush_on_ack}) as (node, session):
        await node.services.controller.create_topic(TOPIC, partitions=1, replication_factor=1)
        for name, one in (("produce", produce_frame()), ("fetch", fetch_frame())):

            async def run(one: bytes = one) -> None:
                await send(session, one, REQUESTS)

            figure = await best(run)
            print(f"{name:8} flush.on.ack={flush_on_ack:5} {figure:6.1f} us a request")
            if profile:
                with cProfile.Profile() as profiler:
                    await run()
                pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench hot", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args(arguments)
    for flush_on_ack in ("true", "false"):
        asyncio.run(measure(flush_on_ack, profile=chosen.profile))
    asyncio.run(measure_walk())
    return 0

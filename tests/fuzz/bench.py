"""A node under fuzz, in process: frames go into a Session by a connection without a socket.

What must hold of every input, whatever its bytes (`Bench.give` raises Failed where it does not):
- it ends as a closed connection with exactly one log line that names the peer, as an answer that
  parses and carries the input's correlation id, or in silence (acks=0, an unfinished frame);
- no handler breaks: no line of level error, no traceback, nothing in the loop's handler of
  exceptions, no stop of the node;
- no view into the received bytes is kept;
- it does not hold the loop for longer than HOLD_S, nor stay unfinished for longer than PATIENCE_S.
"""

import asyncio
import io
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from struct import Struct
from typing import Any, Final, NamedTuple

from ottla.broker.apis import create_partitions, create_topics
from ottla.broker.node import Node
from ottla.broker.pipeline import Session
from ottla.broker.settings import node_settings
from ottla.host.reactor import close_world, real_world
from ottla.metadata import placement
from ottla.protocol.framing import decode_response
from ottla.protocol.registry import APIS, ApiKey
from ottla.records.builder import build_batch
from ottla.records.record import Record
from tests.fuzz.valid import COMPACTED, TOPIC, joined

PEER: Final = "127.0.0.1:50000"
FRAME_CAP: Final = 1 << 20
HOLD_S: Final = 1.0
"""Of the processor, not of the clock: what else runs on the machine does not count."""
PATIENCE_S: Final = 60.0
TURN_S: Final = 0.1
"""Most of one turn of the loop that counts as waiting: a machine that was suspended did not."""
UNFINISHED_COUNT: Final = 64
"""Inputs that may wait for a flush or a task before the loop gets its turn."""
POISON: Final = 0xDB
PARTITIONS_PER_REQUEST: Final = 300
HEAD: Final = Struct(">ihhi")


class Failed(AssertionError):
    """An input did what none may do."""

    def __init__(self, cause: str, sent: bytes) -> None:
        super().__init__(f"{cause}\ninput ({len(sent)} bytes): {sent.hex()}")
        self.cause = cause
        self.sent = sent


class FakeConnection:
    """What a Session talks to: keeps what is sent, holds on to an unfinished tail."""

    local = "127.0.0.1:9092"

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str = PEER) -> None:
        self.loop = loop
        self.peer = peer
        self.session: Session
        self.sent = bytearray()
        self.unsent_bytes = 0
        self.tail = b""
        self.is_paused = False
        self.is_closed = False
        self.held_s = 0.0
        self.forbids_views = True

    def give(self, data: bytes) -> None:
        """Bytes arrive; what is used up is forgotten and overwritten, as the scratch is."""
        self.tail += data
        if self.is_paused or self.is_closed:
            return
        buffer = bytearray(self.tail)
        view = memoryview(buffer)
        start = time.thread_time()
        used = self.session.received(view)
        self.held_s = max(self.held_s, time.thread_time() - start)
        view.release()
        assert 0 <= used <= len(buffer), f"{used} of {len(buffer)} bytes were used"
        self.tail = bytes(buffer[used:])
        buffer[:] = bytes([POISON]) * len(buffer)
        if not self.forbids_views:
            return
        try:
            buffer.clear()
        except BufferError:
            raise AssertionError("a view into the received bytes was kept") from None

    def send(self, parts: Sequence[Any]) -> None:
        if not self.is_closed:
            self.sent += joined(list(parts))

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        if self.is_paused and not self.is_closed:
            self.is_paused = False
            self.loop.call_soon(self._resumed)

    def _resumed(self) -> None:
        if self.tail:
            self.give(b"")

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.loop.call_soon(self.session.lost, "closed")

    def frames(self) -> list[bytes]:
        """The answers so far, each without its size."""
        found, at = [], 0
        while at < len(self.sent):
            end = at + 4 + int.from_bytes(self.sent[at : at + 4], "big")
            assert end <= len(self.sent), "half an answer was sent"
            found.append(bytes(self.sent[at + 4 : end]))
            at = end
        return found


class Line(NamedTuple):
    is_error: bool
    message: str
    text: str
    """The message and the traceback, if there is one."""

    def is_about(self, connection: FakeConnection) -> bool:
        return self.message.startswith(f"{connection.peer}: ")


class Lines(logging.Handler):
    """What the broker logs, as texts: a record that is kept keeps the frames of its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        is_error = record.levelno > logging.WARNING
        self.lines.append(Line(is_error, record.getMessage(), self.format(record)))


class Bench:
    """A running node, and what came of the inputs it was given."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop, lines: Lines) -> None:
        self.node = node
        self.counts: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.slowest = b""
        self.topic_id = self._topic_id()
        self._loop = loop
        self._lines = lines
        self._unfinished: list[tuple[FakeConnection, bytes]] = []
        self._connection_count = 0
        self._faults: list[str] = []
        loop.set_exception_handler(self._loop_failed)

    def _topic_id(self) -> bytes:
        return bytes(self.node.services.cluster.image.topics[TOPIC].id)

    @property
    def partition_count(self) -> int:
        return sum(len(each) for each in self.node.services.replicas.directories)

    def _loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._faults.append(f"loop: {context['message']}: {context.get('exception')!r}")

    def stopped(self, error: BaseException) -> None:
        self._faults.append(f"the node stops: {error!r}")

    def connect(self) -> FakeConnection:
        self._connection_count += 1
        connection = FakeConnection(self._loop, f"peer-{self._connection_count}:1")
        connection.session = Session(
            connection, frame_cap=FRAME_CAP, stop_node=self.stopped, forget=lambda _: None
        )
        connection.session.serve(self.node.services)
        return connection

    async def give(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        """One input on a connection of its own, cut at `cuts`. Failed where it may not do that."""
        connection = self.connect()
        self.counts["inputs"] += 1
        try:
            for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                connection.give(data[start:end])
        except Exception as error:
            raise Failed(f"{type(error).__name__}: {error}", data) from error
        if not self._settle(connection, data):
            self._unfinished.append((connection, data))
            if len(self._unfinished) >= UNFINISHED_COUNT:
                await self.finish()

    async def finish(self) -> None:
        """Wait until everything given so far has come to an end; make good what it deleted."""
        waiting, self._unfinished = self._unfinished, []
        waited_s, turn = 0.0, self._loop.time()
        for connection, _ in waiting:
            connection.session.finish()
        while waiting:
            await asyncio.sleep(0)
            waiting = [each for each in waiting if not self._settle(*each)]
            now = self._loop.time()
            waited_s, turn = waited_s + min(now - turn, TURN_S), now
            if waiting and waited_s > PATIENCE_S:
                raise Failed(f"unfinished after {PATIENCE_S} s; {stacks()}", waiting[0][1])
        if self._lines.lines:
            texts = [line.text for line in self._lines.lines]
            self._lines.lines.clear()
            raise Failed(f"log lines about no input: {texts}", b"")
        await settle_topics(self.node)
        self.topic_id = self._topic_id()

    def _settle(self, connection: FakeConnection, data: bytes) -> bool:
        """Judge an input that came to its end; false while it has not."""
        self._judge_node(connection, data)
        if not connection.is_closed and not connection.session.is_idle:
            return False
        if connection.is_closed:
            self._judge_refusal(connection, data)
            outcome = "rejected"
        else:
            outcome = "answered" if connection.sent else "silent"
        self._judge_answers(connection, data)
        self.counts[outcome] += 1
        return True

    def _judge_node(self, connection: FakeConnection, data: bytes) -> None:
        if connection.held_s > self.slowest_s:
            self.slowest_s, self.slowest = connection.held_s, data
        faults, self._faults = self._faults, []
        faults += [
            line.text for line in self._lines.lines if line.is_error and line.is_about(connection)
        ]
        if connection.held_s > HOLD_S:
            faults.append(f"held the loop for {connection.held_s:.2f} s")
        if faults:
            raise Failed("; ".join(faults), data)

    def _judge_refusal(self, connection: FakeConnection, data: bytes) -> None:
        lines = [line for line in self._lines.lines if line.is_about(connection)]
        if len(lines) != 1 or "\n" in lines[0].text:
            texts = [line.text for line in self._lines.lines]
            raise Failed(f"closed with {len(lines)} log lines; the last lines: {texts}", data)
        self._lines.lines.remove(lines[0])

    def _judge_answers(self, connection: FakeConnection, data: bytes) -> None:
        asked = heads(data)
        try:
            for answer in connection.frames():
                key, version, correlation_id = next(asked)
                while correlation_id != int.from_bytes(answer[:4], "big", signed=True):
                    assert key == ApiKey.PRODUCE, "an answer was skipped"  # acks=0
                    key, version, correlation_id = next(asked)
                if not APIS[key].first <= version <= APIS[key].last:
                    version = 0  # of ApiVersions: answered in version 0
                decode_response(key, version, memoryview(answer))
        except Exception as error:
            raise Failed(f"bad answer: {type(error).__name__}: {error}", data) from error


def heads(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(api key, version, correlation id) of each frame of an input."""
    at = 0
    while at + 12 <= len(data):
        size, key, version, correlation_id = HEAD.unpack_from(data, at)
        yield key, version, correlation_id
        at += 4 + size


def stacks() -> str:
    """Where every task of this loop stands."""
    text = io.StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=text)
    return text.getvalue()


async def settle_topics(node: Node) -> None:
    """Make what the valid requests name."""
    for name, configs in ((TOPIC, {}), (COMPACTED, {"cleanup.policy": "compact"})):
        if name not in node.services.cluster.image.topics:
            await node.services.controller.create_topic(
                name, partitions=1, replication_factor=1, configs=configs
            )


def batch(count: int = 1, **options: Any) -> bytearray:
    """A valid record batch of now."""
    now_ms = int(time.time() * 1000)
    records = [Record(n, now_ms, b"k%d" % n, b"value %d" % n) for n in range(count)]
    return build_batch(records, **options)


@asynccontextmanager
async def running_node(
    directory: Path,
    *,
    seed: int = 1,
    settings: dict[str, str] | None = None,
    on_failure: Callable[[BaseException], None] = lambda error: None,
) -> AsyncIterator[Node]:
    """A node in this loop, with the fuzzed topics."""
    world = replace(real_world(asyncio.get_running_loop()), rng=Random(seed))
    texts = {
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(directory),
        "log.segment.bytes": str(1 << 20),
        "offsets.topic.num.partitions": "2",
        # So that the requests of ACLs get deep, and what they make denies nothing.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        **(settings or {}),
    }
    node = Node(world, node_settings(texts), on_failure=on_failure)
    try:
        await node.start()
        await settle_topics(node)
        await node.services.groups.make_topic()
        yield node
        await node.stop()
    finally:
        close_world(world)


@asynccontextmanager
async def _shrunk_limits() -> AsyncIterator[None]:
    """One request may make so many partitions that the rest of a round is spent on them."""
    modules = (placement, create_topics, create_partitions)
    before = [module.PARTITIONS_PER_REQUEST for module in modules]  # type: ignore[attr-defined]
    try:
        for module in modules:
            module.PARTITIONS_PER_REQUEST = PARTITIONS_PER_REQUEST  # type: ignore[attr-defined]
        yield
    finally:
        for module, count in zip(modules, before, strict=True):
            module.PARTITIONS_PER_REQUEST = count  # type: ignore[attr-defined]


@asynccontextmanager
async def fuzz_bench(directory: Path, seed: int = 1) -> AsyncIterator[Bench]:
    """A bench over a node of its own."""
    lines = Lines()
    logger = logging.getLogger("ottla")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(lines)
    failures: list[BaseException] = []
    try:
        async with (
            _shrunk_limits(),
            running_node(directory, seed=seed, on_failure=failures.append) as node,
        ):
            bench = Bench(node, asyncio.get_running_loop(), lines)
            yield bench
            await bench.finish()
            if failures:
                raise Failed(f"the node failed: {failures[0]!r}", b"")
    finally:
        logger.removeHandler(lines)
        logger.propagate = propagate

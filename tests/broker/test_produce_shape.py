"""A Produce that is recognised does and answers, byte for byte, what one that is decoded does."""

import asyncio
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.base.ids import ZERO_UUID
from ottla.broker.node import Node
from ottla.broker.pipeline import Session
from ottla.broker.produce_shape import LENGTHS_MAX, SHAPES_MAX, ProduceShapes, Shape
from ottla.broker.settings import node_settings
from ottla.host.reactor import close_world, real_world
from ottla.protocol.framing import encode_request
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.security.authorizer import NOBODY

VERSIONS = range(3, 14)
NOW_MS = 1_700_000_000_000


class Sink:
    """A connection that keeps the answers that are sent, one by one."""

    peer, local, unsent_bytes = "127.0.0.1:50000", "127.0.0.1:9092", 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_closed = False

    def send(self, parts: Any) -> None:
        rest = b"".join(bytes(part) for part in parts)
        while rest:
            size = 4 + int.from_bytes(rest[:4], "big")
            self.sent.append(rest[:size])
            rest = rest[size:]

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class Both:
    """Two partitions of the same kind, one reached with shapes and one without."""

    def __init__(self, node: Node, topic_id: bytes = ZERO_UUID) -> None:
        self.node = node
        self.topic_id = topic_id
        self.sink = Sink()
        self.session = Session(
            self.sink,  # type: ignore[arg-type]
            frame_cap=1 << 20,
            stop_node=lambda error: None,
            forget=lambda session: None,
        )
        self.session.serve(node.services)

    def send(self, frame: bytes) -> None:
        assert self.session.received(memoryview(bytearray(frame))) == len(frame)

    async def answers(self, count: int) -> list[bytes]:
        while len(self.sink.sent) < count and not self.sink.is_closed:
            await asyncio.sleep(0)
        return self.sink.sent


def batch(values: list[bytes], **options: Any) -> bytes:
    records = [Record(at, NOW_MS, None, value) for at, value in enumerate(values)]
    return bytes(build_batch(records, **options))


def frame(version: int, number: int, records: bytes, acks: int, topic_id: bytes) -> bytes:
    data = [PartitionProduceData(index=0, records=records)]
    topic = TopicProduceData(name="t", topic_id=topic_id, partition_data=data)
    request = ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[topic])
    return b"".join(bytes(part) for part in encode_request(number, "me", version, request))


async def outcome(
    tmp_path: Path, name: str, version: int, acks: int, *, known: bool
) -> tuple[list[bytes], bytes, int]:
    """What a series of requests is answered, what the log holds, how many were recognised."""
    world = real_world(asyncio.get_running_loop())
    texts = {"log.dirs": str(tmp_path / name), "listeners": "PLAINTEXT://127.0.0.1:0"}
    node = Node(world, node_settings(texts), on_failure=lambda error: None)
    await node.start()
    topic = await node.services.controller.create_topic("t", partitions=1, replication_factor=1)
    both = Both(node, topic.id)
    taken = 0
    take = ProduceShapes.take

    def counted(shapes: ProduceShapes, *arguments: Any) -> Any:
        nonlocal taken
        if not known:
            return None
        found = take(shapes, *arguments)
        taken += found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProduceShapes, "take", counted)
        inputs = series(Random(version * 10 + acks), refused=acks != 0)
        for number, records in enumerate(inputs):
            both.send(frame(version, number, records, acks, topic.id))
        answers = await both.answers(len(inputs) if acks else 0)
        log = (tmp_path / name / "t-0" / "00000000000000000000.log").read_bytes()
    await node.stop()
    close_world(world)
    zero_id = bytes(16)
    return [answer.replace(topic.id, zero_id) for answer in answers], log, taken


def series(rng: Random, *, refused: bool) -> list[bytes]:
    """Batches of all sizes (the length of the length changes), some of which are refused."""
    made = []
    for sequence in range(40):
        good = batch([b"x" * rng.choice([0, 1, 10, 60, 130, 4_000, 17_000])] * rng.randrange(1, 3))
        made.append(good)
        if refused and sequence % 5 == 0:
            made.append(good[:-1] + bytes([good[-1] ^ 1]))
            made.append(good[:40])
            made.append(b"")
        if sequence % 7 == 0:
            twice = batch([b"once"], producer_id=5, producer_epoch=0, base_sequence=sequence // 7)
            made += [twice, twice]
    return made


@pytest.mark.parametrize("acks", [-1, 0, 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_recognised_and_decoded_are_the_same(tmp_path: Path, version: int, acks: int) -> None:
    async def main() -> None:
        answers, log, taken = await outcome(tmp_path, "with", version, acks, known=True)
        others, other_log, none = await outcome(tmp_path, "without", version, acks, known=False)
        assert taken > 40
        assert none == 0
        assert answers == others
        assert log == other_log
        assert len(log) > 10_000

    asyncio.run(main())


def frame_of_request(version: int, request: ProduceRequest) -> memoryview:
    parts = encode_request(1, "me", version, request)
    return memoryview(bytearray(b"".join(bytes(part) for part in parts)))[4:]


def shapes_of(*requests: tuple[int, ProduceRequest]) -> tuple[ProduceShapes, list[memoryview]]:
    shapes = ProduceShapes(SimpleNamespace(shapes_left=10_000), NOBODY)  # type: ignore[arg-type]
    frames = []
    for version, request in requests:
        one = frame_of_request(version, request)
        shapes.learn(one, version, request)
        frames.append(one)
    return shapes, frames


def request_of(name: str = "t", *, records: bytes = b"r" * 70, acks: int = 1) -> ProduceRequest:
    data = [PartitionProduceData(index=0, records=memoryview(records))]
    return ProduceRequest(
        acks=acks, timeout_ms=1, topic_data=[TopicProduceData(name=name, partition_data=data)]
    )


def test_what_is_not_learned() -> None:
    two = request_of()
    two.topic_data[0].partition_data *= 2
    topics = request_of()
    topics.topic_data *= 2
    shapes, _ = shapes_of((9, two), (9, topics), (9, request_of(acks=7)))
    assert not shapes._heads


@pytest.mark.parametrize("version", [8, 9])
def test_a_frame_with_anything_behind_the_records_is_not_taken(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, (one,) = shapes_of((version, request_of()))
    monkeypatch.setattr(ProduceShapes, "_append", lambda self, frame, shape, records: [])
    assert shapes.take(one, version) == []
    assert shapes.take(memoryview(bytes(one) + b"\0"), version) is None
    assert shapes.take(one[:-1], version) is None
    assert shapes.take(one, version - 1) is None
    tagged = bytes(one[:-1]) + b"\1"
    assert (shapes.take(memoryview(tagged), version) is None) == (version >= 9)


def test_shapes_are_bounded() -> None:
    shapes, _ = shapes_of(*[(9, request_of(f"topic-{n:04}")) for n in range(SHAPES_MAX + 10)])
    assert len(shapes._heads) == SHAPES_MAX
    assert shapes._services.shapes_left == 10_000 - SHAPES_MAX
    shapes.forget()
    assert shapes._services.shapes_left == 10_000
    lengths, _ = shapes_of(*[(9, request_of("t" * n)) for n in range(1, LENGTHS_MAX + 9)])
    assert len(lengths._lengths_at) == LENGTHS_MAX
    shapes._services.shapes_left = 0
    frame = frame_of_request(9, request_of())
    shapes.learn(frame, 9, request_of())
    assert not shapes._heads


def test_an_answer_has_the_offset_once() -> None:
    for version in VERSIONS:
        shape = Shape(version, request_of())
        assert shape.answer.count(shape.answer[shape.offsets_at : shape.offsets_at + 8]) == 1

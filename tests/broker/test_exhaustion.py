"""Strangers that want all of something: memory, connections, time. The broker runs in a process of
its own, whose memory is read; an honest client is served all the while.
"""

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from cramjam import snappy

from ottla.base.errors import ErrorCode
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.protocol.registry import ApiKey
from ottla.records.batch import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, read_header, seal_batch
from ottla.records.compression import GZIP, LZ4, SNAPPY, ZSTD, compress
from tests.fuzz.bench import batch
from tests.fuzz.valid import frame_of, sized
from tests.fuzz.wire import Raw, Served, served

MIB = 1 << 20
HELLO = ApiVersionsRequest(client_software_name="x", client_software_version="1")


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as one:
        yield one


class Honest:
    """A client that asks again and again while the block lasts, and is always answered."""

    def __init__(self, child: Served) -> None:
        self._raw = Raw(child.address)
        self._raw.ask(HELLO)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answered_count = 0
        self.failure: BaseException | None = None

    def _ask(self) -> None:
        try:
            while not self._is_over.wait(0.001):
                self._raw.ask(HELLO)
                self.answered_count += 1
        except BaseException as error:
            self.failure = error

    def __enter__(self) -> "Honest":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._raw.close()
        if error is None:
            assert self.failure is None
            assert self.answered_count


def make_topic(raw: Raw, name: str, **configs: str) -> None:
    topic = CreatableTopic(
        name=name,
        num_partitions=1,
        replication_factor=1,
        assignments=[],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
    )
    assert raw.ask(CreateTopicsRequest(topics=[topic])).topics[0].error_code == 0


def produce(raw: Raw, topic: str, records: Any) -> Any:
    data = TopicProduceData(
        name=topic, partition_data=[PartitionProduceData(index=0, records=records)]
    )
    request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data])
    return raw.ask(request, 9).responses[0].partition_responses[0]


# --- memory -----------------------------------------------------------------------------------


def test_memory_grows_with_what_came_not_with_what_is_claimed(child: Served) -> None:
    """Three hundred frames that claim 100 MiB each, and send a kilobyte of it."""
    before = child.resident_bytes()
    with ExitStack() as stack, Honest(child):
        for _ in range(300):
            raw = stack.enter_context(Raw(child.address))
            raw.send((100 * MIB).to_bytes(4, "big") + bytes(1_000))
        with Raw(child.address) as last:
            last.ask(HELLO)
        assert child.resident_bytes() - before < 16 * MIB


def test_half_sent_frames_of_all_stay_within_one_bound(tmp_path: Path) -> None:
    """Sixty frames of 2 MiB, each short of its last byte, where 16 MiB may be kept."""
    with served(tmp_path, queued_max_request_bytes=str(16 * MIB)) as child, ExitStack() as stack:
        before = child.resident_bytes()
        with Honest(child):
            for _ in range(60):
                raw = stack.enter_context(Raw(child.address))
                raw.socket.setblocking(False)
                data = memoryview((2 * MIB).to_bytes(4, "big") + bytes(2 * MIB - 1))
                try:
                    while data:
                        data = data[raw.socket.send(data) :]
                except BlockingIOError:
                    pass
            with Raw(child.address) as last:
                last.ask(HELLO)
            # lent receive buffers (16 of 1 MiB) are there beside what is kept
            assert child.resident_bytes() - before < 48 * MIB


def test_who_never_reads_is_not_written_for(child: Served) -> None:
    """Answers stop at the output cap; the requests behind them are not even read."""
    before = child.resident_bytes()
    with Raw(child.address, receive_bytes=4096) as raw, Honest(child):
        raw.socket.setblocking(False)
        ask = frame_of(ApiKey.DESCRIBE_CONFIGS, 4, resource_type=4, resource_name="1",
                       configuration_keys=None, include_documentation=True) * 100  # fmt: skip
        sent = 0
        try:
            while sent < 64 * MIB:
                sent += raw.socket.send(ask)
        except BlockingIOError:
            pass
        assert sent < 64 * MIB
        with Raw(child.address) as last:
            last.ask(HELLO)
        assert child.resident_bytes() - before < 100 * MIB


def test_what_a_session_learns_is_small(child: Served) -> None:
    """Forty connections, each with a hundred Produces by other, long names; then silence."""
    with ExitStack() as stack, Honest(child):
        readers = [stack.enter_context(Raw(child.address)) for _ in range(40)]
        before = child.resident_bytes()
        for raw in readers:
            for number in range(100):
                client_id = f"{number:03}" + "x" * 25_000
                raw.send(frame_of(ApiKey.PRODUCE, 9, client_id=client_id, records=bytes(batch())))
                raw.answer(ApiKey.PRODUCE, 9, 7)
        assert child.resident_bytes() - before < 24 * MIB


# --- decompression bombs ----------------------------------------------------------------------


def bomb(codec: int, payload: bytes) -> bytearray:
    """A batch of one record with this payload."""
    header = read_header(batch())
    made = bytearray(HEADER_BYTES) + payload
    length = len(made) - LENGTH_OVERHEAD
    HEADER.pack_into(made, 0, *header._replace(batch_length=length, attributes=codec))
    seal_batch(made)
    return made


def zstd_claim(window_log: int, content_bytes: int) -> bytes:
    """The head of a frame that wants a large window and claims a size, and one empty block."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0xC0 if content_bytes else 0x00])
    window = bytes([(window_log - 10) << 3])
    claim = content_bytes.to_bytes(8, "little") if content_bytes else b""
    return head + window + claim + b"\x01\x00\x00"


def uvarint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + uvarint(value >> 7)


BOMBS: dict[str, tuple[int, Callable[[], bytes], set[ErrorCode]]] = {
    "gzip of 200 MiB": (
        GZIP,
        lambda: compress(GZIP, bytes(200 * MIB)),
        {ErrorCode.MESSAGE_TOO_LARGE},
    ),
    "zstd of 4 GiB": (
        ZSTD,
        lambda: compress(ZSTD, bytes(1 << 30)) * 4,
        {ErrorCode.MESSAGE_TOO_LARGE},
    ),
    "lz4 of 200 MiB": (
        LZ4,
        lambda: compress(LZ4, bytes(200 * MIB)),
        {ErrorCode.MESSAGE_TOO_LARGE},
    ),
    "snappy of 20 MiB": (
        SNAPPY,
        lambda: bytes(snappy.compress_raw(bytes(20 * MIB))),
        {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD},
    ),
    "snappy that claims 4 GiB": (
        SNAPPY,
        lambda: uvarint(2**32 - 1) + bytes(100),
        {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD},
    ),
    "zstd that claims 2^62 bytes": (
        ZSTD,
        lambda: zstd_claim(17, 1 << 62),
        {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD},
    ),
    "zstd with a window of 2 GiB": (
        ZSTD,
        lambda: zstd_claim(31, 0),
        {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_go_off(name: str, child: Served) -> None:
    codec, make, codes = BOMBS[name]
    other = "gzip" if codec != GZIP else "lz4"
    records = bomb(codec, make())
    with Raw(child.address) as raw, Honest(child):
        make_topic(raw, "walked", **{"cleanup.policy": "compact"})
        make_topic(raw, "recoded", **{"compression.type": other})
        before = child.resident_bytes()
        answer = produce(raw, "walked", records)
        assert answer.error_code in codes, answer.error_message
        assert answer.base_offset == -1
        answer = produce(raw, "recoded", records)  # its records are not walked by default
        assert answer.error_code in {*codes, 0}, answer.error_message
        assert child.resident_bytes() - before < 96 * MIB


# --- connections ------------------------------------------------------------------------------


def test_many_idle_connections(tmp_path: Path) -> None:
    """Ten thousand, or what the limit on files allows; each costs a few kilobytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    if count < 1_000:
        pytest.skip(f"RLIMIT_NOFILE is {hard}: no room for a thousand connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with served(tmp_path) as child, ExitStack() as stack:
            before = child.resident_bytes()
            with Honest(child):
                for _ in range(count):
                    raw = socket.create_connection(child.address)
                    stack.callback(raw.close)
                with Raw(child.address) as last:
                    last.ask(HELLO)
            assert child.resident_bytes() - before < count * 8192
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_frame_that_never_ends_is_no_activity(tmp_path: Path) -> None:
    """A byte now and then does not keep a connection open."""
    with served(tmp_path, connections_max_idle_ms="400") as child, Raw(child.address) as raw:
        raw.send(sized(bytes(1_000))[:8])
        raw.socket.settimeout(0.05)
        for _ in range(200):
            try:
                raw.send(b"\0")
                if raw.socket.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("still open")

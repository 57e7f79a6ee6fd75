"""Load for `./dev bench transactions`: requests that are made once and patched, on plain sockets.

One process on one loop; a connection for each producer. A transaction is two requests, as in
Kafka's second protocol (KIP-890): a Produce, which adds the partition, and an EndTxn, whose answer
brings the epoch of the next. What is patched of a batch are epoch, sequence and CRC.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Self

from crc32c import crc32c

from ottla.base.errors import ErrorCode
from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record

TOPIC: Final = "t"
VALUE: Final = b"v" * 100
TOPICS_VERSION, COORDINATOR_VERSION, INIT_VERSION, FETCH_VERSION = 5, 3, 5, 12
PRODUCE_VERSION, END_VERSION = 12, 5
PATIENCE_S: Final = 60
RETRY_S: Final = 0.001
IN_FLIGHT: Final = 5
FETCH_BYTES: Final = 1 << 20
WAITS: Final = (
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
)
_BATCH_HEAD = struct.Struct(">qi")


class Connection:
    """One request after the other, or several in flight: answers come in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 21))

    def send(self, request: Request, version: int) -> None:
        for part in encode_request(1, "bench", version, request):
            self._writer.write(part)

    async def answer(self, key: int, version: int) -> Any:
        return decode_response(key, version, memoryview(await self.frame())[4:])[1]

    async def frame(self) -> bytes:
        """The next answer, its size in front."""
        size = await self._reader.readexactly(4)
        return size + await self._reader.readexactly(int.from_bytes(size, "big"))

    async def exchange(self, sent: bytes) -> bytes:
        self._writer.write(sent)
        return await self.frame()

    async def ask(self, request: Request, version: int) -> Any:
        self.send(request, version)
        return await self.answer(request.__api__, version)

    def close(self) -> None:
        self._writer.close()


class Batch:
    """A batch of records that is sent over and over, each time as somebody's next."""

    def __init__(self, count: int, *, transactional: bool = False) -> None:
        now_ms = int(time.time() * 1000)
        records = [Record(number, now_ms, None, VALUE) for number in range(count)]
        self.count = count
        self.bytes = build_batch(
            records, producer_id=0, producer_epoch=0, base_sequence=0, transactional=transactional
        )

    def of(self, producer_id: int, epoch: int, sequence: int) -> bytes:
        data = self.bytes
        struct.pack_into(">qhi", data, 43, producer_id, epoch, sequence)
        struct.pack_into(">I", data, 17, crc32c(memoryview(data)[21:]))
        return bytes(data)


def produce_request(batch: bytes, partition: int, transactional_id: str | None) -> ProduceRequest:
    row = PartitionProduceData(index=partition, records=batch)  # type: ignore[arg-type]
    return ProduceRequest(
        transactional_id=transactional_id,
        acks=-1,
        timeout_ms=30_000,
        topic_data=[TopicProduceData(name=TOPIC, partition_data=[row])],
    )


async def patiently(ask: Callable[[], Awaitable[tuple[int, Any]]]) -> Any:
    """Ask again, a millisecond later, while the answer's code is one that says so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        code, answer = await ask()
        if code == ErrorCode.NONE:
            return answer
        if code not in WAITS or time.monotonic() > deadline:
            raise RuntimeError(f"the broker answers {ErrorCode(code).name}")
        await asyncio.sleep(RETRY_S)


async def make_topic(port: int, partitions: int, name: str = TOPIC) -> None:
    connection = await Connection.open(port)
    row = CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=1, assignments=[], configs=[]
    )
    answer = await connection.ask(
        CreateTopicsRequest(topics=[row], timeout_ms=30_000), TOPICS_VERSION
    )
    code = answer.topics[0].error_code
    if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
        raise RuntimeError(f"no topic: {ErrorCode(code).name}")
    connection.close()


class Transactor:
    """A transactional producer."""

    def __init__(self, connection: Connection, name: str, partition: int, batch: Batch) -> None:
        self._connection = connection
        self._name = name
        self._partition = partition
        self._batch = batch
        self._id = self._epoch = -1

    async def init(self) -> None:
        async def find() -> tuple[int, Any]:
            request = FindCoordinatorRequest(key=self._name, key_type=1)
            answer = await self._connection.ask(request, COORDINATOR_VERSION)
            return answer.error_code, answer

        async def begin() -> tuple[int, Any]:
            request = InitProducerIdRequest(
                transactional_id=self._name, transaction_timeout_ms=60_000
            )
            answer = await self._connection.ask(request, INIT_VERSION)
            return answer.error_code, answer

        await patiently(find)
        answer = await patiently(begin)
        self._id, self._epoch = answer.producer_id, answer.producer_epoch

    async def transact(self, *, commit: bool = True) -> None:
        request = produce_request(
            self._batch.of(self._id, self._epoch, 0), self._partition, self._name
        )

        async def send() -> tuple[int, Any]:
            answer = await self._connection.ask(request, PRODUCE_VERSION)
            return answer.responses[0].partition_responses[0].error_code, answer

        async def end() -> tuple[int, Any]:
            ending = EndTxnRequest(
                transactional_id=self._name,
                producer_id=self._id,
                producer_epoch=self._epoch,
                committed=commit,
            )
            answer = await self._connection.ask(ending, END_VERSION)
            return answer.error_code, answer

        await patiently(send)
        answer = await patiently(end)
        self._id, self._epoch = answer.producer_id, answer.producer_epoch


class Rate(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float
    client_share: float
    """Of one core, what the load itself took."""


async def transactions(port: int, producers: int, records: int, seconds: float) -> Rate:
    """Commits a second by so many producers, each with a partition and a connection of its own."""
    batch = Batch(records, transactional=True)
    connections = [await Connection.open(port) for _ in range(producers)]
    made = [
        Transactor(each, f"{records}-{producers}-{number}", number, batch)
        for number, each in enumerate(connections)
    ]
    for each in made:
        await each.init()
        await each.transact()
    took: list[float] = []
    busy, began = time.process_time(), time.monotonic()

    async def run(transactor: Transactor) -> None:
        while (start := time.monotonic()) < began + seconds:
            await transactor.transact()
            took.append(time.monotonic() - start)

    await asyncio.gather(*map(run, made))
    passed = time.monotonic() - began
    share = (time.process_time() - busy) / passed
    for connection in connections:
        connection.close()
    took.sort()
    p50, p99 = (took[int(len(took) * part)] * 1e3 for part in (0.5, 0.99))
    return Rate(len(took) / passed, p50, p99, share)


async def produce(port: int, seconds: float, *, is_idempotent: bool) -> Rate:
    """Records a second by one producer with five batches of a hundred in flight."""
    connection, batch = await Connection.open(port), Batch(100)
    producer_id = epoch = -1
    if is_idempotent:
        answer = await connection.ask(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0), INIT_VERSION
        )
        producer_id, epoch = answer.producer_id, answer.producer_epoch
    sent: deque[float] = deque()
    took: list[float] = []
    sequence = 0
    busy, began = time.process_time(), time.monotonic()
    while sent or time.monotonic() < began + seconds:
        if len(sent) < IN_FLIGHT and time.monotonic() < began + seconds:
            first = sequence if is_idempotent else -1
            request = produce_request(batch.of(producer_id, epoch, first), 0, None)
            connection.send(request, PRODUCE_VERSION)
            sent.append(time.monotonic())
            sequence = (sequence + batch.count) & 0x7FFFFFFF
            continue
        answer = await connection.answer(ProduceRequest.__api__, PRODUCE_VERSION)
        code = answer.responses[0].partition_responses[0].error_code
        if code:
            raise RuntimeError(f"the broker answers {ErrorCode(code).name}")
        took.append(time.monotonic() - sent.popleft())
    passed = time.monotonic() - began
    share = (time.process_time() - busy) / passed
    connection.close()
    took.sort()
    p50, p99 = (took[int(len(took) * part)] * 1e3 for part in (0.5, 0.99))
    return Rate(len(took) * batch.count / passed, p50, p99, share)


async def fill(port: int, partition: int, count: int) -> None:
    """Transactions of ten records by ten producers at a time, every tenth aborted."""
    connections = [await Connection.open(port) for _ in range(10)]
    batch = Batch(10, transactional=True)

    async def run(number: int, connection: Connection) -> None:
        transactor = Transactor(connection, f"fill-{number}", partition, batch)
        await transactor.init()
        for turn in range(count // 10):
            await transactor.transact(commit=turn % 10 != number)
        connection.close()

    await asyncio.gather(*(run(*each) for each in enumerate(connections)))


async def read(port: int, partition: int, seconds: float, *, is_committed: bool) -> float:
    """MB a second by one consumer, that reads the partition over and over."""
    connection = await Connection.open(port)
    offset = size = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        place = FetchPartition(
            partition=partition, fetch_offset=offset, partition_max_bytes=FETCH_BYTES
        )
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=1,
            max_bytes=FETCH_BYTES,
            isolation_level=int(is_committed),
            topics=[FetchTopic(topic=TOPIC, partitions=[place])],
        )
        row = (await connection.ask(request, FETCH_VERSION)).responses[0].partitions[0]
        data = row.records or b""
        size += len(data)
        offset = _end_of(data, offset) if len(data) else 0
    connection.close()
    return size / (time.monotonic() - began) / 1e6


def _end_of(data: bytes | memoryview, offset: int) -> int:
    """Where the next Fetch goes on: behind the last whole batch."""
    at = 0
    while at + 61 <= len(data):
        base, length = _BATCH_HEAD.unpack_from(data, at)
        if at + 12 + length > len(data):
            break
        offset = base + int.from_bytes(data[at + 23 : at + 27], "big") + 1
        at += 12 + length
    return offset

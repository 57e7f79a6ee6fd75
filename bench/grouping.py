"""Load for `./dev bench groups`: groups of a member each, and requests that are made once.

A member joins by the classic protocol or by the new one (KIP-848), on a plain socket, and says
what it would send from then on. That is sent over and over, and the answer to each must be, byte
by byte, the one that it got at first: it costs a few microseconds, so that the load is not what
is measured.
"""

import asyncio
import time
from collections import deque
from typing import Any, Final, NamedTuple

from bench.transacting import Connection
from bench.turns import Running
from ottla.base.errors import ErrorCode
from ottla.protocol.framing import decode_response, encode_request
from ottla.protocol.message import Request
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

TOPIC: Final = "one"
"""It has one partition."""
CONNECTIONS: Final = 16
IN_FLIGHT: Final = 8
SESSION_MS: Final = 1_800_000
"""The most that brokers allow, so that no member dies while it is counted."""
JOIN_VERSION, SYNC_VERSION, HEARTBEAT_VERSION = 5, 3, 4
CONSUMER_VERSION, COMMIT_VERSION = 1, 9


# --- requests that are sent over and over -----------------------------------------------------


class Exchange(NamedTuple):
    """A framed request, and the whole answer that it gets each time."""

    request: bytes
    answer: bytes


async def exchange(connection: Connection, request: Request, version: int) -> Exchange:
    """Asked once; RuntimeError where the answer is an error."""
    assert request.__api__ is not None
    sent = b"".join(bytes(part) for part in encode_request(1, "bench", version, request))
    frame = await connection.exchange(sent)
    answer: Any = decode_response(request.__api__, version, memoryview(frame)[4:])[1]
    row = answer.topics[0].partitions[0] if isinstance(request, OffsetCommitRequest) else answer
    if row.error_code:
        raise RuntimeError(f"the broker answers {ErrorCode(row.error_code).name}")
    return Exchange(sent, frame)


class Pump(asyncio.Protocol):
    """Keeps so many of its exchanges in flight, one after the other and round again."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._exchanges = exchanges
        self._next = 0
        self._owed: deque[bytes] = deque()
        self._received = bytearray()
        self._transport: asyncio.Transport
        self.count = 0
        self.is_over = False
        self.idle = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send(IN_FLIGHT)

    def _send(self, count: int) -> None:
        requests = []
        for _ in range(count):
            request, answer = self._exchanges[self._next]
            self._next = (self._next + 1) % len(self._exchanges)
            self._owed.append(answer)
            requests.append(request)
        self._transport.write(b"".join(requests))

    def data_received(self, data: bytes) -> None:
        received, owed = self._received, self._owed
        received += data
        at = answered = 0
        while owed and len(received) - at >= len(owed[0]):
            answer = owed.popleft()
            if not received.startswith(answer, at):
                self.idle.set_exception(RuntimeError(f"another answer: {received[at : at + 99]!r}"))
                self._transport.abort()
                return
            at += len(answer)
            answered += 1
        del received[:at]
        self.count += answered
        if not self.is_over:
            self._send(answered)
        elif not owed and not self.idle.done():
            self.idle.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.idle.done():
            self.idle.set_exception(ConnectionError(f"the broker closed the connection: {error}"))


class Rate(NamedTuple):
    per_s: float
    broker_cores: float
    load_cores: float


async def pumped(broker: Running, exchanges: list[Exchange], seconds: float) -> Rate:
    """All connections at once, each with its share of the exchanges."""
    loop = asyncio.get_running_loop()
    pumps = [Pump(exchanges[number::CONNECTIONS]) for number in range(CONNECTIONS)]
    busy, broker_busy, began = time.process_time(), broker.cpu_s(), time.monotonic()
    opened = [
        await loop.create_connection(lambda pump=pump: pump, "127.0.0.1", broker.port)  # type: ignore[misc]
        for pump in pumps
    ]
    await asyncio.wait([pump.idle for pump in pumps], timeout=seconds)
    for pump in pumps:
        pump.is_over = True
    await asyncio.gather(*(pump.idle for pump in pumps))
    passed = time.monotonic() - began
    rate = Rate(
        sum(pump.count for pump in pumps) / passed,
        (broker.cpu_s() - broker_busy) / passed,
        (time.process_time() - busy) / passed,
    )
    for transport, _ in opened:
        transport.close()
    return rate


# --- groups of a member each ------------------------------------------------------------------


class Joined(NamedTuple):
    """The only member of its group."""

    protocol: str
    group: str
    member: str
    epoch: int
    """Of the member, or the group's generation."""

    def heartbeat(self) -> tuple[Request, int]:
        if self.protocol == "consumer":
            return _consumer_beat(self.group, self.member, self.epoch), CONSUMER_VERSION
        request = HeartbeatRequest(
            group_id=self.group, member_id=self.member, generation_id=self.epoch
        )
        return request, HEARTBEAT_VERSION

    def commit(self) -> tuple[Request, int]:
        row = OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
        request = OffsetCommitRequest(
            group_id=self.group,
            member_id=self.member,
            generation_id_or_member_epoch=self.epoch,
            topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=[row])],
        )
        return request, COMMIT_VERSION


def _consumer_beat(
    group: str, member: str, epoch: int, owned: list[TopicPartitions] | None = None
) -> ConsumerGroupHeartbeatRequest:
    return ConsumerGroupHeartbeatRequest(
        group_id=group,
        member_id=member,
        member_epoch=epoch,
        rebalance_timeout_ms=SESSION_MS if epoch == 0 else -1,
        subscribed_topic_names=None if epoch else [TOPIC],
        topic_partitions=owned,
    )


async def join(connection: Connection, protocol: str, group: str) -> Joined:
    if protocol == "consumer":
        return await _join_consumer(connection, group)
    member = ""
    while True:
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=60_000,
            member_id=member,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=SUBSCRIPTION)],
        )
        answer = await connection.ask(request, JOIN_VERSION)
        member = answer.member_id
        if answer.error_code != ErrorCode.MEMBER_ID_REQUIRED:
            break
    share = SyncGroupRequestAssignment(member_id=member, assignment=SHARE)
    sync = SyncGroupRequest(
        group_id=group,
        generation_id=answer.generation_id,
        member_id=member,
        assignments=[share],
    )
    synced = await connection.ask(sync, SYNC_VERSION)
    for code in (answer.error_code, synced.error_code):
        if code:
            raise RuntimeError(f"the broker answers {ErrorCode(code).name}")
    return Joined("classic", group, member, answer.generation_id)


def _consumer_topic() -> bytes:
    return b"\0\0\0\1" + len(TOPIC).to_bytes(2, "big") + TOPIC.encode()


SUBSCRIPTION: Final = b"\0\0" + _consumer_topic() + b"\xff\xff\xff\xff"
SHARE: Final = b"\0\0" + _consumer_topic() + b"\0\0\0\1\0\0\0\0" + b"\xff\xff\xff\xff"
"""Partition 0, in Kafka's format of what assignors tell members."""


async def _join_consumer(connection: Connection, group: str) -> Joined:
    member, epoch, owned = f"member-of-{group}", 0, []
    while True:
        # What it was told that it has, it says that it has: then nothing more is told.
        request = _consumer_beat(group, member, epoch, owned)
        answer = await connection.ask(request, CONSUMER_VERSION)
        if answer.error_code:
            raise RuntimeError(f"the broker answers {ErrorCode(answer.error_code).name}")
        if answer.assignment is not None:
            owned = answer.assignment.topic_partitions
        elif owned and answer.member_epoch == epoch:
            return Joined("consumer", group, member, epoch)
        epoch = answer.member_epoch


async def join_all(broker: Running, protocol: str, groups: list[str], what: str) -> list[Exchange]:
    """So many groups, and what their members send from then on: `heartbeat` or `commit`."""

    async def some(groups: list[str]) -> list[Exchange]:
        connection = await Connection.open(broker.port)
        made = []
        for group in groups:
            joined = await join(connection, protocol, group)
            made.append(await exchange(connection, *getattr(joined, what)()))
        connection.close()
        return made

    shares = [groups[number::CONNECTIONS] for number in range(CONNECTIONS)]
    made = await asyncio.gather(*map(some, shares))
    return [each for share in made for each in share]

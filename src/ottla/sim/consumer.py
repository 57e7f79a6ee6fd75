"""Scripted readers: ones that follow the log from its start, and ones that jump about in it.

A follower takes part in the order of the log: each poll of a partition goes on where the last one
ended. Out of range it asks for the earliest offset, as `auto.offset.reset=earliest` does, and
goes on there. What comes back is taken apart at once: whole batches, their CRCs, every record's
value against its id.

A reader by read_committed leaves out what the answer names as aborted, as real clients do.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.base.world import Bytes
from ottla.protocol.messages.fetch import (
    AbortedTransaction,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.records.batch import BatchHeader, batch_crc, iterate_headers
from ottla.records.control import read_marker
from ottla.records.record import iterate_records
from ottla.sim.client import SimClient
from ottla.sim.history import NO_TXN, Bound, Found, History, Key, Poll, Span, Topic, id_of
from ottla.sim.workload import Violation

TIMEOUT_S: Final = 8.0
PAUSE_S: Final = (0.0, 0.2)
BATCH_BYTES: Final = 1 << 20
LATEST: Final = -1
EARLIEST: Final = -2

AWAY: Final = (
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.OFFSET_OUT_OF_RANGE,
)
"""Errors of a partition that faults explain; OFFSET_OUT_OF_RANGE is looked into."""


@dataclass
class Reader:
    client: SimClient
    history: History
    rng: random.Random
    name: str
    boot: Callable[[], int]
    """The number of the node's present life."""
    positions: dict[Key, int] = field(default_factory=dict)
    is_committed: bool = False
    """It reads by read_committed."""
    txn: int = NO_TXN
    """In which its polls are, if it is in one."""

    async def follow(self, topics: list[Topic], until: float) -> None:
        while self._now() < until:
            topic = self.rng.choice(topics)
            keys = self.rng.sample(topic.partitions, self.rng.randint(1, topic.partition_count))
            await self.poll(topic, keys, follows=True)
            await asyncio.sleep(self.rng.uniform(*PAUSE_S))

    async def jump(self, until: float) -> None:
        """Read at random places of any topic that lives."""
        while self._now() < until:
            topic = self.rng.choice(self.history.alive())
            key = self.rng.choice(topic.partitions)
            start, end = await self.bounds(topic, key)
            if start is not None and end is not None:
                told = end if not topic.is_fleeting else self.history.told_end(key)
                low = start if not topic.is_fleeting else 0
                self.positions[key] = self.rng.randint(low, max(low, told))
                await self.poll(topic, [key], follows=False)
            await asyncio.sleep(self.rng.uniform(*PAUSE_S))

    # ---- asking

    async def poll(self, topic: Topic, keys: list[Key], *, follows: bool) -> bool:
        """One fetch of these partitions of a topic; whether it was answered."""
        version = 13 if topic.is_fleeting else self.rng.choice([4, 7, 11, 12, 13, 15, 17])
        room = self.rng.choice([1, 300, 5_000, BATCH_BYTES])
        rows = [
            FetchPartition(
                partition=key[1],
                fetch_offset=self.positions.setdefault(key, 0),
                partition_max_bytes=room,
            )
            for key in keys
        ]
        wanted = FetchTopic(topic=topic.name if version < 13 else "", partitions=rows)
        if version >= 13:
            wanted.topic_id = Uuid(topic.id)
        request = FetchRequest(
            max_wait_ms=self.rng.choice([0, 100, 500]),
            min_bytes=self.rng.choice([0, 1, 1, 2_000]),
            isolation_level=self.is_committed,
            topics=[wanted],
        )
        begun = self._now(), self.boot()
        answer = await self.client.ask(request, version, FetchResponse, timeout_s=TIMEOUT_S)
        if answer.response is None:
            return False
        for each in answer.response.responses:
            for data in each.partitions:
                await self._take(topic, data, self._span(begun), follows=follows)
        return True

    async def bounds(self, topic: Topic, key: Key) -> tuple[int | None, int | None]:
        """The log start and the high watermark; None where there was no answer."""
        start = await self._list(topic, key, EARLIEST)
        end = await self._list(topic, key, LATEST)
        return start, end

    async def _list(self, topic: Topic, key: Key, timestamp: int) -> int | None:
        row = ListOffsetsPartition(partition_index=key[1], timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=self.is_committed,
            topics=[ListOffsetsTopic(name=topic.name, partitions=[row])],
        )
        begun = self._now(), self.boot()
        version = self.rng.choice([2, 5, 7, 10] if self.is_committed else [1, 2, 5, 7, 10])
        answer = await self.client.ask(request, version, ListOffsetsResponse, timeout_s=TIMEOUT_S)
        if answer.response is None:
            return None
        told = answer.response.topics[0].partitions[0]
        if told.error_code:
            self._surprise(told.error_code, "ListOffsets")
            return None
        if not topic.is_fleeting:  # by name, it may have been another topic of that name
            bound = Bound(key, self._span(begun))
            if timestamp == LATEST:
                bound.high_watermark = None if self.is_committed else told.offset
            else:
                bound.log_start_offset = told.offset
            self.history.bounded(bound)
        return told.offset

    def _span(self, begun: tuple[float, int]) -> Span:
        return Span(begun[0], self._now(), (begun[1], self.boot()))

    def _surprise(self, error_code: int, where: str) -> None:
        code = ErrorCode(error_code)
        if code not in AWAY:
            self.history.surprises.append(f"{self.name}: {where}: {code.name}")

    async def read_all(self, topic: Topic, key: Key) -> tuple[int, list[Found]]:
        """Everything from the log start to where a reader may read to at this moment, and that
        start. (What stood at the start of a trimmed topic may be gone before it is read.)"""
        start, end = await self.bounds(topic, key)
        while start is None or end is None:
            await asyncio.sleep(0.1)
            start, end = await self.bounds(topic, key)
        first = len(self.history.polls)
        self.positions[key] = start
        while self.positions[key] < end:
            await self.poll(topic, [key], follows=False)
        found: list[Found] = []
        for poll in self.history.polls[first:]:
            if poll.reader == self.name and poll.key == key:
                if found and topic.is_trimmed and poll.position != found[-1][0] + 1:
                    found = []  # retention went by
                found += poll.records
        if topic.is_trimmed:
            start = found[0][0] if found else self.positions[key]
        return start, found

    # ---- what comes back

    async def _take(self, topic: Topic, data: PartitionData, span: Span, *, follows: bool) -> None:
        key = topic.id, data.partition_index
        position = self.positions[key]
        if data.error_code:
            self._surprise(data.error_code, "Fetch")
            if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
                await self._out_of_range(topic, key, position)
            return
        aborted = data.aborted_transactions or [] if self.is_committed else None
        found, end = taken(data.records, aborted, f"{self.name}: {key} at {position}")
        self.history.polled(
            Poll(
                key=key,
                reader=self.name,
                span=span,
                position=position,
                follows=follows,
                high_watermark=data.high_watermark,
                last_stable_offset=data.last_stable_offset,
                log_start_offset=data.log_start_offset if data.log_start_offset >= 0 else None,
                records=[(offset, record) for offset, record in found if offset >= position],
                is_committed=self.is_committed,
                txn=self.txn,
            )
        )
        self.positions[key] = max(position, end)

    async def _out_of_range(self, topic: Topic, key: Key, position: int) -> None:
        """Allowed where the log starts behind the position; what is past the end was lost."""
        start = await self._list(topic, key, EARLIEST)
        if start is None:
            return
        if position >= start and not topic.is_soft:
            raise Violation("out-of-range", f"{self.name}: {key} at {position}, starts at {start}")
        self.positions[key] = start

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def records_of(records: object, where: str) -> Iterator[Found]:
    """(offset, id) of every record of what a fetch returned, or a log holds."""
    for header, batch in batches_of(records, where):
        if not header.is_control:
            yield from _found(batch, where)


def taken(
    records: object, aborted: list[AbortedTransaction] | None, where: str
) -> tuple[list[Found], int]:
    """What a consumer hands on, and the offset behind the last batch (0: there is none). With
    `aborted` what is of one of these transactions is left out."""
    found: list[Found] = []
    end = 0
    due = sorted(aborted or (), key=lambda each: each.first_offset, reverse=True)
    open_ids: dict[int, None] = {}
    for header, batch in batches_of(records, where):
        end = header.last_offset + 1
        while due and due[-1].first_offset <= header.last_offset:
            open_ids[due.pop().producer_id] = None
        if header.is_control:
            marker = read_marker(next(iter(iterate_records(batch, BATCH_BYTES))))
            if marker is not None and not marker.committed:
                open_ids.pop(header.producer_id, None)
        elif not (header.is_transactional and header.producer_id in open_ids):
            found += _found(batch, where)
    return found, end


def batches_of(records: object, where: str) -> Iterator[tuple[BatchHeader, memoryview]]:
    if not records:
        return
    assert isinstance(records, Bytes)
    end = 0
    for at, header in iterate_headers(records):
        end = at + header.size_bytes
        if header.crc != batch_crc(records, at, header.size_bytes):
            raise Violation("corrupt", f"{where}: CRC of the batch at {header.base_offset}")
        yield header, memoryview(records)[at:end]
    if end != len(records):
        raise Violation("corrupt", f"{where}: {len(records) - end} bytes behind the last batch")


def _found(batch: memoryview, where: str) -> Iterator[Found]:
    for record in iterate_records(batch, BATCH_BYTES):
        record_id = id_of(record.value)
        if record_id is None:
            raise Violation("corrupt", f"{where}: the value at {record.offset}")
        yield record.offset, record_id

"""A scripted producer: batches to several partitions, many requests in flight, and the stubborn
retries of a real client.

A round is up to five Produce requests at once, each with a batch for some partitions of a topic.
What did not end well is sent again, the same bytes in the same order, until it does or patience
ends. An idempotent producer that gives up a batch begins a new life, with a new producer id, and
never sends the old one's records again; a plain one has one request in flight, and sending again
may make a twin.

What an error code leaves open is decided here, once (`VERDICTS`): what it does not name is a
refusal that no retry will change.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from ottla.base.errors import ErrorCode
from ottla.base.ids import Uuid
from ottla.base.world import Clock
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.compression import CODEC_NUMBERS
from ottla.records.record import Record
from ottla.sim.client import Answer, Ending, Link, SimClient
from ottla.sim.history import Fate, History, Send, Topic, value_of

IN_FLIGHT: Final = 5
TRIES: Final = 40
TIMEOUT_S: Final = 8.0
BACK_OFF_S: Final = (0.01, 0.6)
PAUSE_S: Final = (0.0, 0.3)
BATCH_RECORDS: Final = 6
KEYS: Final = 12
"""Of each partition of a compacted topic."""

OPEN: Final = (
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
)
"""Told of a batch that may have been appended before: worth another try."""
AGAIN: Final = (
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
)
"""Not appended by this try; perhaps by an earlier one, or when its turn has come. A node that
was started again knows only the last batch of a producer, as in Kafka."""


@dataclass(eq=False)
class Batch:
    send: Send
    topic: Topic
    data: bytes
    boot: int
    """The life of the node in which it was made."""
    may_be_there: bool = False


class Producer:
    def __init__(
        self,
        clock: Clock,
        client: SimClient,
        history: History,
        rng: random.Random,
        boot: Callable[[], int],
        *,
        number: int,
        acks: int,
        is_idempotent: bool,
    ) -> None:
        self._clock = clock
        self._client = client
        self._history = history
        self._rng = rng
        self._boot = boot
        self._round: list[Batch] = []
        self._acks = acks
        self._is_idempotent = is_idempotent
        self._name = f"producer-{number}"
        self._life = 0
        self._ids = count(number << 32)
        self._producer_id = -1
        self._epoch = -1
        self._sequences: dict[tuple[bytes, int], int] = {}
        self._version = rng.choice([7, 8, 9, 10, 12, 13])

    async def run(self, topics: list[Topic], until: float) -> None:
        """Produce to those of the topics that live, and to fleeting ones as they come."""
        while self._now() < until:
            wanted = [each for each in self._history.alive() if each in topics or each.is_fleeting]
            await self.round(self._rng.choice(wanted))
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))

    async def round(self, topic: Topic) -> bool:
        """One round of requests to a topic; whether every batch was acknowledged."""
        if self._is_idempotent and self._producer_id < 0 and not await self._begin_life():
            return False
        width = self._rng.randint(1, IN_FLIGHT) if self._is_idempotent else 1
        requests = [list(self._batches(topic)) for _ in range(width)]
        batches = self._round = [batch for request in requests for batch in request]
        for _ in range(TRIES):
            await self._try(requests)
            requests = [[batch] for batch in batches if batch.send.ended_at < 0]
            if not requests or not topic.is_alive:
                break
            await asyncio.sleep(self._rng.uniform(*BACK_OFF_S))
        for batch in batches:
            if batch.send.ended_at < 0:
                self._end(batch, Fate.INFO if batch.may_be_there else Fate.FAIL)
        is_done = all(batch.send.fate is Fate.OK for batch in batches)
        if not is_done:
            self._producer_id = -1
        return is_done

    async def _begin_life(self) -> bool:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        answer = await self._client.ask(request, 4, InitProducerIdResponse, timeout_s=TIMEOUT_S)
        if answer.response is None or answer.response.error_code:
            return False
        self._life += 1
        self._producer_id = answer.response.producer_id
        self._epoch = answer.response.producer_epoch
        self._sequences.clear()
        return True

    # ---- making

    def _batches(self, topic: Topic) -> Iterator[Batch]:
        keys = topic.partitions
        for key in sorted(self._rng.sample(keys, self._rng.randint(1, len(keys)))):
            size = 1 if self._rng.random() < 0.5 else self._rng.randint(2, BATCH_RECORDS)
            first_id = next(self._ids)
            for _ in range(size - 1):
                next(self._ids)
            name = f"{self._name}/{self._life}"
            send = Send(key, name, self._is_idempotent, self._acks, first_id, size, self._now())
            if topic.is_compacted:
                send.keys = tuple(str(self._rng.randrange(KEYS)) for _ in range(size))
            self._history.sends.append(send)
            yield Batch(send, topic, self._bytes_of(send), self._boot())

    def _bytes_of(self, send: Send) -> bytes:
        now_ms = self._clock.time_ms()
        keys: list[bytes | None] = [key.encode() for key in send.keys] or [None] * send.count
        records = [
            Record(offset, now_ms - self._rng.randint(0, 500), key, value_of(record_id))
            for offset, (record_id, key) in enumerate(zip(send.ids(), keys, strict=True))
        ]
        codec = self._rng.choice(sorted(CODEC_NUMBERS.values())) if self._rng.random() < 0.2 else 0
        if not self._is_idempotent:
            return bytes(build_batch(records, codec=codec))
        sequence = self._sequences.get(send.key, 0)
        self._sequences[send.key] = sequence + send.count
        return bytes(
            build_batch(
                records,
                codec=codec,
                producer_id=self._producer_id,
                producer_epoch=self._epoch,
                base_sequence=sequence,
            )
        )

    # ---- sending

    async def _try(self, requests: list[list[Batch]]) -> None:
        """Send these, five at a time, and note what became of each batch."""
        for start in range(0, len(requests), IN_FLIGHT):
            if not await self._client.connect():
                return
            group, link = requests[start : start + IN_FLIGHT], self._client.link
            answers = await asyncio.gather(*(self._ask(request, link) for request in group))
            for request, answer in zip(group, answers, strict=True):
                self._take(request, answer)
            if any(batch.send.ended_at < 0 for request in group for batch in request):
                return  # what is behind them must not come before them

    async def _ask(self, request: list[Batch], link: Link | None) -> Answer[ProduceResponse]:
        topic = request[0].topic
        for batch in request:
            batch.send.tries += 1
            batch.send.tried_at = self._now()
        version = 13 if topic.is_fleeting else self._version
        rows = [PartitionProduceData(index=each.send.key[1], records=each.data) for each in request]
        data = TopicProduceData(name=topic.name, topic_id=Uuid(topic.id), partition_data=rows)
        if version >= 13:
            data.name = ""
        timeout_ms = self._rng.choice([50, 1_000, 30_000])
        return await self._client.ask(
            ProduceRequest(acks=self._acks, timeout_ms=timeout_ms, topic_data=[data]),
            version,
            ProduceResponse,
            timeout_s=TIMEOUT_S,
            on=link,
        )

    def _take(self, request: list[Batch], answer: Answer[ProduceResponse]) -> None:
        if answer.ending is Ending.FAIL:
            return
        if answer.response is None:
            for batch in request:
                batch.may_be_there = True
            return
        rows = answer.response.responses[0].partition_responses
        for batch, row in zip(request, rows, strict=True):
            self._take_row(batch, row)

    def _take_row(self, batch: Batch, row: PartitionProduceResponse) -> None:
        code = ErrorCode(row.error_code)
        if code is ErrorCode.NONE:
            self._end(batch, Fate.OK, row.base_offset)
        elif code in OPEN:
            batch.may_be_there = True
        elif code not in AGAIN:
            self._end(batch, Fate.INFO if batch.may_be_there else Fate.FAIL)
            self._history.surprises.append(f"{batch.send}: {code.name} {row.error_message}")
        elif self._is_its_turn(batch):
            self._history.surprises.append(f"{batch.send}: {code.name} in its turn")
            self._end(batch, Fate.INFO)

    def _is_its_turn(self, batch: Batch) -> bool:
        """Every batch of its partition before it is acknowledged, and the node is the one that
        it was sent to first: no sequence is more in order than this, if no power cut took what
        was acknowledged with acks=1."""
        before = self._round[: self._round.index(batch)]
        is_lasting = self._acks == -1 and not batch.topic.is_soft
        return (
            batch.boot == self._boot()
            and (is_lasting or not self._history.power_losses)
            and all(each.send.fate is Fate.OK for each in before if each.send.key == batch.send.key)
        )

    def _end(self, batch: Batch, fate: Fate, offset: int = -1) -> None:
        self._history.end(batch.send, fate, self._now(), offset)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

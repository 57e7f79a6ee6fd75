"""A scripted producer of transactions, of the first protocol or the second (KIP-890), and what a
real one is not: it dies in the middle, shares its id with another, and its requests come twice.

A life begins with InitProducerId and ends when the producer is fenced, or does not know any more
where it stands. In a transaction it writes some batches and may read by read_committed; then it
commits, aborts, or is gone.

    doubled   a request is sent twice in a row on its connection
    stray     a copy of it comes some time later on another connection: a late Produce, a late end

Only the second protocol is given strays, and goes on after an answer that was lost: with the first
a late request cannot be told from one of the next transaction, in Kafka neither.
"""

import asyncio
import random
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, NamedTuple, TypeVar

from ottla.base.errors import ErrorCode
from ottla.base.world import Clock
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from ottla.records.builder import build_batch
from ottla.records.record import Record
from ottla.sim.client import Answer, Ending, SimClient
from ottla.sim.consumer import Reader
from ottla.sim.history import Fate, History, Key, Send, Topic, Txn, value_of
from ottla.sim.stubborn import Stubborn, Told

R = TypeVar("R", bound=Response)

TRANSACTION: Final = 1
"""The key type of a coordinator of transactions."""
TRIES: Final = 15
TIMEOUT_S: Final = 5.0
BACK_OFF_S: Final = (0.01, 0.4)
PAUSE_S: Final = (0.0, 0.2)
BATCH_RECORDS: Final = 4
TIMEOUTS_MS: Final = (1_500, 5_000, 60_000)
STRAY_S: Final = 1.5

AGAIN: Final = (
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
)
"""A batch was not appended by this try."""
OPEN: Final = (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.KAFKA_STORAGE_ERROR)
"""It may have been."""
OVER: Final = (
    ErrorCode.PRODUCER_FENCED,
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    ErrorCode.INVALID_TXN_STATE,
    ErrorCode.TRANSACTION_ABORTABLE,
)
"""Somebody else ended the transaction: a producer of the same id, or time."""


class LifeOver(Exception):
    """The producer does not know where it stands, or knows that it is fenced."""


class Wires(NamedTuple):
    """Three connections of a producer's machine."""

    data: SimClient
    coordinator: SimClient
    stray: SimClient


@dataclass(eq=False)
class Batch:
    send: Send
    topic: Topic
    data: bytes
    may_be_there: bool = False


class TransactionalProducer:
    def __init__(
        self,
        wires: Wires,
        clock: Clock,
        history: History,
        rng: random.Random,
        *,
        number: int,
        transactional_id: str,
        reader: Reader,
        is_bumping: bool,
    ) -> None:
        self.transactional_id = transactional_id
        self.history = history
        self.rng = rng
        self.reader = reader
        self.is_bumping = is_bumping
        self.name = f"transactional-{number}"
        self.producer_id = self.epoch = -1
        self.stubborn = Stubborn(wires.coordinator, rng)
        self._wires = wires
        self._clock = clock
        self._ids = count(number << 32)
        self._life = 0
        self._sequences: dict[Key, int] = {}
        self._added: dict[tuple[str, int], None] = {}
        self._strays: list[asyncio.Task[Any]] = []

    async def run(self, topics: list[Topic], until: float) -> None:
        while self.now() < until:
            try:
                await self.begin_life()
                while self.now() < until:
                    await self.transaction(topics)
                    await asyncio.sleep(self.rng.uniform(*PAUSE_S))
            except LifeOver:
                await asyncio.sleep(self.rng.uniform(*BACK_OFF_S))

    # ---- a life

    async def begin_life(self) -> None:
        """LifeOver where that does not come about."""
        find = FindCoordinatorRequest(
            key_type=TRANSACTION, coordinator_keys=[self.transactional_id]
        )
        found = await self.stubborn.ask(
            find, 4, FindCoordinatorResponse, lambda answer: answer.coordinators[0].error_code
        )
        if found.code is not ErrorCode.NONE:
            raise LifeOver
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=self.rng.choice(TIMEOUTS_MS),
        )
        if self.producer_id >= 0 and self.rng.random() < 0.3:  # KIP-360
            request.producer_id, request.producer_epoch = self.producer_id, self.epoch
        self.producer_id = self.epoch = -1
        told = await self.stubborn.ask(
            request, self.rng.choice([4, 5]), InitProducerIdResponse, lambda each: each.error_code
        )
        self.judge(told, "InitProducerId")
        assert told.response is not None
        self._life += 1
        self._be(told.response.producer_id, told.response.producer_epoch)

    def _be(self, producer_id: int, epoch: int) -> None:
        if (producer_id, epoch) != (self.producer_id, self.epoch):
            self._sequences.clear()
        self.producer_id, self.epoch = producer_id, epoch
        self._added.clear()

    def judge(self, told: Told[Any], api: str) -> None:
        """LifeOver where a request of the coordinator did not succeed."""
        if told.code is ErrorCode.NONE:
            return
        if told.response is not None and told.code not in OVER:
            code = None if told.code is None else told.code.name
            self.history.surprises.append(f"{self.name}: {api}: {code}")
        raise LifeOver

    # ---- a transaction

    async def transaction(self, topics: list[Topic]) -> None:
        txn = self.begin()
        if self.rng.random() < 0.4:
            await self._poll(txn, topics)
        batches = [self.batch(txn, topic) for topic in self.rng.choices(topics, k=self._width())]
        if batches:
            await self.write(batches)
        if batches or self.is_bumping:  # the first protocol cannot end what never began
            is_done = all(each.send.fate is Fate.OK for each in batches)
            await self.end(txn, is_done=is_done and bool(batches))

    def begin(self) -> Txn:
        return self.history.begin(f"{self.name}/{self._life}", self.now())

    def _width(self) -> int:
        return self.rng.choice([0, 1, 1, 2, 3, 4])

    async def _poll(self, txn: Txn, topics: list[Topic]) -> None:
        topic = self.rng.choice(topics)
        self.reader.txn = txn.number
        await self.reader.poll(topic, [self.rng.choice(topic.partitions)], follows=False)

    def batch(
        self, txn: Txn, topic: Topic, key: Key | None = None, origins: tuple[int, ...] = ()
    ) -> Batch:
        key = key or self.rng.choice(topic.partitions)
        size = len(origins) or self.rng.randint(1, BATCH_RECORDS)
        ids = [next(self._ids) for _ in range(size)]
        send = Send(key, txn.producer, True, -1, ids[0], size, self.now(), txn=txn.number)
        send.origins = origins
        self.history.sends.append(send)
        now_ms = self._clock.time_ms()
        sequence = self._sequences.get(key, 0)
        self._sequences[key] = sequence + size
        data = build_batch(
            [Record(at, now_ms, None, value_of(each)) for at, each in enumerate(ids)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            transactional=True,
        )
        return Batch(send, topic, bytes(data))

    # ---- writing

    async def write(self, batches: list[Batch]) -> None:
        """Until each has its fate. LifeOver where another producer took over."""
        try:
            if not self.is_bumping:
                await self._add_partitions(batches)
            for _ in range(TRIES):
                await self._try([each for each in batches if each.send.ended_at < 0])
                if all(each.send.ended_at >= 0 for each in batches):
                    return
                await asyncio.sleep(self.rng.uniform(*BACK_OFF_S))
        finally:
            for batch in batches:
                if batch.send.ended_at < 0:
                    fate = Fate.INFO if batch.may_be_there else Fate.FAIL
                    self.history.end(batch.send, fate, self.now())

    async def _add_partitions(self, batches: list[Batch]) -> None:
        topics: dict[str, AddPartitionsToTxnTopic] = {}
        for batch in batches:
            place = batch.topic.name, batch.send.key[1]
            if place not in self._added:
                row = AddPartitionsToTxnTopic(name=place[0], partitions=[])
                topics.setdefault(place[0], row).partitions.append(place[1])
                self._added[place] = None
        if not topics:
            return
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=list(topics.values()),
        )
        told = await self.ask(request, 3, AddPartitionsToTxnResponse, _worst_of_added)
        self.judge(told, "AddPartitionsToTxn")

    async def _try(self, batches: list[Batch]) -> None:
        """All of them at once, in order, on one connection."""
        if not await self._wires.data.connect():
            return
        asked = [self._produce(batch) for batch in batches]
        answers = await asyncio.gather(*asked)
        taken = [self._take(*each) for each in zip(batches, answers, strict=True)]
        if not all(taken):
            raise LifeOver

    async def _produce(self, batch: Batch) -> Answer[ProduceResponse]:
        batch.send.tries += 1
        batch.send.tried_at = self.now()
        row = PartitionProduceData(index=batch.send.key[1], records=batch.data)
        request = ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout_ms=30_000,
            topic_data=[TopicProduceData(name=batch.topic.name, partition_data=[row])],
        )
        client, version = self._wires.data, 12 if self.is_bumping else self.rng.choice([9, 11])
        if self._stray(request, version, ProduceResponse):
            batch.may_be_there = True
        link = client.link
        asked = [client.ask(request, version, ProduceResponse, timeout_s=TIMEOUT_S, on=link)]
        if self.rng.random() < 0.1:
            asked.append(client.ask(request, version, ProduceResponse, timeout_s=9, on=link))
            batch.may_be_there = True
        return (await asyncio.gather(*asked))[0]

    def _take(self, batch: Batch, answer: Answer[ProduceResponse]) -> bool:
        """Whether its producer's life may go on."""
        if answer.response is None:
            is_silent = answer.ending is Ending.INFO
            batch.may_be_there |= is_silent
            return self.is_bumping or not is_silent
        row = answer.response.responses[0].partition_responses[0]
        code = ErrorCode(row.error_code)
        if code is ErrorCode.NONE:
            self.history.end(batch.send, Fate.OK, self.now(), row.base_offset)
        elif code in OPEN:
            batch.may_be_there = True
        elif code not in AGAIN:
            if code not in OVER:
                self.history.surprises.append(f"{batch.send}: {code.name} {row.error_message}")
            return False
        return True

    # ---- the end

    async def end(self, txn: Txn, *, is_done: bool) -> bool:
        """Commit, abort, or die; whether it is committed for sure. It is not tried where not
        everything is acknowledged."""
        chance = self.rng.random()
        if chance < 0.05:
            raise LifeOver
        if chance < 0.1:
            await asyncio.sleep(self.rng.uniform(1.0, 2.5))  # time may end it
        commit = is_done and chance < 0.8
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=commit,
        )
        if commit:
            txn.fate, txn.asked_at = Fate.INFO, self.now()
        version = 5 if self.is_bumping else self.rng.choice([3, 4])
        is_strayed = self._stray(request, version, EndTxnResponse)
        told = await self.ask(request, version, EndTxnResponse, lambda answer: answer.error_code)
        txn.ended_at = self.now()
        if commit and told.code is ErrorCode.NONE:
            txn.fate = Fate.OK
        elif commit and told.code in OVER and not told.is_doubtful and not is_strayed:
            txn.fate = Fate.FAIL
        self.judge(told, "EndTxn")
        if told.response is not None and self.is_bumping:
            self._be(told.response.producer_id, told.response.producer_epoch)
        elif not is_done:
            raise LifeOver  # what has no answer may yet come, and is of the same epoch
        self._added.clear()
        return commit

    # ---- asking

    async def ask(self, request: Request, version: int, expected: type[R], code_of: Any) -> Told[R]:
        return await self.stubborn.ask(
            request,
            version,
            expected,
            code_of,
            is_doubled=self.rng.random() < 0.15,
            goes_on=self.is_bumping,
        )

    def _stray(self, request: Request, version: int, expected: type[Response]) -> bool:
        """Whether a copy of it is on its way."""
        if not self.is_bumping or self.rng.random() > 0.1:
            return False
        delay_s = self.rng.uniform(0, STRAY_S)

        async def late() -> None:
            await asyncio.sleep(delay_s)
            await self._wires.stray.ask(request, version, expected, timeout_s=TIMEOUT_S)

        self._strays = [each for each in self._strays if not each.done()]
        self._strays.append(asyncio.get_running_loop().create_task(late()))
        return True

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def _worst_of_added(answer: AddPartitionsToTxnResponse) -> int:
    codes = [
        row.partition_error_code
        for topic in answer.results_by_topic_v3_and_below
        for row in topic.results_by_partition
        if row.partition_error_code not in (0, ErrorCode.OPERATION_NOT_ATTEMPTED)
    ]
    return codes[0] if codes else 0

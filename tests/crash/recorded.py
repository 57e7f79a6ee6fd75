"""Clients of a real broker that note what they saw: the history that the checkers are given.

Writers commit and abort transactions with confluent-kafka and aiokafka, copiers copy a source with
its offsets in the transaction, readers follow by read_committed. Each begins anew when it fails.
A note is honest as in the simulation: what has no answer may have happened.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, Final

import aiokafka
import confluent_kafka as rd
from aiokafka.errors import KafkaError

from ottla.sim.history import (
    Commit,
    Fate,
    History,
    Key,
    Poll,
    Reading,
    Send,
    Span,
    Txn,
    id_of,
    value_of,
)

WAIT_S: Final = 20
TIMEOUT_MS: Final = 5_000
PIECE: Final = 12


class Recorder:
    """One history of all clients, which are threads."""

    def __init__(self, bootstrap: str, topics: dict[str, bytes]) -> None:
        self.history = History()
        self.bootstrap = bootstrap
        self.topics = topics
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self._ids = count(1)

    def now(self) -> float:
        return time.monotonic()

    def key(self, topic: str, index: int) -> Key:
        return self.topics[topic], index

    def begin(self, name: str) -> Txn:
        with self.lock:
            return self.history.begin(name, self.now())

    def send(self, txn: Txn, topic: str, index: int, origin: int | None = None) -> Send:
        """A record that is about to be sent."""
        with self.lock:
            record_id = next(self._ids)
            key = self.key(topic, index)
            send = Send(key, txn.producer, True, -1, record_id, 1, self.now(), txn=txn.number)
            send.tries, send.tried_at = 1, self.now()
            send.origins = () if origin is None else (origin,)
            self.history.sends.append(send)
            return send

    def acknowledged(self, send: Send, offset: int) -> None:
        with self.lock:
            self.history.end(send, Fate.OK, self.now(), offset)

    def commit(self, txn: Txn, group: str, key: Key, offset: int) -> Commit:
        with self.lock:
            commit = Commit(group, key, offset, txn.producer, self.now(), txn=txn.number)
            self.history.commits.append(commit)
            return commit

    def read_offset(self, group: str, key: Key, offset: int, asked_at: float) -> None:
        with self.lock:
            span = Span(asked_at, self.now(), (0, 0))
            self.history.readings.append(Reading(group, key, max(offset, -1), span))

    def poll(self, name: str, key: Key, position: int, found: list[tuple[int, int]]) -> None:
        with self.lock:
            span = Span(self.now(), self.now(), (0, 0))
            self.history.polls.append(
                Poll(key, name, span, position, True, None, None, None, found, is_committed=True)
            )

    @contextmanager
    def committing(self, txn: Txn) -> Iterator[None]:
        """The commit of a transaction: whatever is raised leaves it open."""
        with self.lock:
            txn.fate, txn.asked_at = Fate.INFO, self.now()
        yield
        with self.lock:
            txn.fate, txn.ended_at = Fate.OK, self.now()

    def aborted(self, txn: Txn) -> None:
        with self.lock:
            txn.fate, txn.ended_at = Fate.FAIL, self.now()


def until_over(recorder: Recorder, live: Callable[[str], None], name: str) -> None:
    """Lives of a client, one after another."""
    for life in count(1):
        if recorder.is_over.is_set():
            return
        with suppress(rd.KafkaException, KafkaError, TimeoutError):
            live(f"{name}/{life}")
        time.sleep(0.05)


# ---- confluent-kafka


def confluent(recorder: Recorder, **settings: Any) -> dict[str, Any]:
    # librdkafka 2.16 forgets a TxnOffsetCommit that waits while it bootstraps anew.
    base = {"log_level": 0, "metadata.recovery.strategy": "none"}
    return {"bootstrap.servers": recorder.bootstrap, **base, **settings}


def transactional(recorder: Recorder, transactional_id: str) -> rd.Producer:
    timeout = {"transaction.timeout.ms": TIMEOUT_MS, "linger.ms": 1}
    settings = confluent(recorder, **timeout, **{"transactional.id": transactional_id})
    producer = rd.Producer(settings)
    producer.init_transactions(WAIT_S)
    return producer


def produce(recorder: Recorder, producer: rd.Producer, send: Send, topic: str) -> None:
    def delivered(error: rd.KafkaError | None, message: rd.Message) -> None:
        if error is None:
            recorder.acknowledged(send, message.offset())

    value = value_of(send.first_id)
    producer.produce(topic, value, partition=send.key[1], on_delivery=delivered)


def commit(recorder: Recorder, producer: rd.Producer, txn: Txn) -> None:
    """A transaction that cannot be committed is aborted, for sure or by whoever comes next."""
    with recorder.committing(txn):
        try:
            producer.commit_transaction(WAIT_S)
        except rd.KafkaException as error:
            if error.args[0].txn_requires_abort():
                producer.abort_transaction(WAIT_S)
                recorder.aborted(txn)
            raise


def write(recorder: Recorder, transactional_id: str, rng: random.Random) -> None:
    def live(name: str) -> None:
        producer = transactional(recorder, transactional_id)
        while not recorder.is_over.is_set():
            txn = recorder.begin(name)
            producer.begin_transaction()
            for _ in range(rng.randint(1, 8)):
                send = recorder.send(txn, "mixed", rng.randrange(2))
                produce(recorder, producer, send, "mixed")
            if rng.random() < 0.75:
                commit(recorder, producer, txn)
            else:
                producer.flush(WAIT_S)
                producer.abort_transaction(WAIT_S)
                recorder.aborted(txn)
            if rng.random() < 0.02:
                return  # it dies, and another comes

    until_over(recorder, live, transactional_id)


def copy(recorder: Recorder, group: str, rng: random.Random) -> None:
    source = recorder.key("source", 0)

    def live(name: str) -> None:
        producer = transactional(recorder, group)
        settings = {"group.id": group, "enable.auto.commit": False}
        consumer = rd.Consumer(confluent(recorder, **settings))
        try:
            asked_at = recorder.now()
            (place,) = consumer.committed([rd.TopicPartition("source", 0)], WAIT_S)
            recorder.read_offset(group, source, place.offset, asked_at)
            consumer.assign([rd.TopicPartition("source", 0, max(0, place.offset))])
            while not recorder.is_over.is_set():
                piece(name, consumer, producer)
        finally:
            consumer.close()

    def piece(name: str, consumer: rd.Consumer, producer: rd.Producer) -> None:
        messages = [each for each in consumer.consume(PIECE, 0.5) if each.error() is None]
        if not messages:
            return
        txn = recorder.begin(name)
        producer.begin_transaction()
        for message in messages:
            origin = id_of(message.value())
            send = recorder.send(txn, "target", message.offset() % 2, origin)
            produce(recorder, producer, send, "target")
        end = messages[-1].offset() + 1
        kept = recorder.commit(txn, group, source, end)
        offsets = [rd.TopicPartition("source", 0, end)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), WAIT_S)
        kept.fate, kept.ended_at = Fate.OK, recorder.now()
        if rng.random() < 0.05:
            raise rd.KafkaException(rd.KafkaError(rd.KafkaError._FAIL))  # it dies
        commit(recorder, producer, txn)

    until_over(recorder, live, group)


def follow(recorder: Recorder, name: str, topic: str) -> None:
    def live(life: str) -> None:
        settings = {"group.id": name, "isolation.level": "read_committed"}
        consumer = rd.Consumer(confluent(recorder, **settings))
        consumer.assign([rd.TopicPartition(topic, index, 0) for index in (0, 1)])
        due = {0: 0, 1: 0}
        try:
            while not recorder.is_over.is_set():
                found: dict[int, list[tuple[int, int]]] = {}
                for message in consumer.consume(50, 0.2):
                    if message.error() is None:
                        told = message.offset(), id_of(message.value()) or -1
                        found.setdefault(message.partition(), []).append(told)
                for index, records in found.items():
                    recorder.poll(life, recorder.key(topic, index), due[index], records)
                    due[index] = records[-1][0] + 1
        finally:
            consumer.close()

    until_over(recorder, live, name)


def read_to_the_end(recorder: Recorder, topic: str, index: int) -> list[tuple[int, int]]:
    """All that a new reader by read_committed gets."""
    settings = {"group.id": "last", "isolation.level": "read_committed"}
    consumer = rd.Consumer(confluent(recorder, **settings, **{"enable.partition.eof": True}))
    consumer.assign([rd.TopicPartition(topic, index, 0)])
    found: list[tuple[int, int]] = []
    try:
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{topic}-{index} is not to be read to its end"
            if message.error() is None:
                found.append((message.offset(), id_of(message.value()) or -1))
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                return found
    finally:
        consumer.close()


# ---- aiokafka (the first protocol)


def write_with_aiokafka(recorder: Recorder, transactional_id: str, rng: random.Random) -> None:
    async def whole_life(name: str) -> None:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=recorder.bootstrap,
            transactional_id=transactional_id,
            transaction_timeout_ms=TIMEOUT_MS,
        )
        try:
            await asyncio.wait_for(producer.start(), WAIT_S)
            while not recorder.is_over.is_set():
                await asyncio.wait_for(one(name, producer), WAIT_S)
        finally:
            with suppress(Exception):
                await asyncio.wait_for(producer.stop(), 2)

    async def one(name: str, producer: aiokafka.AIOKafkaProducer) -> None:
        txn = recorder.begin(name)
        await producer.begin_transaction()
        for _ in range(rng.randint(1, 4)):
            send = recorder.send(txn, "mixed", rng.randrange(2))
            value = value_of(send.first_id)
            told = await producer.send_and_wait("mixed", value, partition=send.key[1])
            recorder.acknowledged(send, told.offset)
        if rng.random() < 0.75:
            with recorder.committing(txn):
                await producer.commit_transaction()
        else:
            await producer.abort_transaction()
            recorder.aborted(txn)

    until_over(recorder, lambda name: asyncio.run(whole_life(name)), transactional_id)

"""SIGKILL in the middle of an exactly-once copy, of the broker and of the worker: each record of
the source stands once in the target, for read_committed.

For minutes: `python -m tests.crash.test_kill_transactions SECONDS`.
"""

import asyncio
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import aiokafka
import confluent_kafka as rd
import pytest
from aiokafka.errors import KafkaError as AiokafkaError
from confluent_kafka.admin import AdminClient, NewTopic

from tests.tools.serving import Serving, serving

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

WAIT_S = 30
LIFE_S = 10
"""A life of aiokafka's: what hangs on a broker that went away begins anew."""
PIECE = 20
FAILURES = (rd.KafkaException, AiokafkaError, OSError, TimeoutError)
SETTINGS = {
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}


class Copy:
    """A worker that is begun anew whenever it fails, until all is copied."""

    def __init__(self, bootstrap: str, count: int, seed: int) -> None:
        self.bootstrap = bootstrap
        self.count = count
        self.rng = random.Random(seed)
        self.at = 0
        self.lives = self.commits = 0

    def run(self) -> None:
        while self.at < self.count:
            self.lives += 1
            try:
                self.live()
            except FAILURES:
                time.sleep(0.05)

    def live(self) -> None:
        # librdkafka 2.16 forgets a TxnOffsetCommit that waits while it bootstraps anew.
        base = {
            "bootstrap.servers": self.bootstrap,
            "log_level": 0,
            "metadata.recovery.strategy": "none",
        }
        group = {"group.id": "copy", "enable.auto.commit": False}
        consumer = rd.Consumer({**base, **group, "isolation.level": "read_committed"})
        producer = rd.Producer(
            {**base, "transactional.id": "copy", "linger.ms": 1, "transaction.timeout.ms": 5_000}
        )
        try:
            producer.init_transactions(WAIT_S)
            # librdkafka asks for stable offsets: what a former life decided is settled in them.
            (place,) = consumer.committed([rd.TopicPartition("source", 0)], WAIT_S)
            self.at = max(place.offset, 0)
            consumer.assign([rd.TopicPartition("source", 0, self.at)])
            while self.at < self.count:
                self.copy_piece(consumer, producer)
        finally:
            consumer.close()

    def copy_piece(self, consumer: rd.Consumer, producer: rd.Producer) -> None:
        messages = [each for each in consumer.consume(PIECE, 1) if each.error() is None]
        if not messages:
            return
        producer.begin_transaction()
        for message in messages:
            producer.produce("target", message.value(), partition=message.offset() % 2)
        end = messages[-1].offset() + 1
        offsets = [rd.TopicPartition("source", 0, end)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), WAIT_S)
        if self.rng.random() < 0.1:
            raise rd.KafkaException(rd.KafkaError(rd.KafkaError._FAIL))  # the worker dies
        producer.commit_transaction(WAIT_S)
        self.commits += 1
        self.at = end


class AiokafkaCopy(Copy):
    def live(self) -> None:
        asyncio.run(self.one_life())

    async def one_life(self) -> None:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id="copy",
            transaction_timeout_ms=5_000,
            linger_ms=1,
        )
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id="copy",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        place = aiokafka.TopicPartition("source", 0)
        consumer.assign([place])
        try:
            async with asyncio.timeout(LIFE_S):
                # First the producer: what a former life decided is settled when it has its epoch.
                await producer.start()
                await consumer.start()
                self.at = await consumer.committed(place) or 0
                consumer.seek(place, self.at)
                while self.at < self.count:
                    await self.aio_piece(consumer, producer, place)
        finally:
            for client in (consumer, producer):
                with contextlib.suppress(*FAILURES):
                    async with asyncio.timeout(1):
                        await client.stop()

    async def aio_piece(self, consumer, producer, place) -> None:
        found = await consumer.getmany(place, timeout_ms=1_000, max_records=PIECE)
        if not (messages := found.get(place)):
            return
        await producer.begin_transaction()
        for message in messages:
            await producer.send("target", message.value, partition=message.offset % 2)
        end = messages[-1].offset + 1
        await producer.send_offsets_to_transaction({place: end}, "copy")
        if self.rng.random() < 0.1:
            raise TimeoutError("the worker dies")
        await producer.commit_transaction()
        self.commits += 1
        self.at = end


COPIES = {"librdkafka": Copy, "aiokafka": AiokafkaCopy}


def fill(bootstrap: str, first: int, count: int) -> None:
    producer = rd.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(first, first + count):
        producer.produce("source", b"%d" % number)
    assert producer.flush(WAIT_S) == 0


def seen(bootstrap: str, count: int) -> Counter[bytes]:
    """What the target holds, to its end. As in Kafka a commit is answered before its markers
    stand: until `count` are there, the end may still move."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([rd.TopicPartition("target", index, 0) for index in (0, 1)])
    values: Counter[bytes] = Counter()
    ended: set[int] = set()
    deadline = time.monotonic() + WAIT_S
    while len(ended) < 2 or values.total() < count:
        message = consumer.poll(1)
        if message is None:
            if time.monotonic() > deadline:
                break
        elif message.error() is None:
            values[message.value()] += 1
            ended.discard(message.partition())
        elif message.error().code() == rd.KafkaError._PARTITION_EOF:
            ended.add(message.partition())
    consumer.close()
    return values


def run(server: Serving, count: int, kills: int, seed: int, client: str = "librdkafka") -> Copy:
    """Copy `count` records by a client while the broker is killed so many times."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    topics = [NewTopic("source", 1, 1), NewTopic("target", 2, 1)]
    for future in admin.create_topics(topics).values():
        future.result(WAIT_S)
    fill(server.bootstrap, 0, count)
    copy = COPIES[client](server.bootstrap, count, seed)
    worker = threading.Thread(target=copy.run)
    worker.start()
    rng = random.Random(seed + 1)
    for number in range(kills):
        goal = count * (number + 1) // (kills + 2)
        while copy.at < goal:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        server.kill()
        server.start()
    worker.join()
    wanted = Counter(b"%d" % number for number in range(count))
    found = seen(server.bootstrap, count)
    assert (found - wanted, wanted - found) == (Counter(), Counter())
    return copy


@pytest.mark.parametrize("client", COPIES)
def test_a_copy_is_exact_over_sigkills(tmp_path: Path, client: str) -> None:
    with serving(tmp_path / "data", SETTINGS) as server:
        copy = run(server, 600, 3, 1, client)
    assert copy.commits >= 600 // PIECE


def main(seconds: float) -> None:
    deadline, seed = time.monotonic() + seconds, 100
    while time.monotonic() < deadline:
        client = list(COPIES)[seed % 2]
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(Path(folder) / "data", SETTINGS) as server,
        ):
            copy = run(server, 4_000, 10, seed, client)
        print(
            f"seed {seed}, {client}: {copy.lives} lives, {copy.commits} commits, exact", flush=True
        )
        seed += 1


if __name__ == "__main__":
    main(float(sys.argv[1]))

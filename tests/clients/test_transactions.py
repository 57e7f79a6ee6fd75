"""Exactly-once copies by clients that nobody here wrote: consume, transform, produce, and the
offsets in the transaction. Workers are dropped in the middle, by a new one of the same id."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiokafka
import confluent_kafka as rd
import pytest

from tests.clients.peers import MARKS, PEERS
from tests.clients.records import WAIT_S, Sent

pytestmark = MARKS

Maker = Callable[..., Any]
COUNT = 120
PIECE = 10


def fill(bootstrap: str, topic: str) -> list[bytes]:
    values = [b"v%d" % number for number in range(COUNT)]
    PEERS["confluent"].produce(bootstrap, topic, [Sent(None, value, ()) for value in values])
    return values


def committed(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """All that a read_committed consumer sees, to the end."""
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "reader",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = rd.Consumer(config)
    consumer.assign([rd.TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    try:
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None, f"{len(values)} of {count}"
            if message.error() is None:
                values.append(message.value())
            elif message.error().code() == rd.KafkaError._PARTITION_EOF:
                return values
    finally:
        consumer.close()


def copy_some(bootstrap: str, source: str, target: str, group: str, rng: random.Random) -> bool:
    """One life of a worker, which ends anywhere; whether all was copied."""
    consumer = rd.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6_000,
        }
    )
    producer = rd.Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": group, "linger.ms": 1}
    )
    producer.init_transactions(WAIT_S)
    begun = consumer.committed([rd.TopicPartition(source, 0)], WAIT_S)[0].offset
    at = max(begun, 0)
    consumer.assign([rd.TopicPartition(source, 0, at)])
    try:
        while at < COUNT:
            messages = consumer.consume(PIECE, WAIT_S)
            producer.begin_transaction()
            for message in messages:
                assert message.error() is None, message.error()
                producer.produce(target, message.value() + b"!")
                at = message.offset() + 1
            if rng.random() < 0.2:
                producer.flush(WAIT_S)
                return False  # dropped: the next worker fences what is open
            producer.send_offsets_to_transaction(
                [rd.TopicPartition(source, 0, at)], consumer.consumer_group_metadata(), WAIT_S
            )
            if rng.random() < 0.2:
                producer.abort_transaction(WAIT_S)
                return False
            producer.commit_transaction(WAIT_S)
            if rng.random() < 0.2:
                return False
        return True
    finally:
        consumer.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_confluent_copies_exactly_once(bootstrap: str, make_topic: Maker, seed: int) -> None:
    source, target = make_topic(), make_topic()
    values = fill(bootstrap, source)
    rng = random.Random(seed)
    while not copy_some(bootstrap, source, target, f"copy-{target}", rng):
        pass
    copied = committed(bootstrap, target, COUNT)
    assert Counter(copied) == Counter(value + b"!" for value in values)


async def copy_by_aiokafka(
    bootstrap: str, source: str, target: str, group: str, rng: random.Random
) -> bool:
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=group, linger_ms=1
    )
    await producer.start()
    place = aiokafka.TopicPartition(source, 0)
    consumer.assign([place])
    await consumer.start()
    try:
        at = await consumer.committed(place) or 0
        consumer.seek(place, at)
        while at < COUNT:
            found = await consumer.getmany(timeout_ms=WAIT_S * 1_000, max_records=PIECE)
            await producer.begin_transaction()
            for message in found.get(place, ()):
                await producer.send_and_wait(target, message.value + b"!")
                at = message.offset + 1
            await producer.send_offsets_to_transaction({place: at}, group)
            if rng.random() < 0.3:
                await producer.abort_transaction()
                return False
            await producer.commit_transaction()
            if rng.random() < 0.2:
                return False
        return True
    finally:
        await consumer.stop()
        await producer.stop()


def test_aiokafka_copies_exactly_once(bootstrap: str, make_topic: Maker) -> None:
    source, target = make_topic(), make_topic()
    values = fill(bootstrap, source)
    rng = random.Random(3)

    async def copy() -> None:
        while not await copy_by_aiokafka(bootstrap, source, target, f"aio-{target}", rng):
            pass

    asyncio.run(copy())
    copied = committed(bootstrap, target, COUNT)
    assert Counter(copied) == Counter(value + b"!" for value in values)


def test_a_zombie_is_fenced(bootstrap: str, make_topic: Maker) -> None:
    topic = make_topic()
    config = {"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 1}
    zombie, heir = rd.Producer(config), rd.Producer(config)
    zombie.init_transactions(WAIT_S)
    zombie.begin_transaction()
    zombie.produce(topic, b"zombie")
    zombie.flush(WAIT_S)
    heir.init_transactions(WAIT_S)
    with pytest.raises(rd.KafkaException) as caught:
        zombie.commit_transaction(WAIT_S)
    assert caught.value.args[0].fatal()
    heir.begin_transaction()
    heir.produce(topic, b"heir")
    heir.commit_transaction(WAIT_S)
    assert committed(bootstrap, topic, 1) == [b"heir"]

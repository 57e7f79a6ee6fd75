"""Clients that nobody here wrote, behind one face: produce records, consume them from offsets.

Each peer is a class with `produce` and `consume`; what a client's interface cannot say (a null
header value, a record that is neither key nor value) is left out by its `can_say`. Consumers are
assigned their partitions: nothing here needs a group.
"""

import asyncio
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiokafka
import confluent_kafka as rd
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own use of importlib.resources
    import kafka

from tests.clients.kcat import Kcat
from tests.clients.records import WAIT_S, Seen, Sent

MARKS: Final = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


class Confluent:
    """librdkafka, by confluent-kafka."""

    name = "confluent"

    @staticmethod
    def can_say(record: Sent) -> bool:
        return True

    @staticmethod
    def produce(
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = False,
        **options: Any,
    ) -> None:
        config = {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "acks": acks,
            "enable.idempotence": idempotent,
            "linger.ms": 20,
            **options,
        }
        failures: list[Any] = []
        producer = rd.Producer(config)
        for record in records:
            producer.produce(
                topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                partition=partition,
                timestamp=record.timestamp,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
        assert producer.flush(WAIT_S) == 0
        if failures:
            raise rd.KafkaException(failures[0])

    @staticmethod
    def consume(
        bootstrap: str, topic: str, starts: Mapping[int, int], count: int, **options: Any
    ) -> list[Seen]:
        consumer = rd.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "none",
                "enable.auto.commit": False,
                "check.crcs": True,
                "fetch.wait.max.ms": 100,
                **options,
            }
        )
        seen: list[Seen] = []
        deadline = time.monotonic() + WAIT_S
        try:
            consumer.assign([rd.TopicPartition(topic, *start) for start in starts.items()])
            while len(seen) < count and time.monotonic() < deadline:
                message = consumer.poll(1.0)
                if message is None:
                    continue
                if message.error():
                    raise rd.KafkaException(message.error())
                seen.append(
                    Seen(
                        message.partition(),
                        message.offset(),
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        tuple(message.headers() or ()),
                    )
                )
        finally:
            consumer.close()
        return seen


class KafkaPython:
    name = "kafka-python"

    @staticmethod
    def can_say(record: Sent) -> bool:
        if record.key is None and record.value is None:
            return False
        return all(value is not None for _, value in record.headers)

    @staticmethod
    def produce(
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = False,
        **options: Any,
    ) -> None:
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            linger_ms=20,
            **options,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    record.value,
                    record.key,
                    list(record.headers),
                    partition,
                    record.timestamp or None,
                )
                for record in records
            ]
            producer.flush(WAIT_S)
            for future in futures:
                future.get(WAIT_S)
        finally:
            producer.close()

    @staticmethod
    def consume(
        bootstrap: str, topic: str, starts: Mapping[int, int], count: int, **options: Any
    ) -> list[Seen]:
        consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap, **{"fetch_max_wait_ms": 100, **options}
        )
        seen: list[Seen] = []
        deadline = time.monotonic() + WAIT_S
        try:
            consumer.assign([kafka.TopicPartition(topic, index) for index in starts])
            for index, offset in starts.items():
                consumer.seek(kafka.TopicPartition(topic, index), offset)
            while len(seen) < count and time.monotonic() < deadline:
                for rows in consumer.poll(timeout_ms=1000).values():
                    seen += map(_seen_by_python, rows)
        finally:
            consumer.close()
        return seen


class AioKafka:
    name = "aiokafka"

    @staticmethod
    def can_say(record: Sent) -> bool:
        return record.key is not None or record.value is not None

    @classmethod
    def produce(cls, *args: Any, **options: Any) -> None:
        asyncio.run(cls._produce(*args, **options))

    @staticmethod
    async def _produce(
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        partition: int = 0,
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = False,
        **options: Any,
    ) -> None:
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            linger_ms=20,
            **options,
        ) as producer:
            futures = [
                await producer.send(
                    topic,
                    record.value,
                    record.key,
                    partition,
                    record.timestamp or None,
                    list(record.headers),
                )
                for record in records
            ]
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*futures)

    @classmethod
    def consume(cls, *args: Any, **options: Any) -> list[Seen]:
        return asyncio.run(cls._consume(*args, **options))

    @staticmethod
    async def _consume(
        bootstrap: str, topic: str, starts: Mapping[int, int], count: int, **options: Any
    ) -> list[Seen]:
        seen: list[Seen] = []
        async with aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap, **{"fetch_max_wait_ms": 100, **options}
        ) as consumer:
            consumer.assign([aiokafka.TopicPartition(topic, index) for index in starts])
            for index, offset in starts.items():
                consumer.seek(aiokafka.TopicPartition(topic, index), offset)
            async with asyncio.timeout(WAIT_S):
                while len(seen) < count:
                    for rows in (await consumer.getmany(timeout_ms=1000)).values():
                        seen += map(_seen_by_python, rows)
        return seen


def _seen_by_python(row: Any) -> Seen:
    headers = tuple((name, value) for name, value in row.headers or ())
    return Seen(row.partition, row.offset, row.timestamp, row.key, row.value, headers)


PEERS: Final[dict[str, Any]] = {
    peer.name: peer for peer in (Confluent, KafkaPython, AioKafka, Kcat)
}

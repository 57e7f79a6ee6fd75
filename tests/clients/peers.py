"""Clients that nobody here wrote, behind one face: produce records, consume them from offsets.

Each peer is a class with `produce` and `consume`; what a client's interface cannot say (a null
header value, a record that is neither key nor value) is left out by its `can_say`. Consumers are
assigned their partitions: nothing here needs a group.
"""

import asyncio
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiokafka
import confluent_kafka as rd
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own use of importlib.resources
    import kafka

WAIT_S: Final = 30
"""How long a client may take for what should take no time: a hang, not a speed, is the error."""
MARKS: Final = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")

Headers = tuple[tuple[str, bytes | None], ...]


class Sent(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0
    """In ms; 0 leaves it to the client."""


class Seen(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def sent(self) -> Sent:
        return Sent(self.key, self.value, self.headers, self.timestamp)


def telling_records(now_ms: int) -> list[Sent]:
    """What a client could get wrong: nulls, emptiness, duplicates, bytes that are no text."""
    rows: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b"key", b"value", (("h", b"1"),)),
        (None, b"null key", ()),
        (b"", b"empty key", ()),
        (b"null value", None, ()),
        (b"empty value", b"", ()),
        (None, None, ()),
        (b"", b"", ()),
        (b"\x00\xff\n\r\t", bytes(range(256)), (("bytes", bytes(range(256))),)),
        (b"duplicates", b"d", (("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"1"))),
        (b"null header", b"n", (("gone", None), ("empty", b""))),
        (
            b"not ascii",
            "žluťoučký 🐎".encode(),
            (("ключ", "значение".encode()), ("", b"")),
        ),
        (b"large", b"0123456789abcdef" * 2048, ()),
    ]
    rows += [(b"k%d" % n, b"value %d " % n * (n % 9), ()) for n in range(40)]
    spread = (0, 5, -3, 60_000, 7)  # not in order of time
    return [
        Sent(*row, timestamp=now_ms - 120_000 + n + spread[n % 5]) for n, row in enumerate(rows)
    ]


class Confluent:
    """librdkafka, by confluent-kafka."""

    name = "confluent"
    can_be_idempotent = True

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
    can_be_idempotent = True

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
    can_be_idempotent = True

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


class Kcat:
    """librdkafka as Debian has it; its command line is text, so it says little."""

    name = "kcat"
    can_be_idempotent = True

    @staticmethod
    def can_say(record: Sent) -> bool:
        """One line of text `key:value`, with headers and a timestamp that are not ours to give."""
        return bool(
            not record.headers
            and record.key
            and record.value is not None
            and re.fullmatch(rb"[ -9;-~]*", record.key + record.value)
        )

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
    ) -> None:
        lines = b"".join(b"%b:%b\n" % (record.key, record.value) for record in records)
        settings = (f"acks={acks}", f"enable.idempotence={str(idempotent).lower()}")
        arguments = ["-P", "-t", topic, "-p", str(partition), "-K:", "-z", codec]
        run_kcat(bootstrap, *arguments, *_each("-X", settings), text=lines)

    @staticmethod
    def consume(
        bootstrap: str, topic: str, starts: Mapping[int, int], count: int, **_: Any
    ) -> list[Seen]:
        seen: list[Seen] = []
        for index, offset in starts.items():
            wanted = ["-C", "-q", "-e", "-t", topic, "-p", str(index), "-o", str(offset)]
            wanted += ["-X", "fetch.wait.max.ms=50"]
            output = run_kcat(bootstrap, *wanted, "-f", KCAT_FORMAT)
            seen += _parse_kcat(index, output)
        return seen


KCAT_FORMAT: Final = r"%o %T %K %S %k%s%h\x1e"
_KCAT_FRAME: Final = re.compile(rb"(\d+) (-?\d+) (-?\d+) (-?\d+) ")


needs_kcat = pytest.mark.skipif(
    shutil.which("kcat") is None, reason="kcat is not installed (Debian: apt install kcat)"
)


def run_kcat(bootstrap: str, *arguments: str, text: bytes = b"") -> bytes:
    done = subprocess.run(
        ["kcat", "-b", bootstrap, *arguments], input=text, capture_output=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _parse_kcat(partition: int, output: bytes) -> list[Seen]:
    """Frames of `KCAT_FORMAT`. kcat tells headers as `name=value,…`, which we read where the
    bytes leave no doubt."""
    seen, at = [], 0
    while at < len(output):
        match = _KCAT_FRAME.match(output, at)
        assert match, output[at : at + 80]
        offset, timestamp, key_size, value_size = map(int, match.groups())
        key_end = match.end() + max(key_size, 0)
        value_end = key_end + max(value_size, 0)
        key = output[match.end() : key_end] if key_size >= 0 else None
        value = output[key_end:value_end] if value_size >= 0 else None
        end = output.index(b"\x1e", value_end)
        headers = _parse_kcat_headers(output[value_end:end])
        seen.append(Seen(partition, offset, timestamp, key, value, headers))
        at = end + 1
    return seen


def _parse_kcat_headers(text: bytes) -> Headers:
    pairs = (pair.partition(b"=") for pair in text.split(b",") if pair)
    return tuple((name.decode(), None if value == b"NULL" else value) for name, _, value in pairs)


def _each(flag: str, values: Iterable[str]) -> Iterable[str]:
    for value in values:
        yield flag
        yield value


def _seen_by_python(row: Any) -> Seen:
    headers = tuple((name, value) for name, value in row.headers or ())
    return Seen(row.partition, row.offset, row.timestamp, row.key, row.value, headers)


PEERS: Final[dict[str, Any]] = {
    peer.name: peer for peer in (Confluent, KafkaPython, AioKafka, Kcat)
}

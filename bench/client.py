"""`./dev bench client`: Ottla's client beside confluent-kafka, aiokafka and kafka-python.

    ./dev bench client [--quick] [--rounds N] [--only REGEX]

One broker (`ottla serve`, in a process of its own), one topic for each run, every run in a fresh
process; rounds are interleaved and medians are printed: records a second, CPU seconds of the
client for a million records, and the peak of its memory. All clients produce idempotently with
acks=all, 5 ms of linger and batches of 128 KiB; values are compressible text.

Ottla's client has no native record kernel yet: its figures are those of pure Python.
"""

import argparse
import asyncio
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
BATCH_BYTES: Final = 128 * 1024
LINGER_MS: Final = 5
COUNTS: Final = {"ottla": 400_000, "confluent": 400_000, "aiokafka": 60_000, "kafka-python": 40_000}
FILLED: Final = "filled"


def values(count: int, size: int) -> list[bytes]:
    text = b"The quick brown fox jumps over the lazy dog. " * (size // 40 + 1)
    return [(b"%08d " % n + text)[:size] for n in range(count)]


# --- producing --------------------------------------------------------------------------------


def ottla_producer(bootstrap: str, codec: str) -> Any:
    import ottla

    return ottla.Producer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
    )


def ottla_send_many(bootstrap: str, topic: str, codec: str, rows: list[bytes]) -> None:
    async def run() -> None:
        async with ottla_producer(bootstrap, codec) as producer:
            await (await producer.send_many(topic, rows))

    asyncio.run(run())


def ottla_send(bootstrap: str, topic: str, codec: str, rows: list[bytes]) -> None:
    async def run() -> None:
        async with ottla_producer(bootstrap, codec) as producer:
            for row in rows:
                await producer.send(topic, row)
            await producer.flush()

    asyncio.run(run())


def confluent_produce(bootstrap: str, topic: str, codec: str, rows: list[bytes]) -> None:
    import confluent_kafka

    failures: list[Any] = []
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": True,
            "batch.size": BATCH_BYTES,
            "linger.ms": LINGER_MS,
            "on_delivery": lambda error, _: failures.append(error) if error else None,
        }
    )
    for row in rows:
        while True:
            try:
                producer.produce(topic, row)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert not failures


def aiokafka_send(bootstrap: str, topic: str, codec: str, rows: list[bytes]) -> None:
    import aiokafka

    async def run() -> None:
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
        ) as producer:
            futures = [await producer.send(topic, row) for row in rows]
            await asyncio.gather(*futures)

    asyncio.run(run())


def kafka_python_send(bootstrap: str, topic: str, codec: str, rows: list[bytes]) -> None:
    import kafka

    producer = kafka.KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=True,
        batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
    )
    for row in rows:
        producer.send(topic, row)
    producer.flush(120)
    producer.close()


# --- consuming --------------------------------------------------------------------------------


def ottla_consume(bootstrap: str, topic: str, count: int, *, by_batch: bool) -> None:
    import ottla

    async def run() -> None:
        async with ottla.Consumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign([(topic, 0)])
            left = count
            if by_batch:
                async for columns in consumer.batches():
                    left -= len(columns)
                    if left <= 0:
                        return
            async for _ in consumer:
                left -= 1
                if left <= 0:
                    return

    asyncio.run(run())


def confluent_consume(bootstrap: str, topic: str, count: int, *, by_batch: bool) -> None:
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    left = count
    while left > 0:
        if by_batch:
            left -= len([each.value() for each in consumer.consume(1_000, 1.0)])
        elif (message := consumer.poll(1.0)) is not None:
            message.value()
            left -= 1
    consumer.close()


def aiokafka_consume(bootstrap: str, topic: str, count: int, *, by_batch: bool) -> None:
    import aiokafka

    async def run() -> None:
        async with aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            place = aiokafka.TopicPartition(topic, 0)
            consumer.assign([place])
            consumer.seek(place, 0)
            left = count
            while left > 0:
                if by_batch:
                    found = await consumer.getmany(timeout_ms=1_000)
                    left -= sum(map(len, found.values()))
                else:
                    await consumer.getone()
                    left -= 1

    asyncio.run(run())


def kafka_python_consume(bootstrap: str, topic: str, count: int, *, by_batch: bool) -> None:
    import kafka

    consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap)
    place = kafka.TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    left = count
    while left > 0:
        if by_batch:
            left -= sum(map(len, consumer.poll(1_000).values()))
        else:
            next(consumer)
            left -= 1
    consumer.close()


PRODUCE: Final[dict[str, Callable[..., None]]] = {
    "ottla send_many": ottla_send_many,
    "ottla send": ottla_send,
    "confluent": confluent_produce,
    "aiokafka": aiokafka_send,
    "kafka-python": kafka_python_send,
}
CONSUME: Final[dict[str, Callable[..., None]]] = {
    "ottla": ottla_consume,
    "confluent": confluent_consume,
    "aiokafka": aiokafka_consume,
    "kafka-python": kafka_python_consume,
}


# --- one run, in a process of its own ---------------------------------------------------------


def one(bootstrap: str, what: str, client: str, codec: str, size: int, count: int) -> None:
    """Run it, and print a line of JSON."""
    warnings.simplefilter("ignore")
    rows = values(count, size) if what == "produce" else []
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    if what == "produce":
        PRODUCE[client](bootstrap, f"p-{time.time_ns()}", codec, rows)
    else:
        by_batch = what == "consume batch"
        CONSUME[client](bootstrap, f"{FILLED}-{codec}-{size}", count, by_batch=by_batch)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"rate": count / seconds, "cpu": cpu / count * 1e6, "rss": peak_mib()}
    print(json.dumps(found))


def peak_mib() -> float:
    """Of this program alone: the peak that getrusage tells outlives an exec."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def cases() -> list[tuple[str, str, str, int]]:
    """(what, client, codec, value bytes) of every run."""
    found = []
    for codec, size in (("none", 100), ("lz4", 100), ("zstd", 100), ("none", 1024)):
        found += [("produce", client, codec, size) for client in PRODUCE]
        for what in ("consume batch", "consume record"):
            found += [(what, client, codec, size) for client in CONSUME]
    return found


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["one"]:
        bootstrap, what, client, codec, size, count = arguments[1:]
        one(bootstrap, what, client, codec, int(size), int(count))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="regular expression over what is measured")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "ottla.cli", "serve", "--listen", "127.0.0.1:0"]
        broker = subprocess.Popen(
            [*command, "--data", data], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert broker.stdout is not None
            bootstrap = broker.stdout.readline().split()[2]
            measure(bootstrap, chosen)
        finally:
            broker.terminate()
            broker.wait()
    return 0


def measure(bootstrap: str, chosen: argparse.Namespace) -> None:
    wanted = [case for case in cases() if re.search(chosen.only, " ".join(map(str, case)))]
    share = 4 if chosen.quick else 1
    for codec, size in dict.fromkeys((case[2], case[3]) for case in wanted):
        rows = values(max(COUNTS.values()) // share, size)
        ottla_send_many(bootstrap, f"{FILLED}-{codec}-{size}", codec, rows)
    found: dict[tuple[str, str, str, int], list[dict[str, float]]] = {}
    for _ in range(chosen.rounds):
        for case in wanted:
            what, client, codec, size = case
            count = COUNTS[client.split()[0]] // share
            call = [bootstrap, what, client, codec, str(size), str(count)]
            done = subprocess.run(
                [sys.executable, "-m", "bench.client", "one", *call],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                check=True,
            )
            found.setdefault(case, []).append(json.loads(done.stdout.splitlines()[-1]))
    report(found)


def report(found: dict[tuple[str, str, str, int], list[dict[str, float]]]) -> None:
    print("| what | client | records/s | to confluent | CPU s/million | MiB |")
    print("|--|--|--:|--:|--:|--:|")
    medians = {
        case: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for case, rows in found.items()
    }
    for (what, client, codec, size), row in medians.items():
        other = medians.get((what, "confluent", codec, size))
        ratio = f"{row['rate'] / other['rate']:.2f}" if other else ""
        print(
            f"| {what} {size} B {codec} | {client} | {row['rate']:,.0f} | {ratio} | "
            f"{row['cpu']:.2f} | {row['rss']:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`./dev bench client`: Ottla's client beside confluent-kafka, aiokafka and kafka-python.

    ./dev bench client [--quick] [--rounds N] [--only REGEX] [--readme]

One broker (`ottla serve`, in a process of its own), one topic for each run, every run in a fresh
process; rounds are interleaved and medians are printed: records a second, their ratio to
confluent-kafka's in the same run, CPU seconds of the client for a million records, and the peak
of its memory. Loading a library is not counted. All clients produce idempotently with acks=all,
5 ms of linger and batches of 128 KiB; values are compressible text, keys one of a thousand.
Who consumes by batch takes out all values, as a list. `pure` is Ottla's client with the record
kernel's Python twin. A figure that misses its bound says so (`BOUNDS`; of `pure`, aiokafka's rate).
`--readme` puts the figures into README.md, a line for each case.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.bench import write_between

ROOT: Final = Path(__file__).resolve().parents[1]
BATCH_BYTES: Final = 128 * 1024
LINGER_MS: Final = 5
COUNTS: Final = {
    "ottla": 800_000,
    "pure": 200_000,
    "confluent": 800_000,
    "aiokafka": 60_000,
    "kafka-python": 40_000,
}
LARGE_SHARE: Final = 4
"""Of 1 KiB it is so much less."""
FILLED: Final = "filled"
LIBRARIES: Final = {
    "ottla": "ottla.embed.clients",
    "pure": "ottla.embed.clients",
    "confluent": "confluent_kafka",
    "aiokafka": "aiokafka",
    "kafka-python": "kafka",
}
"""What is loaded before the clock starts: of Ottla too all that a client needs."""

BOUNDS: Final = {
    ("produce", "ottla send_many"): ("confluent", 2.0),
    ("produce", "ottla send"): ("confluent", 1.0),
    ("produce", "pure send_many"): ("aiokafka", 1.0),
    ("produce", "pure send"): ("aiokafka", 1.0),
    ("consume batch", "ottla"): ("confluent", 3.0),
    ("consume batch", "pure"): ("aiokafka", 1.0),
    ("consume record", "ottla"): ("confluent", 1.0),
    ("consume record", "pure"): ("aiokafka", 1.0),
}
"""Of (what, client): the least ratio of its rate to another client's."""

Rows = list[tuple[bytes | None, bytes]]


def values(count: int, size: int) -> list[bytes]:
    """Values of which every ten-thousandth is the same, so that their own memory is small."""
    text = b"The quick brown fox jumps over the lazy dog. " * (size // 40 + 1)
    different = [(b"%08d " % n + text)[:size] for n in range(min(count, 10_000))]
    return [different[n % len(different)] for n in range(count)]


def rows_of(count: int, size: int, keyed: str) -> Rows:
    keys = [b"key-%d" % n for n in range(1_000)]
    found = enumerate(values(count, size))
    return [(keys[n % len(keys)] if keyed == "key" else None, value) for n, value in found]


# --- producing --------------------------------------------------------------------------------


def ottla_producer(bootstrap: str, codec: str) -> Any:
    import ottla

    return ottla.Producer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
    )


def ottla_send_many(bootstrap: str, topic: str, codec: str, rows: Rows) -> None:
    async def run() -> None:
        async with ottla_producer(bootstrap, codec) as producer:
            has_keys = rows[0][0] is not None
            await (await producer.send_many(topic, rows if has_keys else [row[1] for row in rows]))

    asyncio.run(run())


def ottla_send(bootstrap: str, topic: str, codec: str, rows: Rows) -> None:
    async def run() -> None:
        async with ottla_producer(bootstrap, codec) as producer:
            for key, value in rows:
                await producer.send(topic, value, key=key)
            await producer.flush()

    asyncio.run(run())


def confluent_produce(bootstrap: str, topic: str, codec: str, rows: Rows) -> None:
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
    for key, value in rows:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert not failures


def aiokafka_send(bootstrap: str, topic: str, codec: str, rows: Rows) -> None:
    import aiokafka

    async def run() -> None:
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
        ) as producer:
            futures = [await producer.send(topic, value, key) for key, value in rows]
            await asyncio.gather(*futures)

    asyncio.run(run())


def kafka_python_send(bootstrap: str, topic: str, codec: str, rows: Rows) -> None:
    import kafka

    producer = kafka.KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=True,
        batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
    )
    for key, value in rows:
        producer.send(topic, value, key)
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
                    left -= len(columns.values)
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
    "pure send_many": ottla_send_many,
    "pure send": ottla_send,
    "confluent": confluent_produce,
    "aiokafka": aiokafka_send,
    "kafka-python": kafka_python_send,
}
CONSUME: Final[dict[str, Callable[..., None]]] = {
    "ottla": ottla_consume,
    "pure": ottla_consume,
    "confluent": confluent_consume,
    "aiokafka": aiokafka_consume,
    "kafka-python": kafka_python_consume,
}


# --- one run, in a process of its own ---------------------------------------------------------


def one(bootstrap: str, case: "Case", count: int) -> None:
    """Run it, and print a line of JSON."""
    warnings.simplefilter("ignore")
    library = case.client.split()[0]
    import_module(LIBRARIES[library])
    rows = rows_of(count, case.size, case.keyed) if case.what == "produce" else []
    if case.what == "produce":
        run = partial(PRODUCE[case.client], bootstrap, f"p-{time.time_ns()}", case.codec, rows)
    else:
        by_batch = case.what == "consume batch"
        run = partial(CONSUME[case.client], bootstrap, case.filled, count, by_batch=by_batch)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"rate": count / seconds, "cpu": cpu / count * 1e6, "rss": peak_mib()}
    print(json.dumps(found))


def peak_mib() -> float:
    """Of this program alone: the peak that getrusage tells outlives an exec."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


class Case(NamedTuple):
    what: str
    client: str
    codec: str
    size: int
    keyed: str

    @property
    def filled(self) -> str:
        """The topic that is read."""
        return f"{FILLED}-{self.codec}-{self.size}"

    def count(self, share: int) -> int:
        count = COUNTS[self.client.split()[0]] // share
        return count if self.size < 1_024 else count // LARGE_SHARE


def cases() -> list[Case]:
    found = []
    for size in (100, 1_024):
        for codec in ("none", "lz4", "zstd"):
            for keyed in ("no key", "key"):
                found += [Case("produce", client, codec, size, keyed) for client in PRODUCE]
            for what in ("consume batch", "consume record"):
                found += [Case(what, client, codec, size, "") for client in CONSUME]
    return found


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["one"]:
        bootstrap, what, client, codec, size, keyed, count = arguments[1:]
        one(bootstrap, Case(what, client, codec, int(size), keyed), int(count))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="regular expression over what is measured")
    parser.add_argument("--readme", action="store_true", help="write the figures into README.md")
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
    for size, codec in dict.fromkeys((case.size, case.codec) for case in wanted):
        case = Case("produce", "ottla", codec, size, "no key")
        ottla_send_many(bootstrap, case.filled, codec, rows_of(case.count(share), size, "no key"))
    found: dict[Case, list[dict[str, float]]] = {}
    for _ in range(chosen.rounds):
        for case in wanted:
            call = [bootstrap, *map(str, case), str(case.count(share))]
            done = subprocess.run(
                [sys.executable, "-m", "bench.client", "one", *call],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                check=True,
                env={**os.environ, "OTTLA_PURE": "1" if case.client[:4] == "pure" else "0"},
            )
            found.setdefault(case, []).append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        case: Figures(*(statistics.median(row[name] for row in rows) for name in Figures._fields))
        for case, rows in found.items()
    }
    print("\n".join(table(medians)))
    if chosen.readme:
        command = "./dev bench client" + (" --quick" if chosen.quick else "")
        lines = "\n".join([*summary(medians, "produce"), "", *summary(medians, "consume")])
        write_between("client", f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: {NOTE}\n\n{lines}")


class Figures(NamedTuple):
    rate: float
    cpu: float
    rss: float


NOTE: Final = (
    "in each cell thousands of records a second, their ratio to confluent-kafka's, CPU seconds of "
    "the client for a million records, and its memory at the most. Broker and client on the same "
    "cores; *pure* is Ottla without its compiled kernel."
)


def table(medians: dict[Case, Figures]) -> Iterator[str]:
    yield "| what | client | records/s | to confluent | CPU s/million | MiB |"
    yield "|--|--|--:|--:|--:|--:|"
    for case, row in medians.items():
        yield (
            f"| {case.what} {case.size} B {case.codec} {case.keyed} | {case.client} | "
            f"{row.rate:,.0f} | {ratio_of(medians, case)} | {row.cpu:.2f} | {row.rss:.0f} |"
        )


def summary(medians: dict[Case, Figures], kind: str) -> Iterator[str]:
    """A line for each case, a column for each client."""
    measured = [case for case in medians if case.what.startswith(kind)]
    clients = list(dict.fromkeys(case.client for case in measured))
    yield f"| {kind} | {' | '.join(clients)} |"
    yield "|--" * (1 + len(clients)) + "|"
    for case in dict.fromkeys(each._replace(client="") for each in measured):
        name = f"{case.what.removeprefix(kind)} {case.size} B {case.codec} {case.keyed}".strip()
        cells = [cell(medians, case._replace(client=client)) for client in clients]
        yield f"| {name} | {' | '.join(cells)} |"


def cell(medians: dict[Case, Figures], case: Case) -> str:
    row = medians.get(case)
    if row is None:
        return ""
    ratio = ratio_of(medians, case)
    return f"{row.rate / 1e3:,.0f} · **{ratio}** · {row.cpu:.2f} s · {row.rss:.0f} MiB"


def ratio_of(medians: dict[Case, Figures], case: Case) -> str:
    """To confluent-kafka's rate, and whether a bound is missed."""
    rate = medians[case].rate
    theirs = medians.get(case._replace(client="confluent"))
    ratio = f"{rate / theirs.rate:.2f}" if theirs else "–"
    other, least = BOUNDS.get((case.what, case.client), ("", 0.0))
    bound = medians.get(case._replace(client=other))
    is_missed = bound is not None and rate < least * bound.rate
    return f"{ratio} (missed)" if is_missed else ratio


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`./dev bench transactions`: what transactions cost, beside Apache Kafka in the same run.

    ./dev bench transactions [--quick] [--rounds N] [--only BROKER] [--readme]

Commits a second by 1, 10 and 100 producers with 1 and 100 records of 100 B each, in one partition
for each producer; the time that a transaction takes. What idempotence costs: a producer with five
batches in flight, with and without. What read_committed costs: a consumer of transactions of ten
records, every tenth of them aborted. Brokers take turns; figures are medians of the rounds.
The load is `transacting`, which says of itself how much of a core it took: brokers and load share
the machine's cores.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import transacting
from bench.bench import write_between
from tests.tools.kafka_broker import kafka_broker
from tests.tools.serving import serving

PRODUCERS: Final = (1, 10, 100)
RECORDS: Final = (1, 100)
BROKERS: Final = ("kafka", "ottla", "ottla-noflush")
READ_PARTITION: Final = 100
SETTINGS: Final = {
    "offsets.topic.num.partitions": "10",
    "transaction.state.log.num.partitions": "10",
}
Figures = dict[str, float]


@contextmanager
def started(name: str, folder: Path) -> Iterator[int]:
    """A broker on an empty directory; its port."""
    if name == "kafka":
        with kafka_broker(folder, SETTINGS) as kafka:
            yield kafka.port
        return
    flush = {"flush.on.ack": str(name == "ottla").lower()}
    with serving(folder / "data", {**SETTINGS, **flush}) as ottla:
        yield ottla.port


async def measure(port: int, seconds: float, count: int) -> Figures:
    figures: Figures = {}
    await transacting.make_topic(port, READ_PARTITION + 1)
    # Before what is measured: a JVM is slow at first.
    await transacting.transactions(port, 10, 1, seconds)
    for records in RECORDS:
        for producers in PRODUCERS:
            rate = await transacting.transactions(port, producers, records, seconds)
            name = f"{producers} × {records}"
            figures[f"{name}|transactions/s"] = rate.per_s
            figures[f"{name}|p50 ms"] = rate.p50_ms
            figures[f"{name}|p99 ms"] = rate.p99_ms
            figures[f"{name}|load, cores"] = rate.client_share
    for name, is_idempotent in (("plain", False), ("idempotent", True)):
        rate = await transacting.produce(port, seconds, is_idempotent=is_idempotent)
        figures[f"produce, {name}|records/s"] = rate.per_s
    await transacting.fill(port, READ_PARTITION, count)
    for name, is_committed in (("read_uncommitted", False), ("read_committed", True)):
        rate_mb = await transacting.read(port, READ_PARTITION, seconds, is_committed=is_committed)
        figures[f"{name}|MB/s"] = rate_mb
    return figures


def table(rounds: dict[str, list[Figures]]) -> str:
    names = [name for name in BROKERS if name in rounds]
    titles = {
        "kafka": "Kafka",
        "ottla": "Ottla",
        "ottla-noflush": "Ottla, `flush.on.ack=false`",
    }
    lines = [
        "| producers × records | figure | " + " | ".join(titles[name] for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for key in rounds[names[0]][0]:
        test, figure = key.split("|")
        medians = {name: statistics.median(each[key] for each in rounds[name]) for name in names}
        cells = []
        for name in names:
            text = f"{medians[name]:,.0f}" if medians[name] >= 100 else f"{medians[name]:.2f}"
            if "kafka" in medians and name != "kafka" and "load" not in figure:
                text += f" = {medians[name] / medians['kafka']:.2f} ×"
            cells.append(text)
        lines.append(f"| {test} | {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev bench transactions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seconds for each figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=BROKERS, action="append")
    parser.add_argument("--readme", action="store_true")
    chosen = parser.parse_args(arguments)
    seconds, count = (2.0, 1_000) if chosen.quick else (10.0, 10_000)
    rounds: dict[str, list[Figures]] = {}
    for _ in range(chosen.rounds):
        for name in chosen.only or BROKERS:
            folder = Path(tempfile.mkdtemp(prefix="bench-transactions-"))
            try:
                with started(name, folder) as port:
                    figures = asyncio.run(measure(port, seconds, count))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            rounds.setdefault(name, []).append(figures)
            print(name, {key: round(value, 2) for key, value in figures.items()}, flush=True)
    text = table(rounds)
    print(text)
    if chosen.readme:
        quick = " --quick" if chosen.quick else ""
        head = (
            f"`./dev bench transactions{quick}`: medians of {chosen.rounds} rounds in turns, load"
            " and broker on the same cores; ratios are to Kafka's figure."
        )
        write_between("transactions", f"{head}\n\n{text}")
    return 0

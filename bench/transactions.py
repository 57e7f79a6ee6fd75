"""`./dev bench transactions`: what transactions cost, beside Apache Kafka in the same run.

    ./dev bench transactions [--quick] [--rounds N] [--only BROKER] [--readme]

Commits a second by 1, 10 and 100 producers with 1 and 100 records of 100 B each, in one partition
for each producer; the time that a transaction takes. What idempotence costs: a producer with five
batches in flight, with and without. What read_committed costs: a consumer of transactions of ten
records, every tenth of them aborted. Brokers take turns; figures are medians of the rounds.
The load is `transacting`, which says of itself how much of a core it took: brokers and load share
the machine's cores.
"""

import asyncio
from typing import Final

from bench import transacting
from bench.turns import Figures, Turns

PRODUCERS: Final = (1, 10, 100)
RECORDS: Final = (1, 100)
READ_PARTITION: Final = 100
SETTINGS: Final = {
    "offsets.topic.num.partitions": "10",
    "transaction.state.log.num.partitions": "10",
}


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


def main(arguments: list[str]) -> int:
    turns = Turns("transactions", __doc__, "producers × records", SETTINGS)
    chosen = turns.parser().parse_args(arguments)
    seconds, count = (2.0, 1_000) if chosen.quick else (10.0, 10_000)
    return turns.run(chosen, lambda broker: asyncio.run(measure(broker.port, seconds, count)))

"""`./dev bench groups`: what consumer groups cost, beside Apache Kafka in the same run.

    ./dev bench groups [--quick] [--rounds N] [--only BROKER] [--readme]

Join: from the subscription of 1, 10 and 100 members (librdkafka's, in one process) of a new group
to the first record of the median and of the last one; a hundred partitions, heartbeats every half
second. Heartbeats: of 128 groups of a member each, over 16 connections with 8 in flight.
Commits: of ten thousand groups of a member each, over as many connections; and what the resident
memory of the broker (Kafka: its live objects) grew by when they joined and committed first. All
of it for the classic protocol and for the new one (KIP-848). Brokers take turns on empty
directories; figures are medians of the rounds. The load is `grouping`. What it and the broker took
of a core stands beside the figures: a broker of one thread near 1 is itself the bound, and both
cannot have more than the machine has.
"""

import asyncio
import statistics
import time
from typing import Any, Final

from bench import grouping
from bench.grouping import CONNECTIONS, IN_FLIGHT, SESSION_MS, Rate, join_all, pumped
from bench.transacting import TOPIC, Connection, make_topic, patiently
from bench.turns import Figures, Running, Turns
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest

PROTOCOLS: Final = ("classic", "consumer")
MEMBERS: Final = (1, 10, 100)
PARTITIONS: Final = 100
BEATING_GROUPS: Final = CONNECTIONS * IN_FLIGHT
JOIN_PATIENCE_S: Final = 120
FIND_VERSION: Final = 3
SETTINGS: Final = {
    "offsets.topic.num.partitions": "10",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.max.session.timeout.ms": str(SESSION_MS),
}


# --- heartbeats and commits -------------------------------------------------------------------


async def steady(broker: Running, protocol: str, seconds: float, count: int) -> Figures:
    """Heartbeats and commits."""
    figures: Figures = {}

    def tell(test: str, rate: Rate) -> None:
        figures[f"{test}, {protocol}|requests/s"] = rate.per_s
        figures[f"{test}, {protocol}|broker, cores"] = rate.broker_cores
        figures[f"{test}, {protocol}|load, cores"] = rate.load_cores

    beating = [f"beating-{protocol}-{number}" for number in range(BEATING_GROUPS)]
    beats = await join_all(broker, protocol, beating, "heartbeat")
    await pumped(broker, beats, seconds)  # a JVM is slow at first
    tell("heartbeats", await pumped(broker, beats, seconds))
    before = broker.memory_bytes()
    committing = [f"committing-{protocol}-{number}" for number in range(count)]
    commits = await join_all(broker, protocol, committing, "commit")
    each = (broker.memory_bytes() - before) / count
    test = f"commits of {count:,} groups"
    tell(test, await pumped(broker, commits, seconds))
    figures[f"{test}, {protocol}|memory of a group, KiB"] = each / 1024
    return figures


# --- from the subscription to the first record ------------------------------------------------


def join_time(broker: Running, protocol: str, count: int, group: str) -> Figures:
    import confluent_kafka as rd

    options: dict[str, Any] = {
        "bootstrap.servers": f"127.0.0.1:{broker.port}",
        "group.id": group,
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "log_level": 0,
    }
    if protocol == "classic":
        options |= {"heartbeat.interval.ms": 500, "partition.assignment.strategy": "range"}
    waiting = [rd.Consumer(options) for _ in range(count)]
    everyone = list(waiting)
    took: list[float] = []
    began = time.monotonic()
    for consumer in waiting:
        consumer.subscribe([TOPIC])
    while waiting:
        if time.monotonic() > began + JOIN_PATIENCE_S:
            raise RuntimeError(f"{len(waiting)} of {count} members have no record yet")
        for consumer in everyone:
            message = consumer.poll(0.001)
            if message is not None and not message.error() and consumer in waiting:
                took.append(time.monotonic() - began)
                waiting.remove(consumer)
    for consumer in everyone:
        consumer.close()
    test = f"join of {count}, {protocol}"
    return {f"{test}|median ms": statistics.median(took) * 1e3, f"{test}|last ms": took[-1] * 1e3}


def fill(broker: Running) -> None:
    """A few records for each partition, so that each member finds some whenever it comes."""
    import confluent_kafka as rd

    producer = rd.Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "log_level": 0})
    for partition in range(PARTITIONS):
        for _ in range(10):
            producer.produce(TOPIC, b"v" * 100, partition=partition)
    assert producer.flush(60) == 0


async def prepare(broker: Running) -> None:
    """The topics, and a coordinator."""
    await make_topic(broker.port, PARTITIONS)
    await make_topic(broker.port, 1, grouping.TOPIC)
    connection = await Connection.open(broker.port)

    async def find() -> tuple[int, Any]:
        answer = await connection.ask(FindCoordinatorRequest(key="g", key_type=0), FIND_VERSION)
        return answer.error_code, answer

    await patiently(find)
    connection.close()


# --- the run ----------------------------------------------------------------------------------


def measure(broker: Running, seconds: float, count: int) -> Figures:
    asyncio.run(prepare(broker))
    fill(broker)
    figures: Figures = {}
    join_time(broker, "classic", 10, "before what is measured")
    for protocol in PROTOCOLS:
        for members in MEMBERS:
            figures |= join_time(broker, protocol, members, f"joining-{protocol}-{members}")
    for protocol in PROTOCOLS:
        figures |= asyncio.run(steady(broker, protocol, seconds, count))
    return figures


def main(arguments: list[str]) -> int:
    turns = Turns("groups", __doc__, "test", SETTINGS)
    parser = turns.parser()
    parser.add_argument("--groups", type=int, default=10_000, help="how many of them commit")
    chosen = parser.parse_args(arguments)
    seconds = 2.0 if chosen.quick else 10.0
    return turns.run(chosen, lambda broker: measure(broker, seconds, chosen.groups))

"""How long the fixtures of `ottla.testing` make a test wait: medians of many rounds, alone.

    a broker        started in this process, in a directory of its own
    a topic         made by an admin that connects for it, as `kafka_topic` does
    a producer      connected
    a consumer      in a group of its own, until it has its first record
    the end         of all of it

The first three are what a test waits for before it begins; a broker is started once for a session.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from ottla import SyncAdmin, SyncConsumer, SyncProducer
from ottla.client.rows import NewTopic
from ottla.testing import Broker

STEPS = ("a broker", "a topic", "a producer", "a consumer", "the end")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench ready", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args(arguments).rounds
    list(one_round())  # which imports
    times = [list(one_round()) for _ in range(rounds)]
    print(f"`./dev bench ready`: medians of {rounds} rounds, ms.\n\n| ready | ms |\n|--|--:|")
    for name, column in zip(STEPS, zip(*times, strict=True), strict=True):
        print(f"| {name} | {median(column) * 1_000:.1f} |")
    return 0


def one_round() -> Iterator[float]:
    """Seconds of each of STEPS."""
    begun = time.perf_counter()

    def lap() -> float:
        nonlocal begun
        before, begun = begun, time.perf_counter()
        return begun - before

    with ExitStack() as stack:
        broker = stack.enter_context(Broker())
        yield lap()
        where = {"bootstrap_servers": broker.bootstrap_servers}
        with SyncAdmin(**where) as admin:
            admin.create_topics(NewTopic("t", num_partitions=1))
        yield lap()
        producer = stack.enter_context(SyncProducer(**where))
        yield lap()
        producer.send_and_wait("t", b"hello")
        lap()
        options = {"group_id": "g", "auto_offset_reset": "earliest"}
        consumer = stack.enter_context(SyncConsumer(**where, **options))
        consumer.subscribe(["t"])
        next(iter(consumer))
        yield lap()
    yield lap()

"""`./dev fuzz`: bad input for as long as asked, against a node in this process.

    ./dev fuzz [--seconds N] [--seed S] [--exhaustive]
    ./dev fuzz kernel ...             the twins of the record kernel (tests/fuzz/kernel.py)

First every request cut short at every byte and with every byte changed, then random changes until
the time is over. The inputs come from the seed alone. `--exhaustive` tries all values of every
byte, however long that takes. At the end, counts; at the first failure the seed, the cause and
the bytes in hex, and exit code 1. `--input HEX` gives one input alone.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz import kernel
from tests.fuzz.bench import Bench, Failed, batch, fuzz_bench
from tests.fuzz.changes import Mutator, byte_changes, prefixes
from tests.fuzz.valid import SERVED, frame_of

ROUND_COUNT: Final = 20_000
"""Inputs of one node: what they made on it (topics, configs) goes with it."""
PARTITIONS_COUNT: Final = 2_000
"""Partitions past which a node is given up: each holds a file open."""
CLOCK_EVERY: Final = 500

Input = tuple[bytes, Sequence[int]]


def walk(topic_id: bytes, records: bytes, *, exhaustive: bool) -> Iterator[Input]:
    """Every served request, cut and changed at every byte."""
    for key, version in SERVED:
        frame = frame_of(key, version, topic_id=topic_id, records=records)
        yield frame, ()
        for bad in prefixes(frame):
            yield bad, ()
        for bad in byte_changes(frame, exhaustive=exhaustive):
            yield bad, ()


def random_inputs(seed: int, topic_id: bytes, records: bytes) -> Iterator[Input]:
    mutator = Mutator(seed, topic_id, records)
    while True:
        yield mutator.next()


class Run:
    """Inputs in rounds, until they are used up or the time is over."""

    def __init__(self, seed: int, seconds: float, *, exhaustive: bool) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.started = time.monotonic()
        self._deadline = self.started + seconds
        self._exhaustive = exhaustive
        self._round = 0
        self._walk: Iterator[Input] | None = None
        self._is_walked = False

    async def all(self) -> None:
        while await self._one_round():
            self._round += 1

    async def _one_round(self) -> bool:
        """A node of its own and its share of the inputs; false when the time is over."""
        with tempfile.TemporaryDirectory(prefix="ottla-fuzz-") as directory:
            async with fuzz_bench(Path(directory), self.seed) as bench:
                try:
                    return await self._feed(bench)
                finally:
                    self.counts += bench.counts
                    self.slowest_s = max(self.slowest_s, bench.slowest_s)

    async def _feed(self, bench: Bench) -> bool:
        for given, (data, cuts) in enumerate(self._inputs(bench), 1):
            await bench.give(data, cuts)
            if given % CLOCK_EVERY == 0 and self._is_over():
                return False
            if given == ROUND_COUNT or bench.partition_count > PARTITIONS_COUNT:
                break
        await bench.finish()
        return True

    def _inputs(self, bench: Bench) -> Iterator[Input]:
        """What is left of the walk, then random changes. The nodes of a seed give their topics
        the same ids, so the walk goes on over them."""
        records = bytes(batch(2))
        if self._walk is None:
            self._walk = walk(bench.topic_id, records, exhaustive=self._exhaustive)
        return chain(self._walk, self._random_inputs(bench.topic_id, records))

    def _random_inputs(self, topic_id: bytes, records: bytes) -> Iterator[Input]:
        self._is_walked = True
        yield from random_inputs(self.seed * 1_000_003 + self._round, topic_id, records)

    def _is_over(self) -> bool:
        is_due = self._is_walked or not self._exhaustive
        return is_due and time.monotonic() > self._deadline

    def report(self) -> str:
        took = max(time.monotonic() - self.started, 1e-9)
        counts = ", ".join(
            f"{self.counts[name]:,} {name}" for name in ("inputs", "rejected", "answered", "silent")
        )
        rate = self.counts["inputs"] / took
        return (
            f"seed {self.seed}: {counts} in {took:.1f} s ({rate:,.0f}/s), "
            f"slowest {self.slowest_s * 1000:.1f} ms"
        )


async def one_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="ottla-fuzz-") as directory:
        async with fuzz_bench(Path(directory)) as bench:
            await bench.give(data)
            await bench.finish()
            print(dict(bench.counts))


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["kernel"]:
        return kernel.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="bad input, on and on")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--exhaustive", action="store_true", help="all values of every byte")
    parser.add_argument("--input", metavar="HEX", help="this one input alone")
    chosen = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    run = Run(chosen.seed, chosen.seconds, exhaustive=chosen.exhaustive)
    try:
        if chosen.input:
            asyncio.run(one_input(bytes.fromhex(chosen.input)))
            return 0
        asyncio.run(run.all())
    except Failed as failed:
        print(f"FAILED (seed {chosen.seed}): {failed}")
        return 1
    finally:
        if not chosen.input:
            print(run.report())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

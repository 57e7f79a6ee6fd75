"""Brokers in turns: each measured on an empty directory, round after round, and one table of it.

A bench gives what it measures: a function from a running broker to figures, by "test|figure".
Figures of the table are medians of the rounds; those that are not of cores also as a ratio to
Kafka's.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.bench import write_between
from tests.tools.kafka_broker import kafka_broker
from tests.tools.serving import serving

BROKERS: Final = {
    "kafka": "Kafka",
    "ottla": "Ottla",
    "ottla-noflush": "Ottla, `flush.on.ack=false`",
}
Figures = dict[str, float]


class Running(NamedTuple):
    port: int
    pid: int
    is_java: bool = False

    def memory_bytes(self) -> int:
        """Resident; of a JVM, which does not give back, its live objects."""
        if self.is_java:
            command = ["jcmd", str(self.pid), "GC.class_histogram"]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return int(told.split()[-1])
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(name: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Running]:
    """A broker on an empty directory."""
    if name == "kafka":
        with kafka_broker(folder, settings) as kafka:
            assert kafka.process is not None
            yield Running(kafka.port, kafka.process.pid, is_java=True)
        return
    flush = {"flush.on.ack": str(name == "ottla").lower()}
    with serving(folder / "data", {**settings, **flush}) as ottla:
        assert ottla.process is not None
        yield Running(ottla.port, ottla.process.pid)


class Turns(NamedTuple):
    name: str
    """Of the bench, and of its block in README."""
    about: str
    title: str
    """Of the table's first column."""
    settings: Mapping[str, str]

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"./dev bench {self.name}", description=self.about)
        parser.add_argument("--quick", action="store_true", help="two seconds for each figure")
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--only", choices=BROKERS, action="append")
        parser.add_argument("--readme", action="store_true")
        return parser

    def run(self, chosen: argparse.Namespace, measure: Callable[[Running], Figures]) -> int:
        rounds: dict[str, list[Figures]] = {}
        for _ in range(chosen.rounds):
            for name in chosen.only or BROKERS:
                folder = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
                try:
                    with started(name, folder, self.settings) as broker:
                        figures = measure(broker)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                rounds.setdefault(name, []).append(figures)
                print(name, {key: round(value, 2) for key, value in figures.items()}, flush=True)
        text = self.table(rounds)
        print(text)
        if chosen.readme:
            quick = " --quick" if chosen.quick else ""
            head = (
                f"`./dev bench {self.name}{quick}`: medians of {chosen.rounds} rounds in turns,"
                " load and broker on the same cores; ratios are to Kafka's figure."
            )
            write_between(self.name, f"{head}\n\n{text}")
        return 0

    def table(self, rounds: dict[str, list[Figures]]) -> str:
        lines = [
            f"| {self.title} | figure | " + " | ".join(BROKERS[name] for name in rounds) + " |",
            "|---|---|" + "---|" * len(rounds),
        ]
        for key in next(iter(rounds.values()))[0]:
            test, figure = key.split("|")
            medians = {
                name: statistics.median(one[key] for one in each) for name, each in rounds.items()
            }
            cells = []
            for name, median in medians.items():
                text = f"{median:,.0f}" if abs(median) >= 100 else f"{median:.2f}"
                if "kafka" in medians and name != "kafka" and "cores" not in figure:
                    text += f" = {median / medians['kafka']:.2f} ×"
                cells.append(text)
            lines.append(f"| {test} | {figure} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

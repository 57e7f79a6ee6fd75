"""`./dev bench`: Ottla beside Apache Kafka and a bare prototype, in one run on one machine.

    ./dev bench [--quick] [--rounds N] [--only REGEX] [--readme]    side by side
    ./dev bench --from FILE.json [--readme]                         the tables of an earlier run
    ./dev bench hot [--profile]                                     produce and fetch in process
    ./dev bench ready [--rounds N]                                  the fixtures of ottla.testing
    ./dev bench client [--quick] [--rounds N] [--only REGEX] [--readme]    our client beside others
    ./dev bench upkeep [--readme]                                   cleaning, and large logs
    ./dev bench partitions [--readme]                               many partitions, and recovery
    ./dev bench transactions [--quick] [--readme]                   commits, and what they cost
    ./dev bench groups [--quick] [--readme]         joining, heartbeats, commits of offsets

The load generators and the other brokers come from ../shared/bench (run.py), which builds what
it needs on first use; without that folder this says so and measures nothing. Figures are the
medians of interleaved rounds; what is quoted is their ratio to Apache Kafka's in the same run.
`--readme` puts the table of ratios into README.md between its markers.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
SHARED: Final = ROOT.parent / "shared" / "bench"
RESULTS: Final = ROOT / "build" / "bench.json"
OTTLA: Final = f"{ROOT}/.venv/bin/ottla serve --listen 127.0.0.1:{{port}} --data {{data}}"
PROTOTYPE: Final = f"{ROOT}/.venv/bin/python {SHARED}/prototype.py {{port}} {{data}}"
BROKERS: Final = {
    "ottla": OTTLA,
    "ottla-noflush": f"{OTTLA} --set flush.on.ack=false",
    "proto-flush": f"{PROTOTYPE} flush",
    "proto": PROTOTYPE,
    "kafka": "kafka",
}
Rounds = dict[str, list[dict[str, dict[str, float]]]]


class Row(NamedTuple):
    """One figure, and what its ratio to Kafka's has to be: at least, or (negative) at most."""

    test: str
    figure: str
    flush: float
    no_flush: float

    @property
    def more_is_better(self) -> bool:
        return self.flush > 0


RATIOS: Final = (
    Row("produce 100 B acks=all", "msgs_per_s", 1.5, 1.9),
    Row("produce 100 B acks=all 6 partitions", "msgs_per_s", 1.5, 1.9),
    Row("produce 100 B lz4 acks=all", "msgs_per_s", 1.5, 1.9),
    Row("produce 100 B acks=all 300 partitions", "msgs_per_s", 2.5, 3.5),
    Row("produce 1 KiB acks=all", "mb_per_s", 1.7, 3),
    Row("produce 100 B acks=all", "cpu_s_per_gb", -1 / 4, -1 / 5),
    Row("consume 100 B", "cpu_s_per_gb", -1 / 4, -1 / 4),
    Row("consume 100 B", "msgs_per_s", 1.2, 1.2),
    Row("consume 1 KiB", "msgs_per_s", 1.2, 1.2),
    Row("requests 1 conn x 1 acks=1", "requests_per_s", 3, 5),
    Row("requests 16 conn x 8 acks=1", "requests_per_s", 4, 4),
    Row("requests 16 conn x 8 acks=1", "p99_us", -1 / 4, -1 / 4),
    Row("requests 16 conn x 8 acks=all", "requests_per_s", 4, 4),
    Row("requests 16 conn x 8 acks=all", "p99_us", -1 / 4, -1 / 4),
    Row("end to end acks=all", "p50_us", -1, -1 / 3),
    Row("end to end acks=all", "p99_us", -1, -1 / 3),
    Row("start", "ms", -1 / 8, -1 / 8),
    Row("start", "rss_mb", -1 / 6, -1 / 6),
    Row("after load", "rss_mb", -1 / 6, -1 / 6),
)

CAPS: Final = (
    ("start", "ms", 500.0),
    ("start", "rss_mb", 64.0),
    ("10000 idle connections", "rss_growth_mb", 60.0),
    ("1000 partitions", "create_s", 1.0),
    ("1000 partitions", "rss_growth_mb", 30.0),
)
"""Figures with a bound of their own."""

OTHERS: Final = ("hot", "ready", "client", "upkeep", "partitions", "transactions", "groups")
"""Benches that are modules of their own."""

PROTOTYPE_FLOOR: Final = 0.65
"""No rate may fall below this share of the prototype's."""


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        other = importlib.import_module(f"bench.{sys.argv[1]}")
        return int(other.main(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="regular expression over test names")
    parser.add_argument("--without", action="append", default=[], help="leave a broker out")
    parser.add_argument("--from", dest="source", type=Path, help="results of an earlier run")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    chosen = parser.parse_args()
    if chosen.source is None:
        if not (SHARED / "run.py").exists():
            print("bench: ../shared/bench is not there, nothing is measured", file=sys.stderr)
            return 0
        measure(chosen)
        chosen.source = RESULTS
    rounds: Rounds = json.loads(chosen.source.read_text())
    tables = "\n\n".join(
        "\n".join(lines(rounds)) for lines in (ratio_lines, cap_lines, floor_lines)
    )
    print(tables)
    if chosen.readme:
        write_readme(tables, len(rounds["ottla"]), quick=chosen.quick)
    return 0


def measure(chosen: argparse.Namespace) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-B", str(SHARED / "run.py"), "--json", str(RESULTS)]
    for name, template in BROKERS.items():
        if name not in chosen.without:
            command += ["--broker", name if name == template else f"{name}={template}"]
    command += ["--rounds", str(chosen.rounds), "--only", chosen.only]
    if chosen.quick:
        command.append("--quick")
    subprocess.run(command, check=True)


def median(rounds: Rounds, broker: str, test: str, figure: str) -> float | None:
    values = [
        results[test][figure]
        for results in rounds.get(broker, [])
        if figure in results.get(test, {})
    ]
    return statistics.median(values) if values else None


def shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def ratio_cell(rounds: Rounds, broker: str, row: Row, target: float) -> str:
    ours = median(rounds, broker, row.test, row.figure)
    kafkas = median(rounds, "kafka", row.test, row.figure)
    if ours is None or not kafkas:
        return "–"
    ratio = ours / kafkas
    met = ratio >= target if target > 0 else ratio <= -target
    bound = f"≥ {target:g}" if target > 0 else f"≤ {-target:.2f}"
    return f"{shown(ours)} = {ratio:.2f} × ({bound}{'' if met else ', missed'})"


def ratio_lines(rounds: Rounds) -> Iterator[str]:
    yield "| test | figure | Kafka | Ottla | Ottla, `flush.on.ack=false` |"
    yield "|---|---|---|---|---|"
    for row in RATIOS:
        cells = [
            row.test,
            row.figure,
            shown(median(rounds, "kafka", row.test, row.figure)),
            ratio_cell(rounds, "ottla", row, row.flush),
            ratio_cell(rounds, "ottla-noflush", row, row.no_flush),
        ]
        yield f"| {' | '.join(cells)} |"


def cap_lines(rounds: Rounds) -> Iterator[str]:
    yield "| test | figure | bound | Ottla | Ottla, `flush.on.ack=false` |"
    yield "|---|---|---|---|---|"
    for test, figure, cap in CAPS:
        values = [median(rounds, broker, test, figure) for broker in ("ottla", "ottla-noflush")]
        cells = [shown(v) + ("" if v is None or v <= cap else " (missed)") for v in values]
        yield f"| {test} | {figure} | {shown(cap)} | {' | '.join(cells)} |"


def floor_lines(rounds: Rounds) -> Iterator[str]:
    """Every rate as a share of the prototype's."""
    yield "| test | figure | Ottla / prototype, both flushing | neither flushing |"
    yield "|---|---|---|---|"
    rates = [row for row in RATIOS if row.more_is_better]
    for row in rates:
        cells = []
        for ours, theirs in (("ottla", "proto-flush"), ("ottla-noflush", "proto")):
            mine = median(rounds, ours, row.test, row.figure)
            other = median(rounds, theirs, row.test, row.figure)
            if mine is None or not other:
                cells.append("–")
                continue
            ratio = mine / other
            cells.append(f"{ratio:.2f}" + ("" if ratio >= PROTOTYPE_FLOOR else " (missed)"))
        yield f"| {row.test} | {row.figure} | {' | '.join(cells)} |"


def write_readme(tables: str, rounds: int, *, quick: bool) -> None:
    command = "./dev bench --quick" if quick else "./dev bench"
    note = (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: medians of {rounds} interleaved rounds, 2 "
        "cores for broker and load together (a JVM is squeezed there and would gain on a larger "
        "machine). Ratios are to Kafka's figure of the same run, with the bound that was set."
    )
    write_between("bench", f"{note}\n\n{tables}")


def write_between(name: str, text: str) -> None:
    """Put a text into README.md, between the markers of that name."""
    path = ROOT / "README.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = path.read_text().split(begin)
    _, after = rest.split(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())

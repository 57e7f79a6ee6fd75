"""Branch coverage of the storage by its own tests: `./dev test --coverage`.

Runs `tests/storage` under coverage.py and prints, of each module, how many of its lines and
branches were taken, and which were not. The modules of HELD must be whole; the exit code is 1
where one is not. In one process, so it takes some minutes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
MEASURED: Final = "src/ottla/storage/*,src/ottla/records/sieve.py"
HELD: Final = (
    "aborted_check",
    "batch_walk",
    "cleanable",
    "cleaned_transactions",
    "compaction",
    "header_scan",
    "index_file",
    "index_walk",
    "leader_epochs",
    "leaving",
    "leftovers",
    "log",
    "log_segments",
    "markers",
    "offset_index",
    "offset_map",
    "open_segments",
    "open_transactions",
    "opening",
    "reader",
    "rebuild",
    "recovery",
    "removal",
    "replacement",
    "retention",
    "sealed_batches",
    "segment",
    "segment_files",
    "sieve",
    "snapshots",
    "sound",
    "tail_scan",
    "time_index",
    "times",
    "transaction_index",
    "unflushed",
    "unread",
    "verify_known",
)


def measure(arguments: Sequence[str]) -> dict[str, Any]:
    """What coverage.py found, by file."""
    with tempfile.TemporaryDirectory() as home:
        data, report = f"--data-file={home}/data", Path(home, "report.json")
        command = [sys.executable, "-m", "coverage"]
        tests = arguments or ["tests/storage"]
        options = ["--branch", f"--include={MEASURED}", data]
        subprocess.run(
            [*command, "run", *options, "-m", "pytest", "-p", "no:cacheprovider", *tests], cwd=ROOT
        )
        subprocess.run([*command, "json", "-q", data, "-o", str(report)], cwd=ROOT, check=True)
        files: dict[str, Any] = json.loads(report.read_text())["files"]
        return files


def main(arguments: Sequence[str]) -> int:
    short = []
    print(f"{'module':24} {'lines':>6} {'branches':>9} {'taken':>7}  missing")
    for path, found in sorted(measure(arguments).items()):
        module, summary = Path(path).stem, found["summary"]
        missing = [str(line) for line in found["missing_lines"]]
        missing += [f"{start}->{end}" for start, end in found["missing_branches"]]
        taken = summary["percent_covered"]
        print(
            f"{module:24} {summary['num_statements']:6} {summary['num_branches']:9} {taken:6.1f}%"
            f"  {' '.join(missing)}"
        )
        if module in HELD and missing:
            short.append(module)
    print(f"not whole: {', '.join(short)}" if short else f"whole: {', '.join(HELD)}")
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

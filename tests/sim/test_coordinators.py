"""Groups and transactions keep their promises under every kind of fault: 200 seeds of each."""

import subprocess
import sys

import pytest

from ottla.sim.group_workload import groups
from ottla.sim.main import main
from ottla.sim.transaction_workload import transactions
from ottla.sim.workload import Workload
from ottla.sim.world import SimWorld

pytestmark = pytest.mark.timeout(600)
PIECES = 25
SEEDS = 8
DIGESTS = """
from ottla.sim.group_workload import groups
from ottla.sim.transaction_workload import transactions
from ottla.sim.workload import run_seed
print([run_seed(workload, 5, 0).digest for workload in (groups, transactions)])
"""


@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize("workload", ["groups", "transactions"])
def test_seeds(workload: str, piece: int, capsys: pytest.CaptureFixture[str]) -> None:
    first = 1 + piece * SEEDS
    asked = ["--workload", workload, "--seed", str(first), "--seeds", str(SEEDS)]
    assert main(asked) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.startswith(f"{SEEDS} seeds, 0 failed; ")


@pytest.mark.parametrize(
    ("workload", "parts"),
    [
        (
            groups,
            (
                "nemesis power cut",
                "nemesis kill",
                "nemesis bad sync",
                "nemesis clog",
            ),
        ),
        (
            transactions,
            (
                "nemesis power cut",
                "nemesis kill",
                "nemesis full disk",
                "nemesis clock jump",
                "append failed",
            ),
        ),
    ],
)
def test_a_run_meets_what_it_is_for(workload: Workload, parts: tuple[str, ...]) -> None:
    lines: list[str] = []
    for seed in range(1, 9):
        sim = SimWorld(seed, echo=lines.append)
        report = sim.run(workload(sim, 0))
        assert report.acknowledged > 0
    events = "\n".join(lines)
    for part in parts:
        assert part in events, part


def test_a_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4711")
    }
    assert len(told) == 1

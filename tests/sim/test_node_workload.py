"""The whole node keeps its promises: some seeds of every kind of fault, and many power cuts."""

import pytest

from ottla.sim.main import main
from ottla.sim.node_workload import whole_node
from ottla.sim.workload import Report, Violation
from ottla.sim.world import SimWorld


@pytest.mark.timeout(600)
def test_seeds_and_power_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "30", "--power-cuts", "2000"]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert told.startswith("30 seeds, 0 failed; ")
    assert int(told.split(", ")[2].split()[0]) >= 2_000


def test_a_seed_that_fails_is_told_with_the_way_to_replay_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def careless(sim: SimWorld, power_cuts: int) -> Report:
        raise Violation("lost-write", f"{power_cuts} cuts")

    monkeypatch.setattr("ottla.sim.main.WORKLOADS", {"careless": careless})
    assert main(["--seed", "2", "--seeds", "2", "--power-cuts", "9"]) == 1
    first, second, closing = capsys.readouterr().out.splitlines()
    command = "python -m ottla.sim --workload careless --power-cuts 5 --seed 2"
    assert first == f"seed 2 failed: Violation: lost-write: 5 cuts [{command}]"
    assert second.startswith("seed 3 failed: ")
    assert closing.startswith("2 seeds, 2 failed; ")


def test_a_run_meets_what_it_is_for() -> None:
    """Faults, acknowledgements and refusals, segments that roll, compaction, topics made anew."""
    lines: list[str] = []
    for seed in range(1, 6):
        sim = SimWorld(seed, echo=lines.append)
        report = sim.run(whole_node(sim, 0))
        assert report.acknowledged > 100
    events = "\n".join(lines)
    for part in (
        "nemesis power cut",
        "nemesis kill",
        "nemesis stop",
        "nemesis full disk",
        "nemesis bad sync",
        "no flush covered",
        "goes offline",
        "is refused or put off",
        ".log.deleted",
        ".log.swap",
        "-delete",
        "sync_file_system",
    ):
        assert part in events, part

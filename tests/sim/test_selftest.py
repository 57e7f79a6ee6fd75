"""The simulated world must find what is wrong, and nothing where nothing is."""

from functools import partial

import pytest

from ottla.sim.main import main
from ottla.sim.selftest import MISTAKES, Mistake, toy_log
from ottla.sim.workload import Violation, run_seed


def test_a_right_server_keeps_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--workload", "toy", "--seeds", "6", "--power-cuts", "300"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("6 seeds, 0 failed; ")
    assert int(told.split(", ")[2].split()[0]) >= 300


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_planted_mistake_is_found(mistake: Mistake) -> None:
    outcomes = [run_seed(partial(toy_log, mistake=mistake), seed, 0) for seed in range(3)]
    assert any(isinstance(outcome.error, Violation) for outcome in outcomes)


def test_a_seed_that_fails_is_told_with_the_way_to_replay_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = partial(toy_log, mistake="ack before sync")
    monkeypatch.setattr("ottla.sim.main.WORKLOADS", {"careless": workload})
    assert main(["--seed", "2", "--seeds", "2"]) == 1
    first, second, closing = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 2 failed: Violation: lost-write: ")
    assert first.endswith("[python -m ottla.sim --workload careless --seed 2]")
    assert second.startswith("seed 3 failed: ")
    assert closing.startswith("2 seeds, 2 failed; ")

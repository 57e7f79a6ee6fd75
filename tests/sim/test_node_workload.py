"""The whole node keeps its promises: some seeds of every kind of fault, and many power cuts."""

import pytest

from ottla.sim.main import main


def test_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "10", "--power-cuts", "300"]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert told.startswith("10 seeds, 0 failed; ")
    assert int(told.split(", ")[2].split()[0]) >= 300

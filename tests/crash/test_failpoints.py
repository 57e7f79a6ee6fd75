"""SIGKILL at chosen steps of a real broker, in short; `python -m tests.crash.failpoints` is all."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.crash import failpoints
from tests.tools.serving import OTTLA

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("phase", "plan"),
    [
        ("life", "log.write:40:kill"),
        ("life", "log.sync:20:kill-after"),
        ("life", "snapshot.write:3:kill"),
        ("life", "recovery-points.rename:2:kill"),
        ("life", "log.rename:1:kill"),
        ("life", "partition-delete.remove:1:kill"),
        ("life", "clean-shutdown.rename:1:kill"),
        ("recovery", "index.truncate:1:kill"),
    ],
)
def test_a_kill_at_a_failpoint_loses_nothing(
    tmp_path: Path, phase: failpoints.Phase, plan: str
) -> None:
    outcome = failpoints.run(tmp_path, phase, plan)
    assert not outcome.violation
    assert outcome.was_killed


def test_the_check_sees_what_is_missing(tmp_path: Path) -> None:
    """A broker that lost its directory is found out."""
    load = failpoints.prepare(tmp_path, "recovery")
    try:
        load.server.data.rename(tmp_path / "lost")
        load.server.start()
        with pytest.raises(failpoints.Broken, match="was made, and is not there"):
            failpoints.check(load)
    finally:
        load.server.kill()


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_a_kill_at_any_failpoint_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert failpoints.main(["--times", "2"]) == 0, capsys.readouterr().out


# -- the variable


def serve_with(plan: str, data: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*OTTLA, "serve", "--listen", "127.0.0.1:0", "--data", str(data)],
        env={**os.environ, failpoints.FAILPOINT: plan},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_wrong_name_is_one_line_and_no_start(tmp_path: Path) -> None:
    done = serve_with("log.wriet:1:kill", tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ottla: OTTLA_FAILPOINT: no failpoint is called 'log.wriet':"
        " ./dev sim failpoints lists them\n"
    )
    assert not (tmp_path / "data").exists()


def test_it_is_said_at_the_start_and_an_error_is_told(tmp_path: Path) -> None:
    done = serve_with("meta-properties.sync:1:ENOSPC", tmp_path / "data")
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert "OTTLA_FAILPOINT is set, this is a test: meta-properties.sync:1:ENOSPC" in warning
    assert "cannot be used: planted by a failpoint" in error


def test_without_it_the_simulation_is_not_even_imported() -> None:
    code = (
        "import sys, ottla.cli.main; sys.exit(any(n.startswith('ottla.sim') for n in sys.modules))"
    )
    assert subprocess.run([OTTLA[0], "-c", code], timeout=60).returncode == 0

"""What a seed runs: a workload over a simulated world, and how its outcome is told.

A workload is a coroutine that gets a fresh world and a number of power cuts to reach, and raises
`Violation` where a promise was broken. Any other error out of it is a bug that the run has found.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ottla.sim.loop import START_S
from ottla.sim.world import SimWorld


class Violation(Exception):
    """A promise that was broken: by the name of the check, and where."""

    def __init__(self, check: str, where: str) -> None:
        super().__init__(f"{check}: {where}")
        self.check = check
        self.where = where


@dataclass(frozen=True)
class Report:
    power_cuts: int = 0
    operations: int = 0
    acknowledged: int = 0


Workload = Callable[[SimWorld, int], Coroutine[Any, Any, Report]]


@dataclass(frozen=True)
class Outcome:
    seed: int
    digest: str
    event_count: int
    virtual_s: float
    report: Report
    error: BaseException | None = None


def run_seed(
    workload: Workload, seed: int, power_cuts: int, *, echo: Callable[[str], None] | None = None
) -> Outcome:
    world = SimWorld(seed, echo=echo)
    report, error = Report(), None
    try:
        report = world.run(workload(world, power_cuts))
    except Exception as failure:
        error = failure
    return Outcome(
        seed=seed,
        digest=world.trace.digest(),
        event_count=world.trace.event_count,
        virtual_s=world.loop.time() - START_S,
        report=report,
        error=error,
    )

"""`python -m ottla.sim`: run seeds, print a line for each that fails and a closing count.

A failing line ends with the command that replays it. With `--trace` every event is shown. The
exit code is 1 if a seed failed.
"""

import argparse
import traceback
from collections.abc import Sequence

from ottla.sim.node_workload import whole_node
from ottla.sim.workload import Outcome, Workload, run_seed

WORKLOADS: dict[str, Workload] = {"node": whole_node}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    workload = WORKLOADS[options.workload]
    first = options.seed if options.seed is not None else 1
    cuts_each = -(-options.power_cuts // options.seeds)
    echo = print if options.trace else None
    outcomes = []
    for seed in range(first, first + options.seeds):
        outcome = run_seed(workload, seed, cuts_each, echo=echo)
        outcomes.append(outcome)
        if outcome.error is not None:
            _tell(outcome, options, cuts_each)
    print(_closing(outcomes))
    return int(any(outcome.error is not None for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m ottla.sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds to run")
    parser.add_argument("--seed", type=int, metavar="S", help="the first seed")
    parser.add_argument(
        "--power-cuts", type=int, default=0, metavar="N", help="power cuts to reach over all seeds"
    )
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default=next(iter(WORKLOADS)))
    parser.add_argument("--trace", action="store_true", help="show every event")
    return parser


def _tell(outcome: Outcome, options: argparse.Namespace, power_cuts: int) -> None:
    error = outcome.error
    cuts = f" --power-cuts {power_cuts}" if power_cuts else ""
    print(
        f"seed {outcome.seed} failed: {type(error).__name__}: {error} "
        f"[python -m ottla.sim --workload {options.workload}{cuts} --seed {outcome.seed}]"
    )
    if options.seeds == 1:
        traceback.print_exception(error)


def _closing(outcomes: list[Outcome]) -> str:
    failed = sum(outcome.error is not None for outcome in outcomes)
    reports = [outcome.report for outcome in outcomes]
    return (
        f"{len(outcomes)} seeds, {failed} failed; "
        f"{sum(report.acknowledged for report in reports)} acknowledged of "
        f"{sum(report.operations for report in reports)}, "
        f"{sum(report.power_cuts for report in reports)} power cuts, "
        f"{sum(outcome.virtual_s for outcome in outcomes) / 3600:.2f} simulated hours, "
        f"{sum(outcome.event_count for outcome in outcomes)} events"
    )

"""`python -m ottla.sim`: run seeds, print a line for each that fails and a closing count.

A failing line ends with the command that replays it. With `--trace` every event is shown. The
exit code is 1 if a seed failed. `--workload` says what runs: the whole node and its data, groups
(classic and new) or transactions. A word in front asks for something else:

    power --images N    so many power cuts of the storage by itself, compared with a model
    failpoints          the list of them, and which of them the storage workload hits
    planted             plant each fault of the list, and tell what found it
"""

import argparse
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

from ottla.sim import failpoints, planted
from ottla.sim.group_workload import groups
from ottla.sim.node_workload import two_directories, whole_node
from ottla.sim.storage_workload import StorageRun, many
from ottla.sim.transaction_workload import transactions
from ottla.sim.workload import Outcome, Workload, run_seed

WORKLOADS: dict[str, Workload] = {
    "node": whole_node,
    "directories": two_directories,
    "transactions": transactions,
    "groups": groups,
}


FAILPOINT_SEEDS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = VERBS.get(words[0]) if words else None
    return verb(words[1:]) if verb is not None else _seeds(words)


def _seeds(arguments: Sequence[str]) -> int:
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


# ---- the words


def _power(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m ottla.sim power")
    parser.add_argument("--images", type=int, default=2_000, metavar="N", help="default 2000")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # each image tells what its recovery cut
    try:
        return int(many(options.images, options.seed, print) > 0)
    finally:
        logging.disable(logging.NOTSET)


def _failpoints(arguments: Sequence[str]) -> int:
    argparse.ArgumentParser("python -m ottla.sim failpoints").parse_args(arguments)
    hits: Counter[str] = Counter()
    logging.disable(logging.WARNING)
    try:
        for seed in range(1, FAILPOINT_SEEDS + 1):
            run = StorageRun(seed, image_limit=0)
            run.play()
            hits += run.hits
    finally:
        logging.disable(logging.NOTSET)
    print(failpoints.told(hits))
    return 0


def _planted(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m ottla.sim planted")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    try:
        return int(planted.table(options.only, print) > 0)
    finally:
        logging.disable(logging.NOTSET)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "power": _power,
    "failpoints": _failpoints,
    "planted": _planted,
}

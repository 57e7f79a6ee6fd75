"""Mutants of the storage, and which of them its tests let live: `python -m tests.tools.mutation`.

The tests are collected once, and run once under coverage.py: which of them take which line, and how
long each takes. Then each mutant (`mutants`) has a child of its own, forked off there: it changes
the functions in place, and runs the tests that take the changed line until one fails: those of the
module's own file first, then the quickest, the slow ones last. So a mutant costs as much as its
tests, a fraction of a second for most; mutmut and cosmic-ray start Python and pytest anew for each.

    lives     no test failed. `equivalent_mutants.txt` says of some why none can; the others are
              printed, and are the exit code
    cut       it lives so far: the tests that take its line need longer than `--budget` seconds
    unmet     no test takes the line (what runs as the module is imported is met by none)

What runs away is stopped by its processor time or by its memory, and counts as found.

    python -m tests.tools.mutation recovery leftovers [--count N --seed S] [--map FILE] [--tests …]
    python -m tests.tools.mutation recovery --lines 40 118 --budget 600    what was cut, once more
"""

import argparse
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

import coverage
import pytest

from tests.tools.mutants import Mutant, mutants_of

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = (ROOT / "src/ottla/storage", ROOT / "src/ottla/records")
EQUIVALENT: Final = Path(__file__).with_name("equivalent_mutants.txt")
LEAST_CPU_S: Final = 5
"""A test may take that, and five times what it takes without a mutant."""
SLOW_S: Final = 2
MEMORY_BYTES: Final = 3 << 30
WALL_S: Final = 240
"""A child may take that, and five times the budget."""


class Footing(NamedTuple):
    """What the run without mutants told."""

    seconds: dict[str, float]
    """By test."""
    takers: dict[str, dict[str, list[str]]]
    """The tests that take a line, by file and line."""

    def tests_of(self, path: Path, mutant: Mutant) -> list[str]:
        lines = self.takers.get(str(path.relative_to(ROOT)), {})
        found = {
            test
            for line in range(mutant.line, mutant.last_line + 1)
            for test in lines.get(str(line), ())
        }
        own = f"/test_{path.stem}.py::"

        def rank(test: str) -> tuple[bool, bool, float]:
            return self.seconds[test] > SLOW_S, own not in test, self.seconds[test]

        return sorted(found, key=rank)


class Mutation:
    """A plugin of pytest that runs the tests in its own way."""

    def __init__(self, options: argparse.Namespace, out: Any) -> None:
        self.options = options
        self.out = out
        self.lived = 0

    def say(self, text: str) -> None:
        print(text, file=self.out, flush=True)

    def pytest_sessionstart(self) -> None:
        import hypothesis  # not before pytest has seen that plugin

        # The first failure is enough: none is made smaller. Another run meets the same examples.
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        settings = hypothesis.settings(phases=phases, derandomize=True, database=None)
        hypothesis.settings.register_profile("mutants", settings)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        footing = self._footing(session, items)
        known = known_equivalents()
        for module in self.options.modules:
            path = next(room / f"{module}.py" for room in ROOMS if (room / f"{module}.py").exists())
            self._try_module(session, items, footing, path, known)
        return True

    def _try_module(
        self,
        session: pytest.Session,
        items: dict[str, pytest.Item],
        footing: Footing,
        path: Path,
        known: set[tuple[str, str, str]],
    ) -> None:
        text = path.read_text()
        lines = self.options.lines
        mutants = [each for each in mutants_of(text) if not lines or each.line in lines]
        random.Random(self.options.seed).shuffle(mutants)
        started, counts = time.monotonic(), Counter[str]()
        functions = functions_of(path)
        for mutant in mutants[: self.options.count]:
            line = text.splitlines()[mutant.line - 1].strip()
            tests = footing.tests_of(path, mutant)
            chosen, spent = [], 0.0
            for test in tests:
                spent += footing.seconds[test]
                if chosen and spent > self.options.budget:
                    break
                chosen.append(test)
            if (path.stem, mutant.what, line) in known:
                fate = "equivalent"
            elif not chosen:
                fate = "unmet"
            elif is_found(
                session,
                [items[test] for test in chosen],
                footing,
                path,
                mutant,
                functions,
                WALL_S + 5 * self.options.budget,
            ):
                fate = "found"
            else:
                fate = "lives" if len(chosen) == len(tests) else "cut"
            counts[fate] += 1
            if fate not in ("found", "equivalent"):
                self.lived += 1
                self.say(f"{fate}: {path.stem}:{mutant.line}: {mutant.what}: {line}")
        told = ", ".join(f"{count} {fate}" for fate, count in sorted(counts.items()))
        took = time.monotonic() - started
        self.say(f"{path.stem}: {counts.total()} of {len(mutants)} tried: {told} ({took:.0f} s)")

    def _footing(self, session: pytest.Session, items: dict[str, pytest.Item]) -> Footing:
        store = Path(self.options.map or f"{self.options.home}/map.json")
        if not store.exists() and in_child(
            lambda: write_footing(session, list(items.values()), store), WALL_S * 10
        ):
            raise pytest.UsageError("the tests fail without a mutant")
        told = json.loads(store.read_text())
        return Footing(
            {test: seconds for test, seconds in told["seconds"].items() if test in items},
            {
                file: {
                    line: [each for each in tests if each in items] for line, tests in rows.items()
                }
                for file, rows in told["takers"].items()
            },
        )


def write_footing(session: pytest.Session, items: list[pytest.Item], store: Path) -> int:
    """In a child: run all tests under coverage.py, and write what they told."""
    cover = coverage.Coverage(data_file=None, include=[f"{room}/*" for room in ROOMS])
    seconds = {}
    cover.start()
    for item, after in zip(items, [*items[1:], None], strict=True):
        cover.switch_context(item.nodeid)
        before = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        seconds[item.nodeid] = time.process_time() - before
    cover.stop()
    data = cover.get_data()
    takers = {
        str(Path(file).relative_to(ROOT)): {
            line: [test for test in tests if test]
            for line, tests in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    store.write_text(json.dumps({"seconds": seconds, "takers": takers}))
    return int(session.testsfailed > 0)


def is_found(
    session: pytest.Session,
    items: list[pytest.Item],
    footing: Footing,
    path: Path,
    mutant: Mutant,
    functions: dict[tuple[str, int], list[FunctionType]],
    wall_s: float,
) -> bool:
    """Whether a test fails on the mutant, in a child."""

    def run() -> int:
        change(path, mutant, functions)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        for item, after in zip(items, [*items[1:], None], strict=True):
            limit = time.process_time() + LEAST_CPU_S + 5 * footing.seconds[item.nodeid]
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, resource.RLIM_INFINITY))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                return 1
        return 0

    return in_child(run, wall_s) != 0


def in_child(work: Any, wall_s: float) -> int:
    """The status of a child that does the work; not 0 where it died or was stopped."""
    child = os.fork()
    if not child:
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1), os.dup2(nowhere, 2)
            os._exit(work())
        finally:
            os._exit(3)
    deadline = time.monotonic() + wall_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.kill(child, 9)
    return os.waitpid(child, 0)[1]


def functions_of(path: Path) -> dict[tuple[str, int], list[FunctionType]]:
    """Every function of a module that was imported, by name and first line."""
    found = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == str(path):
            found[each.__code__.co_qualname, each.__code__.co_firstlineno].append(each)
    return found


def change(
    path: Path, mutant: Mutant, functions: dict[tuple[str, int], list[FunctionType]]
) -> None:
    """Put the mutant's code into the functions that differ."""

    def walk(code: CodeType) -> None:
        for part in code.co_consts:
            if isinstance(part, CodeType):
                for each in functions.get((part.co_qualname, part.co_firstlineno), ()):
                    if each.__code__ != part:
                        each.__code__ = part
                walk(part)

    walk(compile(mutant.tree, str(path), "exec"))


def known_equivalents() -> set[tuple[str, str, str]]:
    """Rows of `module | change | line | why`."""
    rows = [
        [cell.strip() for cell in line.split(" | ", 3)]
        for line in EQUIVALENT.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return {(module, what, line) for module, what, line, _ in rows}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--count", type=int, help="mutants of each module, at most; else all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", type=int, nargs="+", help="only the mutants of these lines")
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests for each mutant")
    parser.add_argument("--map", help="where the run without mutants is kept, or was")
    parser.add_argument("--tests", nargs="+", default=["tests/storage"])
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="ottla-mutants-") as options.home:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{options.home}/examples"
        out = os.fdopen(os.dup(1), "w")
        plugin = Mutation(options, out)
        own = [
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            f"--basetemp={options.home}/tmp",
        ]
        status = pytest.main([*own, *options.tests], plugins=[plugin])
    return int(bool(plugin.lived)) or int(status not in (0, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main())

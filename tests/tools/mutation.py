"""Mutants of the storage, and which of them its tests let live: `python -m tests.tools.mutation`.

Each mutant is one small change of one module's syntax tree: a comparison turned or moved by one, a
condition negated, an operator swapped, a number moved by one, a statement left out. A copy of the
tree is made once; a mutant is written into the copy, and the tests of the storage run over it until
the first fails. What lives is printed with its line. A sample by a seed, for all of them take
hours; mutmut and cosmic-ray do the same, and neither knows this layout (a `src` that is installed
editable, tests that are packages).

    python -m tests.tools.mutation recovery retention --count 40 [--seed S] [--tests PATH …]
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
ROOM: Final = Path("src/ottla/storage")
TIMEOUT_S: Final = 300
COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


class Mutant(NamedTuple):
    line: int
    what: str
    text: str


def mutants_of(text: str) -> Iterator[Mutant]:
    tree = ast.parse(text)
    for number, node in enumerate(ast.walk(tree)):
        for change in changes_of(node):
            twin = copy.deepcopy(tree)
            place = next(each for at, each in enumerate(ast.walk(twin)) if at == number)
            what = change(place)
            line = getattr(node, "lineno", 0)
            yield Mutant(line, what, ast.unparse(ast.fix_missing_locations(twin)))


def changes_of(node: ast.AST) -> Iterator[object]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield turn_comparison
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield swap_operator
    elif isinstance(node, ast.BoolOp):
        yield swap_and_or
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield move_constant
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield negate
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield leave_out


def turn_comparison(node: ast.Compare) -> str:
    before = node.ops[0]
    node.ops[0] = COMPARISONS[type(before)]()
    return f"{type(before).__name__} is {type(node.ops[0]).__name__}"


def swap_operator(node: ast.BinOp) -> str:
    before = node.op
    node.op = OPERATORS[type(before)]()
    return f"{type(before).__name__} is {type(node.op).__name__}"


def swap_and_or(node: ast.BoolOp) -> str:
    is_and = isinstance(node.op, ast.And)
    node.op = ast.Or() if is_and else ast.And()
    return "and is or" if is_and else "or is and"


def move_constant(node: ast.Constant) -> str:
    before = node.value
    node.value = not before if isinstance(before, bool) else before + 1  # type: ignore[operator]
    return f"{before} is {node.value}"


def negate(node: ast.If | ast.While | ast.IfExp) -> str:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return "condition negated"


def leave_out(node: ast.Expr) -> str:
    what = ast.unparse(node)[:60]
    node.value = ast.Constant(None)
    return f"left out: {what}"


def copy_of_tree(home: Path) -> None:
    for name in ("src", "tests", "pyproject.toml", "docs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, home / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(source, home / name)


def survives(home: Path, tests: Sequence[str]) -> bool:
    environment = {**os.environ, "PYTHONPATH": f"{home / 'src'}{os.pathsep}{home}"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False  # it goes round and round: found
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--count", type=int, default=20, help="mutants of each module, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", nargs="+", default=["tests/storage"])
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="ottla-mutants-"))
    copy_of_tree(home)
    tried, lived = 0, 0
    try:
        if not survives(home, options.tests):
            sys.exit("the tests fail without a mutant")
        for module in options.modules:
            path = home / ROOM / f"{module}.py"
            sound = path.read_text()
            mutants = list(mutants_of(sound))
            random.Random(options.seed).shuffle(mutants)
            for mutant in mutants[: options.count]:
                path.write_text(mutant.text)
                tried += 1
                if survives(home, options.tests):
                    lived += 1
                    line = sound.splitlines()[mutant.line - 1].strip()
                    print(f"{module}:{mutant.line}: {mutant.what}: {line}", flush=True)
            path.write_text(sound)
            print(
                f"{module}: {min(len(mutants), options.count)} of {len(mutants)} tried", flush=True
            )
    finally:
        shutil.rmtree(home)
    print(f"{tried} mutants, {lived} live")
    return int(bool(lived))


if __name__ == "__main__":
    sys.exit(main())

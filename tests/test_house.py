"""The rules of the house, read off the syntax trees of src/ottla. There is no ignore list.

- Floors: a room imports only the rooms its row of ROOMS names (imports inside functions and
  under TYPE_CHECKING included); no module takes part in a circle of imports.
- Every module begins with a design note.
- The world is handed in: BANS says which modules and calls are for which rooms alone. The two
  modules whose library touches the outside by itself stand in EXCEPTIONS, with the reason, and
  the one that is told by the environment.
- Nothing depends on the order of a set, on id(), or on when an object dies.
- Sizes are reported, not enforced: run this file with -s, or `python tests/test_house.py`.

Each rule is a function from a parsed module to its faults, and is itself tested on a snippet
that breaks it.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).resolve().parents[1] / "src"
PACKAGE: Final = "ottla"

# --- what is allowed --------------------------------------------------------------------------

LOW: Final = frozenset({"base", "records", "protocol", "security", "storage", "rpc"})
NODE: Final = LOW | {"metadata", "replica", "coordinator", "broker"}
ALL: Final = NODE | {"client", "host", "sim", "embed", "cli", "console", "testing", ""}

ROOMS: Final[Mapping[str, frozenset[str]]] = {
    # room: the other rooms it may import (design.md, section 3)
    "base": frozenset(),
    "records": frozenset({"base"}),
    "protocol": frozenset({"base"}),
    "security": frozenset({"base"}),
    "storage": frozenset({"base", "records"}),
    "rpc": frozenset({"base", "protocol", "security"}),
    "metadata": frozenset({"base", "protocol", "security", "rpc"}),
    "replica": LOW | {"metadata"},
    "coordinator": LOW | {"metadata", "replica"},
    "broker": LOW | {"metadata", "replica", "coordinator"},
    "client": frozenset({"base", "records", "protocol", "security", "rpc"}),
    "host": frozenset({"base"}),
    "sim": NODE | {"client"},
    "console": frozenset({"client", "protocol", "base", "host"}),
    "embed": ALL,
    "cli": ALL,
    "testing": ALL,
    # The face of the package: what `import ottla` and `python -m ottla` offer.
    "": ALL,
}

OUTSIDE: Final = frozenset({"host", "cli", "console"})
CALLERS_PROCESS: Final = frozenset({"embed", "testing"})
"""A broker in the caller's process runs on a thread of its own, so these two start one."""
WHERE_ONE_WAITS: Final = (frozenset(ROOMS) - LOW) | {"rpc"}
"""rpc waits for another node: that is all it does."""

BANS: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    # import: (rooms that may, why nobody else)
    "socket": (OUTSIDE, "the network is world.network"),
    "select": (OUTSIDE, "the network is world.network"),
    "selectors": (OUTSIDE, "the network is world.network"),
    "ssl": (OUTSIDE, "the network is world.network"),
    "threading": (OUTSIDE | CALLERS_PROCESS, "blocking work goes through world.offload"),
    "_thread": (OUTSIDE, "blocking work goes through world.offload"),
    "concurrent": (OUTSIDE | CALLERS_PROCESS, "blocking work goes through world.offload"),
    "multiprocessing": (OUTSIDE, "a node is one process"),
    "subprocess": (OUTSIDE, "a node is one process"),
    "signal": (OUTSIDE, "what belongs to the process is touched by `ottla serve` alone"),
    "gc": (OUTSIDE, "what belongs to the process is touched by `ottla serve` alone"),
    "time": (OUTSIDE, "time is world.clock"),
    "datetime": (OUTSIDE, "time is world.clock"),
    "random": (OUTSIDE | {"sim"}, "randomness is world.rng"),  # sim: see faults_of_seeds
    "secrets": (OUTSIDE, "randomness is world.rng"),
    "uuid": (OUTSIDE, "randomness is world.rng"),
    "os": (OUTSIDE | CALLERS_PROCESS, "files are world.disk"),
    "io": (OUTSIDE, "files are world.disk"),
    "pathlib": (OUTSIDE | CALLERS_PROCESS, "files are world.disk"),
    "tempfile": (OUTSIDE | CALLERS_PROCESS, "files are world.disk"),
    "shutil": (OUTSIDE | CALLERS_PROCESS, "files are world.disk"),
    "glob": (OUTSIDE, "files are world.disk"),
    "mmap": (OUTSIDE, "files are world.disk"),
    "fcntl": (OUTSIDE, "files are world.disk"),
    "ctypes": (OUTSIDE, "system calls are made by the host"),
    "sqlite3": (frozenset(), "the store is behind metadata.store"),
    "aetcd": (frozenset(), "the store is behind metadata.store"),
    "asyncio": (WHERE_ONE_WAITS, "below floor 3 nothing waits but rpc"),
    "pickle": (frozenset(), "no byte that came from outside is executed"),
    "marshal": (frozenset(), "no byte that came from outside is executed"),
}

BANNED_CALLS: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "open": (OUTSIDE, "files are world.disk"),
    "input": (OUTSIDE, "only a command talks to a terminal"),
    "print": (OUTSIDE | {"sim"}, "only a command talks to a terminal"),
    "id": (frozenset(), "an address differs from run to run"),
    "hash": (frozenset(), "the hash of a text differs from run to run"),
    "eval": (frozenset(), "no text is executed"),
}

EXCEPTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("ottla.metadata.embedded", "sqlite3"): "SQLite opens its own file, on the offload thread",
    ("ottla.metadata.etcd", "aetcd"): "the client of etcd has its own connection",
    ("ottla.records.kernel", "os"): "the environment says which twin of the kernel to take",
}


def exceptions_of(module: "Module") -> frozenset[str]:
    return frozenset(what for name, what in EXCEPTIONS if name == module.name)


# --- a module and what it imports -------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    name: str
    text: str
    tree: ast.Module
    is_package: bool = False

    @property
    def room(self) -> str:
        return room_of(self.name) or ""


@dataclass(frozen=True)
class Import:
    target: str
    line: int


def room_of(name: str) -> str | None:
    """The room of a module; "" for the face of the package, None for a library's."""
    package, _, rest = name.partition(".")
    if package != PACKAGE:
        return None
    return "" if rest in ("", "__main__") else rest.split(".")[0]


def snippet(name: str, text: str) -> Module:
    return Module(name, text, ast.parse(text))


def read_modules(root: Path) -> list[Module]:
    found = []
    for path in sorted(root.glob(f"{PACKAGE}/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        text = path.read_text()
        found.append(Module(name, text, ast.parse(text, str(path)), is_package))
    return found


def imports_of(module: Module) -> Iterator[Import]:
    """Everything that is imported, wherever it stands; `from a import b` is both a and a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            yield Import(base, node.lineno)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            given = node.args[0] if node.args else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield Import(given.value, node.lineno)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*kept, *filter(None, [node.module])])


def called(node: ast.Call) -> str:
    """The bare name that is called; of an attribute its last part."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


# --- the rules --------------------------------------------------------------------------------


def faults_of_floors(module: Module) -> Iterator[str]:
    if module.room not in ROOMS:
        yield f"{module.name}: {module.room} is no room of the house"
        return
    rooms = ROOMS[module.room] | {module.room}
    for found in imports_of(module):
        room = room_of(found.target)
        if room is not None and room not in rooms:
            here = module.room or "the face"
            yield f"{module.name}:{found.line}: {here} may not import {found.target}"


def faults_of_header(module: Module) -> Iterator[str]:
    """A header says what the module owns: at least ten words (of a package or an entry: five)."""
    is_short = module.is_package or module.name.endswith(".__main__")
    words = len((ast.get_docstring(module.tree) or "").split())
    if words < (5 if is_short else 10):
        yield f"{module.name}: the header has {words} words, and is to be a design note"


def faults_of_bans(module: Module) -> Iterator[str]:
    allowed = exceptions_of(module)
    seen: set[tuple[str, int]] = set()
    for found in imports_of(module):
        top = found.target.split(".")[0]
        rooms, why = BANS.get(top, (None, ""))
        if rooms is None or module.room in rooms or top in allowed or (top, found.line) in seen:
            continue
        seen.add((top, found.line))
        yield f"{module.name}:{found.line}: imports {top}: {why}"


def faults_of_seeds(module: Module) -> Iterator[str]:
    """In the simulated world all chance comes from a seed: of `random`, the class Random alone."""
    if module.room != "sim":
        return
    for found in imports_of(module):
        if found.target.startswith("random.") and found.target != "random.Random":
            yield f"{module.name}:{found.line}: {found.target} has no seed"
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "random"
            and node.attr != "Random"
        ):
            yield f"{module.name}:{node.lineno}: random.{node.attr} has no seed"
        elif isinstance(node, ast.Call) and called(node) == "Random" and not node.args:
            yield f"{module.name}:{node.lineno}: Random() without a seed"


def faults_of_calls(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            rooms, why = BANNED_CALLS.get(node.func.id, (None, ""))
            if rooms is not None and module.room not in rooms:
                yield f"{module.name}:{node.lineno}: calls {node.func.id}(): {why}"
        elif isinstance(node, ast.FunctionDef) and node.name == "__del__":
            yield f"{module.name}:{node.lineno}: __del__ runs when the collector likes"


def faults_of_sets(module: Module) -> Iterator[str]:
    """Iteration over what can be seen to be a set: by its form, or by the assignment or
    annotation of its name in the same function, class or module."""
    for scope in scopes(module.tree):
        names = set_names(scope)
        for node in own_nodes(scope):
            for iterated in iterations(node):
                if is_set(iterated, names):
                    yield f"{module.name}:{iterated.lineno}: iterates a set: its order is chance"


Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def scopes(tree: ast.Module) -> Iterator[Scope]:
    for node in ast.walk(tree):
        if isinstance(node, Scope):
            yield node


def own_nodes(scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the scopes inside it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Scope):
            waiting.extend(ast.iter_child_nodes(node))


def iterations(node: ast.AST) -> Iterator[ast.expr]:
    """What a node walks in order."""
    if isinstance(node, ast.For | ast.AsyncFor):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        yield from (generator.iter for generator in node.generators)
    elif isinstance(node, ast.Starred):
        yield node.value
    elif isinstance(node, ast.Call) and called(node) in ORDERED_BY_ARGUMENT and node.args:
        yield node.args[-1] if called(node) == "map" else node.args[0]


ORDERED_BY_ARGUMENT: Final = ("list", "tuple", "enumerate", "iter", "join", "map", "fromkeys")
SET_METHODS: Final = ("union", "intersection", "difference", "symmetric_difference")


def is_set(node: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return is_set(node.left, names) or is_set(node.right, names)
    if isinstance(node, ast.Call):
        return called(node) in ("set", "frozenset", *SET_METHODS)
    return False


def set_names(scope: Scope) -> frozenset[str]:
    found = set()
    arguments = getattr(scope, "args", None)
    if isinstance(arguments, ast.arguments):
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if is_set_annotation(argument.annotation):
                found.add(argument.arg)
    for node in own_nodes(scope):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if is_set_annotation(node.annotation):
                found.add(node.target.id)
        elif isinstance(node, ast.Assign) and is_set(node.value, frozenset()):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(found)


def is_set_annotation(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Subscript):
        if isinstance(node.value, ast.Name) and node.value.id == "Final":
            return is_set_annotation(node.slice)
        return is_set_annotation(node.value)
    names = ("set", "frozenset", "AbstractSet", "MutableSet")
    return isinstance(node, ast.Name) and node.id in names


def circles(modules: Iterable[Module]) -> list[list[str]]:
    """Circles of imports among the modules, each once (Tarjan's strongly connected parts)."""
    names = {module.name for module in modules}
    edges: dict[str, list[str]] = {}
    for module in modules:
        targets = {found.target for found in imports_of(module)} & names
        edges[module.name] = sorted(targets - {module.name})
    return strongly_connected(edges)


def strongly_connected(edges: Mapping[str, list[str]]) -> list[list[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in edges[name]:
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in edges:
        if name not in index:
            visit(name)
    return found


# --- the house --------------------------------------------------------------------------------

RULES: Final = {
    "floors": faults_of_floors,
    "headers": faults_of_header,
    "bans": faults_of_bans,
    "calls": faults_of_calls,
    "seeds": faults_of_seeds,
    "sets": faults_of_sets,
}
HOUSE: Final = read_modules(SOURCE)


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule: str) -> None:
    faults = [fault for module in HOUSE for fault in RULES[rule](module)]
    assert not faults, "\n" + "\n".join(faults)


def test_no_circles() -> None:
    found = circles(HOUSE)
    assert not found, "\n" + "\n".join(" <-> ".join(circle) for circle in found)


def test_the_house_was_read() -> None:
    assert {module.room for module in HOUSE} >= {"base", "records", "protocol", "storage"}


def test_the_page_of_the_house_is_true() -> None:
    """It has every room, and what it names is there."""
    page = (SOURCE.parent / "ARCHITECTURE.md").read_text()
    rooms = {each.parent.name for each in (SOURCE / PACKAGE).glob("*/__init__.py")}
    told = {name for row in re.findall(r"^\|(.*?\|.*?)\|", page, re.M) for name in words_of(row)}
    assert told >= rooms
    named = {name for name in words_of(page) if name.partition("/")[0] in rooms and "/" in name}
    assert len(named) > 20
    assert [name for name in sorted(named) if not is_there(name)] == []


def words_of(text: str) -> list[str]:
    return re.findall(r"`([a-z_/]+(?:\.\w+)?)`", text)


def is_there(name: str) -> bool:
    """A room's folder or module, and what is named of that (`room/module.Class`)."""
    path = SOURCE / PACKAGE / name.partition(".")[0]
    if path.is_dir():
        return True
    module = path.with_suffix(".py")
    attribute = name.removesuffix(".py").partition(".")[2]
    return (
        module.exists() and re.search(rf"(def|class) {attribute}\b", module.read_text()) is not None
    )


def test_the_floors_go_down_only() -> None:
    """The table itself has no circle, but for the rooms of people, who may use each other."""
    people = {"embed", "cli", "testing", ""}
    edges = {room: sorted(ROOMS[room] - people) for room in ROOMS if room not in people}
    assert strongly_connected(edges) == []


def test_exceptions_are_the_three_of_the_design() -> None:
    assert sorted(name for name, _ in EXCEPTIONS) == [
        "ottla.metadata.embedded",
        "ottla.metadata.etcd",
        "ottla.records.kernel",
    ]


# --- each rule can fail -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        ("floors", "ottla.base.x", "import ottla.records.batch"),
        ("floors", "ottla.base.x", "from ottla import records"),
        ("floors", "ottla.records.x", "def f():\n    from ottla.storage.log import Log"),
        ("floors", "ottla.records.x", "from ..storage import log"),
        ("floors", "ottla.host.x", "if TYPE_CHECKING:\n    from ottla.broker.node import Node"),
        ("floors", "ottla.storage.x", "from ottla.replica.partition import Partition"),
        ("floors", "ottla.broker.x", "import_module('ottla.cli.main')"),
        ("floors", "ottla.broker.x", "import ottla"),
        ("floors", "ottla.cellar.x", "import struct"),
        ("floors", "ottla.utils", "import struct"),
        ("seeds", "ottla.sim.x", "import random\nrandom.shuffle(y)"),
        ("seeds", "ottla.sim.x", "from random import choice"),
        ("seeds", "ottla.sim.x", "import random\nr = random.Random()"),
        ("headers", "ottla.base.x", "x = 1"),
        ("headers", "ottla.base.x", '"""Utilities."""'),
        ("bans", "ottla.storage.x", "import os"),
        ("bans", "ottla.storage.x", "def f():\n    from time import monotonic"),
        ("bans", "ottla.storage.x", "import os.path"),
        ("bans", "ottla.storage.x", "import asyncio"),
        ("bans", "ottla.metadata.x", "import sqlite3"),
        ("bans", "ottla.metadata.embedded", "import threading"),
        ("bans", "ottla.broker.x", "import random, struct"),
        ("bans", "ottla.embed.x", "import socket"),
        ("bans", "ottla.sim.x", "import threading"),
        ("bans", "ottla.host.x", "import pickle"),
        ("calls", "ottla.storage.x", "f = open('x')"),
        ("calls", "ottla.host.x", "a = id(b)"),
        ("calls", "ottla.broker.x", "print('here')"),
        ("calls", "ottla.broker.x", "class A:\n    def __del__(self): ..."),
        ("sets", "ottla.broker.x", "for x in {1, 2}: ..."),
        ("sets", "ottla.broker.x", "y = [x for x in set(z)]"),
        ("sets", "ottla.broker.x", "y = {x: 1 for x in {a for a in b}}"),
        ("sets", "ottla.broker.x", "def f():\n    s = set()\n    for x in s: ..."),
        ("sets", "ottla.broker.x", "def f(s: set[int]):\n    for x in s: ..."),
        ("sets", "ottla.broker.x", "S: Final[frozenset[int]] = g()\nlist(S)"),
        ("sets", "ottla.broker.x", "y = ','.join({'a', 'b'})"),
        ("sets", "ottla.broker.x", "y = [*{1, 2}]"),
        ("sets", "ottla.broker.x", "for x in set(a) - b: ..."),
        ("sets", "ottla.broker.x", "for x in a.union(b): ..."),
    ],
)
def test_rule_finds(rule: str, name: str, text: str) -> None:
    assert len(list(RULES[rule](snippet(name, text)))) >= 1


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        ("floors", "ottla.broker.x", "from ottla.base.ids import Offset\nimport struct"),
        ("floors", "ottla.broker.apis.x", "from ottla.broker.context import RequestContext"),
        ("floors", "ottla", "from ottla.embed.broker import Broker"),
        ("headers", "ottla.base.x", '"""' + "word " * 10 + '"""'),
        ("bans", "ottla.metadata.embedded", "import sqlite3"),
        ("bans", "ottla.sim.x", "import random"),
        ("seeds", "ottla.sim.x", "import random\nr = random.Random(5)\nr.shuffle(y)"),
        ("bans", "ottla.host.x", "import os, socket, threading, time"),
        ("bans", "ottla.embed.x", "import threading, asyncio"),
        ("bans", "ottla.broker.x", "import asyncio"),
        ("calls", "ottla.broker.x", "file = world.disk.open('x')"),
        ("sets", "ottla.broker.x", "for x in sorted({1, 2}): ..."),
        ("sets", "ottla.broker.x", "y = 3 in {1, 2}\nfor x in [1, 2]: ..."),
        ("sets", "ottla.broker.x", "y = {x for x in {1, 2}}"),
    ],
)
def test_rule_lets_pass(rule: str, name: str, text: str) -> None:
    assert list(RULES[rule](snippet(name, text))) == []


def test_circles_are_found() -> None:
    a = snippet("ottla.base.a", "def f():\n    import ottla.base.b")
    b = snippet("ottla.base.b", "from ottla.base import c")
    c = snippet("ottla.base.c", "from ottla.base.a import f")
    d = snippet("ottla.base.d", "import ottla.base.a")
    assert circles([a, b, c, d]) == [["ottla.base.a", "ottla.base.b", "ottla.base.c"]]
    assert circles([a, b, d]) == []


# --- sizes, as a report -----------------------------------------------------------------------


def size_report(modules: Iterable[Module]) -> str:
    """What is larger than the guides of style.md: files, functions, lists of parameters."""
    rows, lengths = [], []
    for module in modules:
        lines = module.text.count("\n")
        lengths.append(lines)
        if lines > 400:
            rows.append(f"  {module.name}: {lines} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                rows.extend(f"  {module.name}:{node.lineno}: {text}" for text in oversize(node))
    median = sorted(lengths)[len(lengths) // 2]
    head = f"{len(lengths)} modules, median {median} lines, {sum(lengths)} in all"
    return "\n".join([head, *(rows or ["  nothing is larger than the guides"])])


def oversize(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > 40:
        yield f"{node.name} has {lines} lines"
    positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    count = len(positional) - (positional[:1] in (["self"], ["cls"]))
    if count > 5:
        yield f"{node.name} has {count} positional parameters"


def test_sizes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{size_report(HOUSE)}", file=sys.stderr)


def test_size_report_names_what_is_large() -> None:
    body = "\n".join("    pass" for _ in range(50))
    report = size_report([snippet("ottla.base.x", f"def f(a, b, c, d, e, g):\n{body}")])
    assert "f has 51 lines" in report
    assert "f has 6 positional parameters" in report

"""The page of faults names a test for each: they exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
CLIENT = ROOT / "tests" / "client"
NAMED = re.compile(r"`(?:([\w/]+\.py)::)?(test_\w+)`")


def rows() -> list[str]:
    """The rows of every table whose last column names tests."""
    found: list[str] = []
    is_inside = False
    for line in PAGE.read_text().splitlines():
        if line.endswith("| tests |"):
            is_inside = True
        elif not line.startswith("| "):
            is_inside = False
        elif is_inside and not line.startswith("| ---"):
            found.append(line)
    return found


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def is_there(path: str, name: str) -> bool:
    """In that file (of tests/client, where no folder is named), or in any one of tests/client."""
    if not path:
        return any(name in names_in(each) for each in CLIENT.glob("test_*.py"))
    return name in names_in(ROOT / path if path.startswith("tests/") else CLIENT / path)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_fault_has_a_test_that_exists(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "no test is named"
    missing = [f"{path}::{name}" for path, name in named if not is_there(path, name)]
    assert not missing

"""The page of faults names a test for each: they exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    text = PAGE.read_text()
    table = text[text.index("| what happens | tests |") :]
    return [line for line in table.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_fault_has_a_test_that_exists(row: str) -> None:
    named = NAMED.findall(row)
    assert named, "no test is named"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        there = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert name in there, f"{path} has no {name}"

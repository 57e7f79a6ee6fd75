"""The mutants of a module: each is one small change of its syntax tree.

A comparison turned or moved by one, a condition negated, `and` for `or`, an operator swapped, a
number moved by one, a call left out. Log lines, texts and annotations are left as they are.
"""

import ast
import copy
from collections.abc import Iterator
from typing import Final, NamedTuple

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
LOG_NAMES: Final = ("logger", "logging")


class Mutant(NamedTuple):
    line: int
    last_line: int
    """Of the statement, up to the place: a test that takes one of these lines takes the place."""
    what: str
    tree: ast.Module


def mutants_of(text: str) -> Iterator[Mutant]:
    tree = ast.parse(text)
    statements = _statements(tree)
    logged = {each for node in ast.walk(tree) if _is_log(node) for each in ast.walk(node)}
    for number, node in enumerate(ast.walk(tree)):
        if node in logged:
            continue
        for change in _changes_of(node):
            twin = copy.deepcopy(tree)
            place = next(each for at, each in enumerate(ast.walk(twin)) if at == number)
            what = change(place)
            first, last = statements[node].lineno, node.end_lineno or node.lineno
            yield Mutant(first, last, what, ast.fix_missing_locations(twin))


def _statements(tree: ast.AST) -> dict[ast.AST, ast.stmt]:
    """The innermost statement that each node is of."""
    found: dict[ast.AST, ast.stmt] = {}

    def walk(node: ast.AST, statement: ast.stmt | None) -> None:
        if isinstance(node, ast.stmt):
            statement = node
        if statement is not None:
            found[node] = statement
        for child in ast.iter_child_nodes(node):
            walk(child, statement)

    walk(tree, None)
    return found


def _changes_of(node: ast.AST) -> Iterator[object]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield _turn_comparison
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield _swap_operator
    elif isinstance(node, ast.BoolOp):
        yield _swap_and_or
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield _move_constant
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield _negate
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield _leave_out


def _is_log(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).partition(".")[0] in LOG_NAMES


def _turn_comparison(node: ast.Compare) -> str:
    before = node.ops[0]
    node.ops[0] = COMPARISONS[type(before)]()
    return f"{type(before).__name__} is {type(node.ops[0]).__name__}"


def _swap_operator(node: ast.BinOp) -> str:
    before = node.op
    node.op = OPERATORS[type(before)]()
    return f"{type(before).__name__} is {type(node.op).__name__}"


def _swap_and_or(node: ast.BoolOp) -> str:
    is_and = isinstance(node.op, ast.And)
    node.op = ast.Or() if is_and else ast.And()
    return "and is or" if is_and else "or is and"


def _move_constant(node: ast.Constant) -> str:
    before = node.value
    node.value = not before if isinstance(before, bool) else before + 1  # type: ignore[operator]
    return f"{before} is {node.value}"


def _negate(node: ast.If | ast.While | ast.IfExp) -> str:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return "condition negated"


def _leave_out(node: ast.Expr) -> str:
    what = ast.unparse(node)[:60]
    node.value = ast.Constant(None)
    return f"left out: {what}"

"""Limits of the code: functions have 60 lines and eight parameters, files 450 lines, at most."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = tuple(
    ROOT / name for name in ("services", "kernels", "operator", "loadtests", "dashboards", "tools")
)
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 8
"""Maximum number of parameters, not counting ``self`` and ``cls``. Further options are
passed as one object."""
FLAGS = "typer reads the flags of a command from the parameters of its function"
PUBLIC = "part of the public interface: users already pass these options by keyword"
MANY_PARAMETERS = {
    "services/midstreamer/cli/query_flags.py::replay": FLAGS,
    "services/midstreamer/cli/run_flags.py::run": FLAGS,
    "kernels/midstreamer_kernels/search.py::History.search": PUBLIC,
    "kernels/midstreamer_kernels/search.py::nearest": PUBLIC,
    "kernels/midstreamer_kernels/reference/search.py::search": "takes the options of its twin, "
    "`midstreamer_kernels.search.History.search`, so that tests pass both the same",
}
"""Functions, as ``path::name``, that may have more parameters, each with the reason."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _files() -> list[Path]:
    return [path for room in ROOMS for path in sorted(room.rglob("*.py"))]


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"


def _functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the name and the node of every function in ``tree``; the name includes the classes."""
    for node in ast.iter_child_nodes(tree):
        within = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{inside}{node.name}."
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{inside}{node.name}", node
        yield from _functions(node, within)


def _parameters(function: Function) -> int:
    """Count the named parameters of a function; ``*args`` and ``**kwargs`` do not count."""
    given = function.args
    every = *given.posonlyargs, *given.args, *given.kwonlyargs
    return sum(each.arg not in {"self", "cls"} for each in every)


def test_no_function_is_longer_than_a_screen() -> None:
    assert [line for path in _files() for line in _long_functions(path)] == []


def test_no_file_is_longer_than_450_lines() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files()}
    assert {
        str(path.relative_to(ROOT)): count
        for path, count in lines.items()
        if count > FILE_LINES_MAX
    } == {}


def test_no_function_takes_more_than_eight_parameters() -> None:
    rooms = *ROOMS, ROOT / "tests", ROOT / "benchmarks"
    many = {
        f"{path.relative_to(ROOT)}::{name}": _parameters(function)
        for room in rooms
        for path in sorted(room.rglob("*.py"))
        for name, function in _functions(_tree(path))
        if _parameters(function) > PARAMETERS_MAX
    }
    assert {name: count for name, count in many.items() if name not in MANY_PARAMETERS} == {}
    assert sorted(MANY_PARAMETERS.keys() - many.keys()) == [], "no longer needs its exemption"

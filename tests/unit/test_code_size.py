"""Bounds of the code's size: functions of at most 60 lines, files of at most 450 lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = tuple(
    ROOT / name for name in ("services", "kernels", "operator", "loadtests", "dashboards", "tools")
)
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60


def _files() -> list[Path]:
    return [path for room in ROOMS for path in sorted(room.rglob("*.py"))]


def _long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"


def test_no_function_is_longer_than_a_screen() -> None:
    assert [line for path in _files() for line in _long_functions(path)] == []


def test_no_file_is_longer_than_450_lines() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files()}
    assert {
        str(path.relative_to(ROOT)): count
        for path, count in lines.items()
        if count > FILE_LINES_MAX
    } == {}

"""Draw prose at random, for a reader who has not seen the code.

``python -m tools.draw_prose 7`` prints a hundred docstrings, comments and messages, each with its
place, the summaries of its module and class, and the code to which it belongs. The same seed draws
the same texts from the same sources. The reader says in one sentence what each text means. A text
that he must read twice is to be written again.

Each text is drawn from a room (a folder) that is chosen first, and all rooms have the same
chance, so that a small room is not hidden by a large one.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]
COUNT = 100
WORDS_MIN = 4
"""Fewest words of a text that is drawn; a shorter text cannot be misunderstood."""
ERRORS = re.compile(r"(Error|Input|Refused|Warning|Refusal|Exit|Parameter)$|^fail$|^error$")
"""Matches the names of functions and exceptions whose string arguments are messages for people."""
DIRECTIVES = re.compile(r"# (noqa|type:|fmt:|pragma|!)|^#!")


Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
"""A node of Python's syntax tree that can have a docstring."""


class Prose(NamedTuple):
    """A docstring, comment or message, with the place where it stands."""

    room: str
    place: str
    """Path and line of the text, and the name of the class, function or value it describes."""
    kind: str
    """Which kind of text it is: docstring, comment or message."""
    text: str
    code: str = ""
    """The code that a reader sees next to the text; empty for a module."""
    within: tuple[str, ...] = ()
    """The summaries that a reader of the file has read before: of its module, then of its class."""


def room_of(path: str) -> str:
    """Return the room of a path: a folder, such as `services/midstreamer/sync`.

    A text is drawn from a room that was drawn first, so all rooms have the same chance.
    """
    parts = path.split("/")
    deep = {"services": 3, "operator": 2, "kernels": 3, "tests": 2}
    return "/".join(parts[: min(deep.get(parts[0], 1), len(parts) - 1)]) or "."


def of_python(path: str, source: str) -> Iterator[Prose]:
    """Yield the docstrings, comments and messages of a Python module."""
    tree, room, lines = ast.parse(source), room_of(path), source.splitlines()
    module = _summaries(tree, ())
    for name, node, above in _scopes(tree, "", ()):
        for at, child in enumerate(node.body):
            match child:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    if at == 0:  # the docstring of the scope itself
                        subject, code, within = name, _head(lines, node), above
                    else:  # the docstring of the attribute or constant that is assigned before it
                        described = node.body[at - 1]
                        subject, code = _assigned(described, name), _line(lines, described)
                        within = _summaries(node, above)
                    place = f"{path}:{child.lineno} {subject}"
                    yield Prose(room, place, "docstring", text, code, within)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ERRORS.search(_called(call.func)):
            for argument in call.args:
                if text := _written(argument):
                    place = f"{path}:{call.lineno}"
                    code = _joined(lines[call.lineno - 1 : call.end_lineno])
                    yield Prose(room, place, "message", text, code, module)
    yield from (each._replace(within=module) for each in _comments(path, room, source))


def of_yaml(path: str, source: str) -> Iterator[Prose]:
    """Yield the comments of a YAML file or template; consecutive comment lines are one text."""
    first, lines, inside = 0, list[str](), False
    for number, line in enumerate([*source.splitlines(), ""], 1):
        opened = line.lstrip().startswith(("{{- /*", "{{/*", "{{-/*"))
        if opened or inside or line.lstrip().startswith("#"):
            first = first if lines else number
            lines.append(line.strip().lstrip("#{-/* ").rstrip("}-/* "))
            inside = (opened or inside) and "*/" not in line
        elif lines:
            text = "\n".join(lines)
            yield Prose(room_of(path), f"{path}:{first}", "comment", text, line.strip())
            lines = []


def _scopes(
    node: Scope, name: str, above: tuple[str, ...]
) -> Iterator[tuple[str, Scope, tuple[str, ...]]]:
    """Yield a node and the classes and functions in it.

    Each has its name and the summaries of the module and the classes around it; ``name`` and
    ``above`` are those of ``node``.
    """
    yield name, node, above
    inner = _summaries(node, above)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _scopes(child, f"{name}.{child.name}".lstrip("."), inner)


def _summaries(node: Scope, above: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``above`` and, for a module or class, the first paragraph of its docstring."""
    text = ast.get_docstring(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not text:
        return above
    return (*above, _joined(text.partition("\n\n")[0].splitlines()))


def _assigned(node: ast.stmt, name: str) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return f"{name}.{ast.unparse(target)}".lstrip(".") if target else name


def _head(lines: Sequence[str], node: Scope) -> str:
    """Return the first line of a class, or the whole signature of a function.

    For a module, return an empty string.
    """
    match node:
        case ast.ClassDef():
            return _line(lines, node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return _joined(lines[node.lineno - 1 : node.body[0].lineno - 1])
    return ""


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _line(lines: Sequence[str], node: ast.stmt | ast.expr) -> str:
    return lines[node.lineno - 1].strip()


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _written(argument: ast.expr) -> str:
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{_shown(part)}}}"
                for part in values
            )
    return ""


def _shown(part: ast.expr) -> str:
    return ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""


def _comments(path: str, room: str, source: str) -> Iterator[Prose]:
    first, last, texts, lines = 0, -1, list[str](), source.splitlines()

    def together() -> Prose:
        below = next((line.strip() for line in lines[last:] if line.strip()), "")
        return Prose(room, f"{path}:{first}", "comment", "\n".join(texts), below)

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVES.search(token.string):
            continue
        row, text = token.start[0], token.string.strip("# -")
        if beside := token.line[: token.start[1]].strip():
            yield Prose(room, f"{path}:{row}", "comment", text, beside)
            continue
        if row != last + 1 and texts:
            yield together()
            texts = []
        first, last = (first if texts else row), row
        texts.append(text)
    if texts:
        yield together()


def everything(top: Path = TOP) -> list[Prose]:
    """Return every text of the repository's code and charts, in the order of their places."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=top, capture_output=True, text=True, check=True
    )
    found: list[Prose] = []
    for path in listed.stdout.split("\n"):
        if path.startswith("tests/cluster/recorded"):
            continue
        if path.endswith(".py"):
            found += of_python(path, (top / path).read_text(encoding="utf-8"))
        elif path.startswith("charts/") and path.endswith((".yaml", ".tpl")):
            found += of_yaml(path, (top / path).read_text(encoding="utf-8"))
    return [each for each in found if len(each.text.split()) >= WORDS_MIN]


def draw(seed: int, texts: Sequence[Prose], count: int = COUNT) -> list[Prose]:
    """Draw `count` different texts: for each, choose a room (a folder), then one of its texts."""
    dice, rooms = random.Random(seed), defaultdict[str, list[Prose]](list)
    for each in texts:
        rooms[each.room].append(each)
    drawn: list[Prose] = []
    while len(drawn) < count and any(rooms.values()):
        room = rooms[dice.choice(sorted(name for name, left in rooms.items() if left))]
        drawn.append(room.pop(dice.randrange(len(room))))
    return drawn


def _below(place: str, folder: str) -> bool:
    return not folder or place.startswith(folder.rstrip("/") + "/")


def main(arguments: list[str] | None = None) -> int:
    """Print the texts that a seed draws."""
    parser = argparse.ArgumentParser(prog="python -m tools.draw_prose", description=__doc__)
    parser.add_argument("seed", type=int, help="any number; the same number draws the same texts")
    parser.add_argument("--count", type=int, default=COUNT, help="how many texts; default: 100")
    parser.add_argument("--room", default="", help="draw from this folder and those below it alone")
    given = parser.parse_args(arguments)
    texts = [each for each in everything() if _below(each.place, given.room)]
    if not texts:
        parser.error(f"--room {given.room}: no text is below this folder")
    for number, each in enumerate(draw(given.seed, texts, given.count), 1):
        print(f"{number}. {each.place} ({each.kind})")
        for summary in each.within:
            print(f"    in: {summary}")
        if each.code:
            print(f"    > {each.code}")
        print("\n".join(f"    {line}" for line in each.text.strip().splitlines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

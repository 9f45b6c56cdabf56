"""Every name in backticks exists: in docstrings, in comments and in the pages of the documentation.

A renamed or deleted name leaves text behind that misleads; this test finds such text. It checks a
text in backticks when the text looks like a name of code: `package.module`, `module.function`,
`SomeClass`, `a_function`, `path/to/a_file.py`. Each part of the name must be a word of the code.
When the first parts name one of our modules, that module must define or import the next part.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import io
import keyword
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.test_forbidden_content import TOP, tracked

ROOTS = ("services/", "operator/", "kernels/")
QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*_?")
CODE_LIKE = re.compile(r"[._]|[a-z0-9][A-Z]|^[A-Z][a-z]+$")
FILE = re.compile(r"[\w-][\w.-]*(?:/[\w.-]+)*")
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".sql", ".pem", ".json", ".mjs"}
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HISTORY = ("CHANGELOG.md", "changelog.d/", "docs/explanation/decisions/")
"""Pages about the past, in which names may occur that no longer exist."""
OUTSIDE = {"preStop", "hostPath", "LimitNOFILE", "pg_dump", "pg_restore"}
"""Names of Kubernetes, systemd and PostgreSQL that may be in backticks.

Our code does not use them, so this test would not know them.
"""
HERE = "tests/docs/test_names.py"
"""The path of this file. As examples, it quotes names that do not exist."""


class Quote(NamedTuple):
    """A text in backticks."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(TOP)}:{self.line}: `{self.text}`"


@functools.cache
def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


class Module(NamedTuple):
    """The facts of a Python file that this test needs; a whole syntax tree is too large to keep."""

    docstrings: tuple[tuple[int, str], ...]
    """Line and text of every bare string: docstrings, and strings below a field."""
    strings: frozenset[str]
    """Every other string."""
    names: frozenset[str]
    """Every name and attribute that the file reads."""
    defined: frozenset[str]
    """The names that the file defines or imports, in any scope."""


@functools.cache
def module(path: Path) -> Module:
    nodes = list(ast.walk(ast.parse(text_of(path))))
    bare = [node.value for node in nodes if isinstance(node, ast.Expr)]
    prose = {id(node) for node in bare}
    docstrings = tuple(
        (node.lineno, node.value)
        for node in bare
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    strings, names, defined = set[str](), set[str](), set[str]()
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                strings.add(text)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                defined.add(name)
            case ast.ClassDef(name=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=other):
                defined.add(other or name)
                names.update(name.split("."))
            case ast.Name(id=name, ctx=ctx) | ast.Attribute(attr=name, ctx=ctx):
                (defined if isinstance(ctx, ast.Store) else names).add(name)
            case ast.ImportFrom(module=str(name)):
                names.update(name.split("."))
    if path.name == "__init__.py":
        # The names of a package's modules count as defined in the package. So do its strings that
        # are valid names: some packages import names only on first use, and list them in strings.
        defined |= {text for text in strings if text.isidentifier()}
        defined |= {each.stem for each in path.parent.iterdir()}
    return Module(docstrings, frozenset(strings), frozenset(names), frozenset(defined))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text_of(path)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def quotes(path: Path) -> Iterator[Quote]:
    """Yield every text in backticks of a file."""
    if path.suffix == ".py":
        proses = [*module(path).docstrings, *comments(path)]
    else:
        # In a page, ignore the blocks of code: they are not prose.
        text = re.sub(
            r"```.*?```", lambda m: "\n" * m[0].count("\n"), text_of(path), flags=re.DOTALL
        )
        proses = [(1, text)]
    for first, prose in proses:
        for number, line in enumerate(prose.splitlines(), first):
            for found in QUOTED.finditer(line):
                yield Quote(path, number, found[1])


@functools.cache
def sources() -> tuple[Path, ...]:
    """Return our Python files but not this one, which quotes invented names as examples."""
    return tuple(path for path in tracked() if path.suffix == ".py" and path != TOP / HERE)


@functools.cache
def words() -> frozenset[str]:
    """Return every word of our data files and our Python code, without docstrings and comments."""
    found = {*dir(builtins), *keyword.kwlist}
    for path in sources():
        found |= module(path).names | module(path).defined
        found.update(WORD.findall(" ".join(module(path).strings)))
    for path in tracked():
        if path.suffix not in {".py", ".md"}:
            found.update(WORD.findall(text_of(path)))
    return frozenset(found)


@functools.cache
def strings() -> frozenset[str]:
    """Return every string of the code, such as names of log events, files and spans."""
    return frozenset().union(*(module(path).strings for path in sources()))


@functools.cache
def paths() -> frozenset[str]:
    """Return the paths of all files from the top of the repository, each with a leading slash."""
    return frozenset(f"/{path.relative_to(TOP).as_posix()}" for path in tracked())


@functools.cache
def values() -> frozenset[str]:
    """Return the names of settings in `config.toml` and in the values files of the charts.

    These are the first words of all lines that are not indented, also of comment lines.
    """
    files = [TOP / "config.toml", *TOP.glob("charts/*/values.yaml")]
    found = re.findall(r"^#? ?\[?(\w+)", "\n".join(map(text_of, files)), re.MULTILINE)
    return frozenset(found)


@functools.cache
def modules() -> dict[str, list[Path]]:
    """Return our modules by every ending of their dotted name: a.b.c, b.c and c."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in tracked():
        if path.suffix == ".py":
            parts = path.relative_to(TOP).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            for at in range(len(parts)):
                found[".".join(parts[at:])].append(path)
    return found


@functools.cache
def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def resolves(name: str) -> bool:
    """Return whether a dotted name is a name of our code or of an installed package."""
    parts = name.split(".")
    if name in modules():
        return True
    for at in range(len(parts) - 1, 0, -1):
        if homes := modules().get(".".join(parts[:at])):
            return any(parts[at] in module(home).defined for home in homes)
    return all(part in words() for part in parts) or installed(parts[0])


def wrong(quote: Quote) -> bool:
    """Return whether a text in backticks has the form of a name, but no such name exists."""
    text = quote.text.removesuffix("()").removesuffix("=")
    if text in OUTSIDE:
        return False
    if FILE.fullmatch(text) and Path(text).suffix in SUFFIXES:
        names = paths()
        # ID in ID.pem and STATE in STATE/pids are placeholders.
        placeholder = re.search(r"(?<![A-Z])[A-Z]{2,}(?=[/.])", text)
        known = any(name.endswith(f"/{text}") for name in names) or text in strings()
        return not (known or placeholder)
    parts = text.split(".")
    if not all(NAME.fullmatch(part) for part in parts) or not CODE_LIKE.search(text):
        return False
    if text in strings() or (parts[0] in values() and all(part in words() for part in parts)):
        return False
    return not resolves(text)


@pytest.mark.slow
def test_every_name_in_backticks_exists() -> None:
    read = [path for path in tracked() if path.suffix in {".py", ".md"}]
    pages = [
        path for path in read if not path.relative_to(TOP).as_posix().startswith((*HISTORY, HERE))
    ]
    assert [str(quote) for path in pages for quote in quotes(path) if wrong(quote)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["coordinator.dispatch", "FrameReceived", "make_up_your_mind", "dispatch.no_such_name"]
)
def test_only_names_that_exist_are_taken(text: str) -> None:
    quote = Quote(TOP / "README.md", 1, text)
    assert wrong(quote) == (text in {"make_up_your_mind", "dispatch.no_such_name"})

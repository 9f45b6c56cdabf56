"""Loads the SQL queries from the .sql files of this folder; each query has a name.

A query refers to an argument by number (``$1``), or by name where it has many (``$due_time``).
PostgreSQL knows only numbers: `load` numbers the names, and `Queries.bind` orders the values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_ARGUMENT = re.compile(r"\$([a-z_]+)")


class Queries(dict[str, str]):
    """The text of each query by the query's name; arguments have numbers, as PostgreSQL needs."""

    def __init__(self, written: Mapping[str, str]) -> None:
        """Replace the names of a query's arguments by numbers, in the order of their first use."""
        super().__init__({name: numbered(text) for name, text in written.items()})
        self.arguments = {name: arguments(text) for name, text in written.items()}

    def bind(self, name: str, values: Mapping[str, Any]) -> list[Any]:
        """Return values in the order of a query's arguments; KeyError if a value is missing."""
        return [values[argument] for argument in self.arguments[name]]


def arguments(text: str) -> tuple[str, ...]:
    """Return the names of the arguments of a query, in the order of their first use."""
    return tuple(dict.fromkeys(_ARGUMENT.findall(text)))


def numbered(text: str) -> str:
    """Return the text of a query with numbers in place of the names of its arguments."""
    numbers = {name: f"${number}" for number, name in enumerate(arguments(text), 1)}
    return _ARGUMENT.sub(lambda found: numbers[found[1]], text)


def load() -> Queries:
    """Return every query by its name, without comments."""
    found: dict[str, str] = {}
    for file in resources.files(__name__).iterdir():
        if file.name.endswith(".sql"):
            _, *parts = _NAMED.split(file.read_text())
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                found[name] = _without_comments(text).strip().rstrip(";")
    return Queries(found)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))

"""Loads the SQL queries from the .sql files of this folder; each query has a name."""

from __future__ import annotations

import re
from importlib import resources

_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load() -> dict[str, str]:
    """Return the text of every query by its name, without comments."""
    found: dict[str, str] = {}
    for file in resources.files(__name__).iterdir():
        if file.name.endswith(".sql"):
            _, *parts = _NAMED.split(file.read_text())
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                found[name] = _without_comments(text).strip().rstrip(";")
    return found


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))

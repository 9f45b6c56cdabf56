"""Helpers for files that are built from code, such as the JSON files of dashboards.

`parts` loads the definitions from which files are built. `behind` finds built files that are out of
date. `write` brings those files up to date.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def parts(package: ModuleType, attribute: str) -> tuple[Any, ...]:
    """Return the value of the variable ``attribute`` in each module of a package.

    The values are sorted by the names of their modules. Each value, for example a dashboard
    ``BOARD``, has a field ``name``. Raise ValueError if it is not the name of the module.
    """
    found = []
    for name in sorted(each.name for each in pkgutil.iter_modules(package.__path__)):
        part = getattr(importlib.import_module(f"{package.__name__}.{name}"), attribute)
        if part.name != name:
            place = f"{package.__name__.replace('.', '/')}/{name}.py"
            raise ValueError(
                f"{place} defines {attribute} with the name {part.name!r}: use {name!r}"
            )
        found.append(part)
    return tuple(found)


def behind(wanted: Mapping[Path, str]) -> list[Path]:
    """Return the paths of built files that are missing, out of date, or no longer wanted.

    ``wanted`` maps the path of every file that should exist to the text of the file.
    """
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    kinds = {(path.parent, path.suffix) for path in wanted}
    existing = {path for folder, suffix in kinds for path in folder.glob(f"*{suffix}")}
    return changed + sorted(existing - set(wanted))


def write(wanted: Mapping[Path, str]) -> list[Path]:
    """Write missing and outdated files, remove unwanted files, and return the changed paths."""
    changed = behind(wanted)
    for path in changed:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return changed

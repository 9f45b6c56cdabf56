"""Files that are built from the code and committed, and the modules that they are built from."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def parts(package: ModuleType, attribute: str) -> tuple[Any, ...]:
    """What each module of a package has below this name, by the name of the module.

    ValueError when a part is not called as its file is.
    """
    made = []
    for name in sorted(each.name for each in pkgutil.iter_modules(package.__path__)):
        part = getattr(importlib.import_module(f"{package.__name__}.{name}"), attribute)
        if part.name != name:
            place = f"{package.__name__.replace('.', '/')}/{name}.py"
            raise ValueError(f"{place} calls its part {part.name!r}: name it as the file is named")
        made.append(part)
    return tuple(made)


def behind(wanted: Mapping[Path, str]) -> list[Path]:
    """Files that say something else than is wanted, that are missing, or that are left over.

    ``wanted`` are all files that there should be in their folders, with their texts.
    """
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    kinds = {(path.parent, path.suffix) for path in wanted}
    there = {path for folder, suffix in kinds for path in folder.glob(f"*{suffix}")}
    return changed + sorted(there - set(wanted))


def write(wanted: Mapping[Path, str]) -> list[Path]:
    """Write what is behind, and remove what is left over; the files that changed."""
    changed = behind(wanted)
    for path in changed:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return changed

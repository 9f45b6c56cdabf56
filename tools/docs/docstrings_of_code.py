"""Read docstrings of fields and enum members, settings and transition tables from the code.

Python does not keep the string below an attribute at run time; the syntax tree has it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any

import midstreamer
import midstreamer_operator
from midstreamer.runtime import config

PACKAGES = (midstreamer, midstreamer_operator)
OURS = {package.__name__ for package in PACKAGES}


@cache
def _classes(module: ModuleType) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(module))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def attributes(cls: type) -> dict[str, str]:
    """Return the docstring of each attribute of a class, also of inherited ones; "" if missing."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        module = inspect.getmodule(parent)
        if module is None or not module.__name__.startswith("midstreamer"):
            continue
        body = _classes(module)[parent.__name__].body
        for node, following in zip(body, [*body[1:], None], strict=True):
            name = _assigned(node)
            if name and not name.startswith("_"):
                found[name] = _text(following)
    return found


def _assigned(node: ast.stmt) -> str:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return one_line(str(node.value.value))
    return ""


def one_line(text: str | None) -> str:
    """Return a docstring as one line of Markdown: double backticks become single ones."""
    return " ".join((text or "").split()).replace("``", "`")


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring as one line."""
    return one_line((inspect.getdoc(thing) or "").split("\n\n")[0])


def settings() -> list[type[config.Settings]]:
    """Return the class of each section of the settings, in the order of `config.SECTIONS`."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith((".config", "_operator.settings")):
                importlib.import_module(module.name)
    found: dict[str, type[config.Settings]] = {}
    waiting = [config.Settings]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.section and cls.__module__.partition(".")[0] in OURS:
            found[cls.section] = cls
    return [found[name] for name in config.SECTIONS if name in found]


def _told(module: ModuleType, table: Mapping[StrEnum, Any], part: str) -> str:
    """Return the caption of the picture of a transition table.

    The caption of a table named TRANSITIONS is the first paragraph of its module's docstring.  The
    caption of a table such as `ASKED_TRANSITIONS`, whose ``part`` is "ASKED_", is the first
    paragraph of the docstring of the enum of its states.
    """
    return summary(type(next(iter(table)))) if part else summary(module)


def machines() -> dict[str, tuple[str, ModuleType, str]]:
    """Return every transition table (TRANSITIONS or …_TRANSITIONS) of the code, by picture name.

    Each value has the caption of the picture, the module of the table, and the table's name.
    """
    found = {}
    for module in pkgutil.walk_packages(midstreamer.__path__, "midstreamer."):
        if ".cli" in module.name or module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        room = module.name.removeprefix("midstreamer.").replace(".", "-")
        for table in vars(loaded):
            part, found_one, _ = table.rpartition("TRANSITIONS")
            if found_one and f"{table}: " in inspect.getsource(
                loaded
            ):  # only tables that this module defines, none that it imports
                name = f"{room}-{part.strip('_').lower()}".rstrip("-")
                found[name] = (_told(loaded, vars(loaded)[table], part), loaded, table)
    return found

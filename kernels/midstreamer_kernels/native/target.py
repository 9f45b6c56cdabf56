"""What numba compiles for in this process: read once, and the same for shapes, code and cache.

numba takes the name of a processor from its configuration again and again, from the environment
before each compilation; the machine that it generates code for is made once. What is emitted has
the shape of a machine too (see `machine`), so all three must agree: code for vectors of 64 bytes
among arrays laid out for 32 gives wrong answers. So the target is read here, as the package is
imported, and a name that changes later changes nothing.

``MIDSTREAMER_KERNELS_AHEAD`` names a folder of code compiled ahead (see `ahead`). numba then
compiles for the level that `levels` chooses, in all of the process, and code comes from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from llvmlite import binding
from numba.core import config
from numba.core.registry import cpu_target

from midstreamer_kernels.native.levels import Choice, choose

VARIABLE = "MIDSTREAMER_KERNELS_AHEAD"


class Target(NamedTuple):
    """A processor, as numba names it."""

    model: str
    """Of LLVM; empty when numba was not told one, and compiles for this very processor."""
    key: tuple[str, str, str]
    """By which numba tells compiled code apart: triple, model, features."""
    certain: bool
    """False when numba was at work before, and its name may have changed since."""
    folder: Path | None
    """Of code compiled ahead; it is only read."""
    trouble: str
    """Why the folder that was named is not used, or not as asked; empty when all is well."""


def _read(environ: Mapping[str, str]) -> Target:
    at_work = "_toplevel_target_context" in vars(cpu_target)
    config.reload_config()  # type: ignore[no-untyped-call]  # as numba does before it compiles
    folder, choice = _ahead(environ.get(VARIABLE, ""), at_work=at_work)
    if choice.level:
        # Without this numba would add what the processor has beyond the level.
        vars(config).update(CPU_NAME=choice.level, CPU_FEATURES="")
    model = _model()
    key = cpu_target.target_context.codegen().magic_tuple()
    return Target(model, key, not (at_work and model), folder, choice.trouble)


def _ahead(named: str, *, at_work: bool) -> tuple[Path | None, Choice]:
    if not named:
        return None, Choice("", "")
    folder = Path(named).absolute()
    choice = choose(_model(), binding.get_host_cpu_features(), at_work=at_work)
    if not folder.is_dir():
        choice = Choice("", "there is no such folder")
    told = f"{VARIABLE}={named}: {choice.trouble}" if choice.trouble else ""
    return folder if choice.level else None, Choice(choice.level, told)


def _model() -> str:
    return getattr(config, "CPU_NAME", None) or ""


TARGET = _read(os.environ)

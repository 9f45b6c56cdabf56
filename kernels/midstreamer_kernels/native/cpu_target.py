"""The processor that numba compiles for in this process, read once when the package is imported.

Three things must fit one another: the processor's name, which numba reads from the environment
before each compilation; numba's target machine, which it creates only once; and the vector width of
the emitted loops (see `simd_registers`). For example, code for vectors of 64 bytes gives wrong
results on arrays laid out for 32 bytes. Therefore the target is read once, and a name that changes
later has no effect.

``MIDSTREAMER_KERNELS_AHEAD`` can name a folder of code compiled ahead of time (see
`compile_ahead`). Then `cpu_levels` chooses a processor level, and the process loads the code for
that level from the folder. All other code that numba compiles in this process, for example the
functions of other packages, is compiled for the same level.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from llvmlite import binding
from numba.core import config
from numba.core.registry import cpu_target

from midstreamer_kernels.native.cpu_levels import Choice, choose

VARIABLE = "MIDSTREAMER_KERNELS_AHEAD"


class Target(NamedTuple):
    """The processor that numba compiles for, and the folder of code compiled ahead of time."""

    model: str
    """LLVM's name of the processor; empty if numba compiles for the processor it runs on."""
    key: tuple[str, str, str]
    """LLVM's target triple, processor name and features: numba's key of compiled code."""
    certain: bool
    """False if `model` is set, but numba had created its target before this package was imported.

    The target may then be for another processor.
    """
    folder: Path | None
    """The folder of code compiled ahead of time, which is only read; None if none is used."""
    trouble: str
    """Why the folder or the processor level that the environment names is not used.

    The text is for the log, and empty if both are used or none is named.
    """


def _read(environ: Mapping[str, str]) -> Target:
    at_work = "_toplevel_target_context" in vars(cpu_target)
    config.reload_config()  # type: ignore[no-untyped-call]  # as numba does before it compiles
    folder, choice = _ahead(environ.get(VARIABLE, ""), at_work=at_work)
    if choice.level:
        # Set the features to none: otherwise numba would add features of this processor that the
        # level does not include.
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
    reason = f"{VARIABLE}={named}: {choice.trouble}" if choice.trouble else ""
    return folder if choice.level else None, Choice(choice.level, reason)


def _model() -> str:
    return getattr(config, "CPU_NAME", None) or ""


TARGET = _read(os.environ)

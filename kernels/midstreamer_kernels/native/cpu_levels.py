"""Choice of a processor level: a process loads the code that was compiled for that level.

The code is compiled ahead of time. One folder holds code for several levels of the x86-64 psABI,
x86-64-v3 and x86-64-v4, and so serves every node. A level that the processor does not support is
never chosen, because its code would end the process with an illegal instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

V3 = (
    "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "sahf",
    "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave",
)  # fmt: skip
V4 = (*V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS = {"x86-64-v4": V4, "x86-64-v3": V3}
"""Features that a processor needs for each x86-64 level, in LLVM's names; the highest level first.

LLVM reports a feature only if the operating system also saves the registers of that feature.
"""


class Choice(NamedTuple):
    """The chosen level: the process loads the code that was compiled ahead of time for it."""

    level: str
    """A key of `LEVELS`. Empty if none can be used; then the folder of compiled code is ignored."""
    trouble: str
    """The problem to log; empty if there is none."""


def lacking(level: str, features: Mapping[str, bool]) -> list[str]:
    """Return the features of `level` that a processor with `features` does not have."""
    return [feature for feature in LEVELS[level] if not features.get(feature)]


def level_of(features: Mapping[str, bool]) -> str:
    """Return the highest level that a processor with `features` supports; empty if none."""
    return next((level for level in LEVELS if not lacking(level, features)), "")


def choose(model: str, features: Mapping[str, bool], *, at_work: bool) -> Choice:
    """Choose the level whose code a process loads.

    Parameters
    ----------
    model : str
        The value of ``NUMBA_CPU_NAME``; empty if it is not set.
    features : mapping
        The processor's features, as `llvmlite.binding.get_host_cpu_features` returns them.
    at_work : bool
        Whether numba has already created its target, so that the level can no longer be set.
    """
    best = level_of(features)
    if at_work:
        return Choice("", "numba was used before the import: import midstreamer_kernels first")
    if not best:
        lowest = min(LEVELS)
        listed = ", ".join(lacking(lowest, features)[:4])
        return Choice(
            "", f"the folder has code for {lowest} and higher, and this processor lacks {listed}"
        )
    if not model or model == best:
        return Choice(best, "")
    if model not in LEVELS:
        return Choice("", f"NUMBA_CPU_NAME={model} names none of {', '.join(LEVELS)}: unset it")
    missing = lacking(model, features)
    if missing:
        listed = ", ".join(missing[:4])
        return Choice(
            best, f"NUMBA_CPU_NAME={model} is not obeyed, this processor lacks {listed}: unset it"
        )
    return Choice(model, "")

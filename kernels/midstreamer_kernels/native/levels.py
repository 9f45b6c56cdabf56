"""Which level of x86-64 code compiled ahead is taken for: decided from what a processor says.

Code is compiled ahead for the levels of the x86-64 psABI that emitted loops have a shape for, so
that one folder serves every node. A level that a processor lacks is never chosen: its code would
end the process by an illegal instruction.
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
"""What a processor must have for each, in LLVM's words: the system saves it too. Widest first."""


class Choice(NamedTuple):
    """What code compiled ahead is taken for."""

    level: str
    """Empty when none can be: then all is as without a folder."""
    trouble: str
    """What the log should say; empty when all is well."""


def lacking(level: str, features: Mapping[str, bool]) -> list[str]:
    """Return what a processor with these features lacks for a level."""
    return [feature for feature in LEVELS[level] if not features.get(feature)]


def level_of(features: Mapping[str, bool]) -> str:
    """Return the highest level that a processor has; empty when it has none."""
    return next((level for level in LEVELS if not lacking(level, features)), "")


def choose(model: str, features: Mapping[str, bool], *, at_work: bool) -> Choice:
    """Choose a level for a processor.

    Parameters
    ----------
    model : str
        What ``NUMBA_CPU_NAME`` asks for; empty when it is not set.
    features : mapping
        What the processor has, as `llvmlite.binding.get_host_cpu_features`.
    at_work : bool
        Whether numba has settled already what it compiles for.
    """
    best = level_of(features)
    if at_work:
        return Choice("", "numba was at work before: import midstreamer_kernels first")
    if not best:
        lowest = min(LEVELS)
        told = ", ".join(lacking(lowest, features)[:4])
        return Choice("", f"code is there for {lowest} and higher, and this processor lacks {told}")
    if not model or model == best:
        return Choice(best, "")
    if model not in LEVELS:
        return Choice("", f"NUMBA_CPU_NAME={model} names none of {', '.join(LEVELS)}: unset it")
    missing = lacking(model, features)
    if missing:
        told = ", ".join(missing[:4])
        return Choice(
            best, f"NUMBA_CPU_NAME={model} is not obeyed, this processor lacks {told}: unset it"
        )
    return Choice(model, "")

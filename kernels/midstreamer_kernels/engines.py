"""The engines by name, and what this machine offers.

Both compute the same operations in the same order, so an answer does not tell which one gave it.
"auto" is numba: compiled for this processor it is the faster. "wasm" needs no compiler at run time
and starts at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from llvmlite import binding

from midstreamer_kernels.errors import OptionError
from midstreamer_kernels.native import lcss, pairs, scan, vector, windows
from midstreamer_kernels.wasm import engine as wasm

DEFAULT = "numba"

# The widest first: the name shown, the flag in the processor's features, the numba model names
# that promise it when NUMBA_CPU_NAME overrides the processor.
_INSTRUCTION_SETS = (
    ("avx512", "avx512f", ("x86-64-v4",)),
    ("avx2", "avx2", ("x86-64-v3",)),
    ("sse2", "sse2", ("x86-64-v2", "x86-64")),
    ("neon", "neon", ()),
)


class Backend(NamedTuple):
    """The functions an engine offers; inputs are checked by the caller."""

    dtw_squared: Callable[..., float]
    lcss_length: Callable[..., int]
    window_statistics: Callable[..., None]
    scan: Callable[..., Any]


@dataclass(frozen=True)
class Engine:
    """One way to compute that is available here."""

    name: str
    instruction_set: str
    lanes: int
    """Windows compared side by side in a search."""


_BACKENDS = {
    "numba": Backend(pairs.dtw_squared, lcss.lcss_length, windows.window_statistics, scan.scan),
    "wasm": Backend(wasm.dtw_squared, wasm.lcss_length, wasm.window_statistics, wasm.scan),
}


def backend(name: str) -> Backend:
    """Return the functions of the engine `name`; "auto" is `DEFAULT`."""
    found = _BACKENDS.get(DEFAULT if name == "auto" else name)
    if found is None:
        raise OptionError(f"engine is {name!r}: give one of auto, {', '.join(_BACKENDS)}")
    return found


def engines() -> tuple[Engine, ...]:
    """Return the engines available here, the default first."""
    return (
        Engine("numba", _instruction_set(), vector.LANES),
        Engine("wasm", "simd128", wasm.LANES),
    )


def _instruction_set() -> str:
    model = os.environ.get("NUMBA_CPU_NAME", "")
    features = binding.get_host_cpu_features()
    for name, flag, models in _INSTRUCTION_SETS:
        if model in models or (not model and features.get(flag)):
            return name
    return model or "generic"

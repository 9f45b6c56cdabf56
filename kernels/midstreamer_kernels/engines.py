"""The engines by name, and what this machine offers.

Both compute the same operations in the same order, so an answer does not tell which one gave it.
"auto" is numba: compiled for this processor it is the faster. "wasm" needs no compiler at run time
and starts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstreamer_kernels.emit.values import FLOAT32
from midstreamer_kernels.errors import OptionError
from midstreamer_kernels.native import lcss, pairs, scan, windows
from midstreamer_kernels.native.machine import instruction_set
from midstreamer_kernels.wasm import engine as wasm
from midstreamer_kernels.wasm import pairs as wasm_pairs
from midstreamer_kernels.wasm import strips

DEFAULT = "numba"


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
    """float32 numbers in one vector register."""


_BACKENDS = {
    "numba": Backend(pairs.dtw_squared, lcss.lcss_length, windows.window_statistics, scan.scan),
    "wasm": Backend(
        wasm_pairs.dtw_squared, wasm_pairs.lcss_length, wasm.window_statistics, wasm.scan
    ),
}


def backend(name: object) -> Backend:
    """Return the functions of the engine `name`; "auto" is `DEFAULT`."""
    word = name if isinstance(name, str) else ""
    found = _BACKENDS.get(DEFAULT if word == "auto" else word)
    if found is None:
        raise OptionError(f"engine is {name!r}: give one of auto, {', '.join(_BACKENDS)}")
    return found


def engines() -> tuple[Engine, ...]:
    """Return the engines available here, the default first."""
    machine = instruction_set()
    return (
        Engine("numba", machine.name, machine.lanes(FLOAT32)),
        Engine("wasm", "simd128", strips.SHAPES["f32"].lanes),
    )

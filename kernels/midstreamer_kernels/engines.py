"""The two engines that compute DTW and LCSS: "numba" and "wasm".

Both engines do the same operations in the same order, so they return the same bits. "auto" means
numba, which is the faster engine because it compiles for this processor. The WebAssembly engine
needs no compiler at run time, so its first call is fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstreamer_kernels.emit.vector_operations import FLOAT32
from midstreamer_kernels.errors import OptionError
from midstreamer_kernels.native import dtw_of_pair, history_scan, lcss, windows
from midstreamer_kernels.native.simd_registers import instruction_set
from midstreamer_kernels.wasm import engine as wasm
from midstreamer_kernels.wasm import object_file
from midstreamer_kernels.wasm import pairs as wasm_pairs

DEFAULT = "numba"


class Backend(NamedTuple):
    """The functions of one engine. Callers have already checked the arguments that they pass."""

    dtw_squared: Callable[..., float]
    lcss_length: Callable[..., int]
    window_statistics: Callable[..., None]
    scan: Callable[..., Any]


@dataclass(frozen=True)
class Engine:
    """An engine that is available on this machine."""

    name: str
    instruction_set: str
    lanes: int
    """Number of float32 lanes in one vector register."""


_BACKENDS = {
    "numba": Backend(
        dtw_of_pair.dtw_squared, lcss.lcss_length, windows.window_statistics, history_scan.scan
    ),
    "wasm": Backend(
        wasm_pairs.dtw_squared, wasm_pairs.lcss_length, wasm.window_statistics, wasm.scan
    ),
}


def backend(name: object) -> Backend:
    """Return the functions of the engine `name`; "auto" means `DEFAULT`.

    Raises `OptionError` for an unknown name.
    """
    word = name if isinstance(name, str) else ""
    found = _BACKENDS.get(DEFAULT if word == "auto" else word)
    if found is None:
        raise OptionError(f"engine is {name!r}: give one of auto, {', '.join(_BACKENDS)}")
    return found


def engines() -> tuple[Engine, ...]:
    """Return the engines available on this machine, the default engine first."""
    machine = instruction_set()
    return (
        Engine("numba", machine.name, machine.lanes(FLOAT32)),
        Engine("wasm", "simd128", object_file.SHAPES["f32"].lanes),
    )

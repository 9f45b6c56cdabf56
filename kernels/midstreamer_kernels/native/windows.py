"""Windows of a history: their statistics, and one made z-normal.

A window normalises to ``((x - x[0]) - shift) * scale``: `shift` is the mean of ``x - x[0]`` and
`scale` one over the population standard deviation, or 0 where that is zero. Measured from the
window's own first point, a constant window has exactly zero variance and a high price level costs
no digits. The sums run in order over the window alone, never as a difference of longer sums: the
bits do not depend on how the points arrived, where the history begins or how it is cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.moments import emit_moments
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native import machine
from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.emitted import emitted_like

TOGETHER = 16  # windows whose sums are made at once: enough to hide how long an addition takes


_LANES = machine.instruction_set().lanes(FLOAT64)
_moments = emitted_like(
    emit_moments, [Shape(number, _LANES, TOGETHER // _LANES) for number in (FLOAT32, FLOAT64)]
)


@jit
def window_statistics(
    values: Any, length: int, begin: int, end: int, shift: Any, scale: Any
) -> None:
    """Fill `shift` and `scale` for the windows of `length` points that begin in [begin, end).

    O(length) for each; a million windows of 128 points take 40 ms with AVX2.
    """
    _moments(
        values, values.ctypes.data + values.itemsize * begin, length, end - begin,
        shift.ctypes.data + 8 * begin, scale.ctypes.data + 8 * begin,
    )  # fmt: skip
    for position in range(begin, end):
        variance = scale[position]
        scale[position] = 1.0 / np.sqrt(variance) if variance > 0.0 else 0.0


@jit
def normalize(values: Any, shift: float, scale: float, window: Any) -> None:
    """Write `values`, z-normalised by their statistics, into `window` of the same length."""
    origin = np.float64(values[0])
    for t in range(window.size):
        window[t] = (np.float64(values[t]) - origin - shift) * scale

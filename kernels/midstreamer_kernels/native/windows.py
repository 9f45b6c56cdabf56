"""Statistics of the windows of a history, and z-normalisation of one window.

The z-normal form of a window is ``((x - x[0]) - shift) * scale``. `shift` is the mean of
``x - x[0]``; `scale` is one over the population standard deviation, or 0 if that is zero. Values
are taken relative to the window's first point. Therefore a constant window has a variance of
exactly zero, and small changes of great values, such as high prices, lose no digits. The sums run
in order over the points of one window, and are never a difference of longer sums. So the bits do
not depend on how the points arrived, where the history begins or how it is divided.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.mean_and_variance import emit_moments
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape
from midstreamer_kernels.native import simd_registers
from midstreamer_kernels.native.emitted import emitted_like
from midstreamer_kernels.native.jit_decorators import jit

TOGETHER = 16  # windows summed at once: enough to hide the latency of an addition


_LANES = simd_registers.instruction_set().lanes(FLOAT64)
_moments = emitted_like(
    emit_moments, [Shape(number, _LANES, TOGETHER // _LANES) for number in (FLOAT32, FLOAT64)]
)


@jit
def window_statistics(
    values: Any, length: int, begin: int, end: int, shift: Any, scale: Any
) -> None:
    """Fill `shift` and `scale` for the windows of `length` points that begin in [begin, end).

    `values` is float32 or float64; `shift` and `scale` are float64, indexed by the window's begin.
    A window takes O(length) time; a million windows of 128 points take 40 ms with AVX2.
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
    """Write the z-normal form of `values`, shape (m,), to `window`, shape (m,), float64.

    `shift` and `scale` are the statistics of `values`.
    """
    origin = np.float64(values[0])
    for t in range(window.size):
        window[t] = (np.float64(values[t]) - origin - shift) * scale

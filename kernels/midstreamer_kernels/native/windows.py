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

from midstreamer_kernels.native.compiling import jit


@jit
def window_statistics(
    values: Any, length: int, begin: int, end: int, shift: Any, scale: Any
) -> None:
    """Fill `shift` and `scale` for the windows of `length` points that begin in [begin, end)."""
    for position in range(begin, end):
        window = values[position : position + length]
        origin = np.float64(window[0])
        total = 0.0
        for t in range(length):
            total += np.float64(window[t]) - origin
        mean = total / length
        squares = 0.0
        for t in range(length):
            deviation = np.float64(window[t]) - origin - mean
            squares += deviation * deviation
        variance = squares / length
        shift[position] = mean
        scale[position] = 1.0 / np.sqrt(variance) if variance > 0.0 else 0.0


@jit
def normalize(values: Any, shift: float, scale: float, window: Any) -> None:
    """Write `values`, z-normalised by their statistics, into `window` of the same length."""
    origin = np.float64(values[0])
    for t in range(window.size):
        window[t] = (np.float64(values[t]) - origin - shift) * scale

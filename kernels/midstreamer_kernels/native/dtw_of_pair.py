"""The squared DTW distance of two whole series.

The loops are emitted by `emit.dtw_of_pair` in the shape for this processor; this module allocates
their scratch memory. Every cell is ``(x - y)**2 + min(left, up, diagonal)`` with one rounding per
operation. So the result has the same bits as that of the WebAssembly module. In float64
it also has the same bits as that of `reference.dtw`.

This module deliberately neither computes the warping path nor checks its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.dtw_of_pair import (
    SCRATCH_ALIGNMENT,
    emit_banded_pair,
    emit_pair,
    emit_room,
)
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64
from midstreamer_kernels.native.emitted import emitted_like
from midstreamer_kernels.native.jit_decorators import jit
from midstreamer_kernels.native.simd_registers import striped

_SHAPES = striped(FLOAT32), striped(FLOAT64)
_room = emitted_like(emit_room, _SHAPES)
_pair = emitted_like(emit_pair, _SHAPES)

_BANDED_SHAPES = striped(FLOAT32, banded=True), striped(FLOAT64, banded=True)
_banded_room = emitted_like(emit_room, _BANDED_SHAPES)
_banded_pair = emitted_like(emit_banded_pair, _BANDED_SHAPES)


@jit
def dtw_squared(a: Any, b: Any, band: int, limit: float) -> Any:
    """Return the squared DTW distance of `a` and `b`, or infinity if it surely exceeds `limit`.

    Parameters
    ----------
    a, b : ndarray, shape (n,) and (m,), contiguous, float32 or float64, the same type
    band : int
        Warping band: ``|i - j| <= band``; at least ``|n - m|``.
    limit : float
        Squared distance. The limit is checked once per strip (early abandoning), so a result above
        the limit may still be returned.

    Notes
    -----
    O(n * m) time, with a band O(n * band); one instruction computes several cells. O((n + m) *
    lanes) memory: one vector for each point of one series, and one for each diagonal of a band.
    """
    n, m = a.size, b.size
    bounded = band < max(n, m) - 1
    size = _banded_room(a, n, m, band) if bounded else _room(a, n, m, -1)
    scratch = np.empty(size + SCRATCH_ALIGNMENT // a.itemsize, a.dtype)
    place = (scratch.ctypes.data + SCRATCH_ALIGNMENT - 1) & -SCRATCH_ALIGNMENT
    x, y = a.ctypes.data, b.ctypes.data
    if bounded:
        scratch[0] = _banded_pair(a, x, n, y, m, band, limit, place)
    else:
        scratch[0] = _pair(a, x, n, y, m, limit, place)
    return scratch[0]  # this use of `scratch` keeps its memory alive until here

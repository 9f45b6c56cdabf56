"""Two series compared whole by dynamic time warping.

The loops are those of `emit.pair`, in the shape that suits this processor; here they get memory.
Every cell is ``(x - y)**2 + min(left, up, diagonal)``, each operation rounded once, so the bits are
those of `reference.dtw` and of the WebAssembly module, in float32 as in float64.

Deliberately absent: the warping path, and any check of the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from midstreamer_kernels.emit.pair import (
    SCRATCH_ALIGNMENT,
    emit_banded_pair,
    emit_pair,
    emit_room,
)
from midstreamer_kernels.emit.values import FLOAT32, FLOAT64
from midstreamer_kernels.native.compiling import jit
from midstreamer_kernels.native.emitted import emitted_like
from midstreamer_kernels.native.machine import striped

_SHAPES = striped(FLOAT32), striped(FLOAT64)
_room = emitted_like(emit_room, _SHAPES)
_pair = emitted_like(emit_pair, _SHAPES)

_BANDED_SHAPES = striped(FLOAT32, banded=True), striped(FLOAT64, banded=True)
_banded_room = emitted_like(emit_room, _BANDED_SHAPES)
_banded_pair = emitted_like(emit_banded_pair, _BANDED_SHAPES)


@jit
def dtw_squared(a: Any, b: Any, band: int, limit: float) -> Any:
    """Return the least summed squared difference of `a` and `b`, or infinity above `limit`.

    Parameters
    ----------
    a, b : ndarray, shape (n,) and (m,), contiguous, float32 or float64, the same type
    band : int
        ``|i - j| <= band``; at least ``|n - m|``.
    limit : float
        Squared distance; compared strip by strip, so a result above it may still be returned.

    Notes
    -----
    O(n * m) time or O(n * band), several cells to an instruction; O((n + m) * lanes) memory, the
    shorter series mattering more.
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
    return scratch[0]  # which also keeps the memory until here: an address does not

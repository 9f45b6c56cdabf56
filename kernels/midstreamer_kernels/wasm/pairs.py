"""Comparison of two whole series by ``dtw.wasm``.

The distances have the same bits as those of the numba engine (`native.dtw_of_pair`).

The arguments and the series are written to the module's memory, and the result is read from there.
The called function has no parameters and no return value. In addition to the computation, a
comparison takes about 15 microseconds: for one call into the module and a few copies.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.errors import OutOfMemoryError
from midstreamer_kernels.wasm.host import instance_here


class _Pair(ctypes.LittleEndianStructure):
    """The arguments and the result of a comparison: the layout of ``struct pair`` in ``dtw.c``."""

    _fields_ = (
        ("a", ctypes.c_uint32),
        ("b", ctypes.c_uint32),
        ("n", ctypes.c_int32),
        ("m", ctypes.c_int32),
        ("band", ctypes.c_int32),
        ("is_double", ctypes.c_int32),
        ("limit", ctypes.c_double),
        ("cost", ctypes.c_double),
    )


def dtw_squared(a: NDArray[Any], b: NDArray[Any], band: int, limit: float) -> float:
    """Return the squared DTW distance of `a` and `b`, or infinity.

    Infinity means that the squared distance exceeds `limit`. The limit is checked only once per
    strip, so a finite result may exceed `limit` too. Arguments and result are those of
    `native.dtw_of_pair.dtw_squared`.

    Raises
    ------
    OutOfMemoryError
        The series or the scratch memory do not fit into the 4 GiB of a module's memory.
    """
    return _answer("compare_pair", a, b, band, limit)


def lcss_length(a: NDArray[np.float64], b: NDArray[np.float64], epsilon: float, band: int) -> int:
    """Return the length of the longest common subsequence of `a` and `b`.

    Arguments and result are those of `native.lcss.lcss_length`.

    Raises
    ------
    OutOfMemoryError
        The series or the scratch memory do not fit into the 4 GiB of a module's memory.
    """
    return int(_answer("match_pair", a, b, band, epsilon))


def _answer(function: str, a: NDArray[Any], b: NDArray[Any], band: int, limit: float) -> float:
    instance = instance_here()
    first = instance.kept(a.nbytes + b.nbytes)
    second = first + a.nbytes
    place, base = instance.pair_place, instance.memory.address()
    ctypes.memmove(base + first, a.ctypes.data, a.nbytes)
    ctypes.memmove(base + second, b.ctypes.data, b.nbytes)
    wide = a.dtype == np.float64
    arguments = _Pair(first, second, a.size, b.size, band, wide, limit, 0.0)
    ctypes.memmove(base + place, ctypes.addressof(arguments), ctypes.sizeof(arguments))
    instance.call(function)
    # Read the address of the memory again, because the memory may have moved when it grew.
    return _computed(_Pair.from_address(instance.memory.address() + place).cost)


def _computed(cost: float) -> float:
    if cost < 0:
        raise OutOfMemoryError(
            "no memory left for so long a pair in a WebAssembly memory of at most 4 GiB: "
            "give shorter series, or use engine numba"
        )
    return cost

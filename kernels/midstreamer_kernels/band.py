"""The warping band (Sakoe-Chiba): a path may use cell (i, j) only when ``|i - j| <= band``.

A band of None means the full matrix. A band of 0 leaves only the diagonal, so series of equal
length get the Euclidean distance. Some other packages count the diagonal too, and say window
instead of band: their window of w + 1 is our band of w.
"""

from __future__ import annotations

import operator

from midstreamer_kernels.errors import BandError


def half_width(band: int | None, n: int, m: int) -> int:
    """Return the half-width of the band in points, for series of `n` and `m` points.

    None becomes ``max(n, m) - 1``, the full matrix; a wider band is cut to that value.

    Raises
    ------
    BandError
        `band` is negative, not a whole number, or narrower than ``|n - m|``, where no warping path
        exists.
    """
    widest = max(n, m) - 1
    if band is None:
        return widest
    try:
        width = operator.index(band)
    except TypeError:
        raise BandError(f"band is {band!r}: give a whole number of points, or None") from None
    if width < 0:
        raise BandError(f"band is {width}: give 0 or more, or None for the full matrix")
    if width < abs(n - m):
        raise BandError(
            f"band {width} is narrower than the difference of the lengths {n} and {m}: "
            f"give at least {abs(n - m)}, or None"
        )
    return min(width, widest)

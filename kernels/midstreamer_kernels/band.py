"""The one meaning of a band: cell (i, j) may be used when ``|i - j| <= band``.

None is the full matrix. With equal lengths 0 leaves the diagonal, the Euclidean distance. Some
packages count the diagonal too: their window of w + 1 is our band of w.
"""

from __future__ import annotations

import operator

from midstreamer_kernels.errors import BandError


def half_width(band: int | None, n: int, m: int) -> int:
    """Return `band` as a number for series of `n` and `m` points, at most what has an effect.

    Raises
    ------
    BandError
        Negative, not a whole number, or narrower than ``|n - m|``: no path would exist.
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

"""The envelope of a query: at each place, the highest and lowest value within the band.

Whatever point of the query a window's point is paired with lies between the two, so the excess over
the envelope is at most the difference (LB_Keogh: Keogh and Ratanamahatana 2005). `emit.bounds` sums
such excesses for many windows at once.
"""

from __future__ import annotations

from typing import Any

from midstreamer_kernels.native.compiling import jit


@jit
def envelope(query: Any, band: int, upper: Any, lower: Any) -> None:
    """Fill `upper` and `lower` with the extremes of `query` within `band` of each place."""
    m = query.size
    for i in range(m):
        high = low = query[i]
        for j in range(max(0, i - band), min(m, i + band + 1)):
            high = max(high, query[j])
            low = min(low, query[j])
        upper[i] = high
        lower[i] = low

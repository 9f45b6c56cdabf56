"""Lower bounds: how near a window can be to the query at best, for a tenth of a comparison.

The envelope of a query is, at each place, the highest and lowest value within the band. Whatever
point of the query a window's point is paired with lies between the two, so the excess over the
envelope is at most the difference (LB_Keogh: Keogh and Ratanamahatana 2005). Since rounding keeps
order, this holds for the rounded excess too: a bound exceeds the cost that it bounds only by the
rounding of its sum, for which the user leaves room.
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


@jit
def _excess(value: float, upper: float, lower: float) -> float:
    over = value - upper
    under = lower - value
    most = over if over > under else under
    return most if most > 0.0 else 0.0


@jit(reorder_sums=True)
def keogh_bound(window: Any, upper: Any, lower: Any) -> float:
    """Return the summed squared excess of `window`: at most its squared DTW cost."""
    total = 0.0
    for t in range(window.size):
        excess = _excess(window[t], upper[t], lower[t])
        total += excess * excess
    return total


@jit(reorder_sums=True)
def unmatched_bound(window: Any, upper: Any, lower: Any, epsilon: float) -> float:
    """Return how many points of `window` match none within the band: at most ``m - LCSS``."""
    count = 0.0
    for t in range(window.size):
        count += 1.0 if _excess(window[t], upper[t], lower[t]) > epsilon else 0.0
    return count

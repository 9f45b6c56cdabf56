"""The sketch of a collection: each row as a few means, and the lower bound that they give.

A row is cut into segments, and of each segment only the mean is kept. The query's envelope (its
highest and lowest value within the band) is averaged over the same segments. What a mean exceeds
the mean of the envelope by, squared and times the length of the segment, is at most the squared
excess of the points, since squares are convex: LB_PAA (Zhu and Shasha 2003) is at most LB_Keogh,
which is at most the cost. So 16 numbers for a row of 128 points tell of most rows that they are too
far away; they are read from the nearer caches, where the rows would come from memory.

Means lie in chunks of rows, segment by segment: in the loops over a chunk neighbours in memory are
neighbouring rows, which is what a compiler makes vectors of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.compiling import jit

CHUNK = 1024  # rows whose bounds are summed up in the nearest cache
SEGMENTS_MAX = 16
POINTS_MIN = 4  # shorter segments say little more than longer ones, and cost as much
BUCKETS = 1 << 13
_INFINITY = 0x7F800000
_BUCKET_SHIFT = 31 - 13  # of the bits of a float32 that is not negative: 5 of its mantissa


def segment_ends(m: int) -> NDArray[np.int64]:
    """Return where the segments of rows of `m` points end, shape (segments,)."""
    segments = max(1, min(SEGMENTS_MAX, m // POINTS_MIN))
    return np.arange(1, segments + 1, dtype=np.int64) * m // segments


def segment_means(rows: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the means of the segments of `rows`, shape (n, m), as (n, segments)."""
    begins = np.concatenate(([0], ends[:-1]))
    sums = np.add.reduceat(rows.astype(np.float64), begins, axis=1)
    return (sums / (ends - begins)).astype(np.float32)


def sketch_of(rows: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the means of `rows`, shape (n, m), as (chunks, segments, CHUNK); the rest is 0."""
    sketch = np.zeros((-(-len(rows) // CHUNK), ends.size, CHUNK), np.float32)
    for chunk, means in enumerate(sketch):
        part = rows[chunk * CHUNK : (chunk + 1) * CHUNK]
        means[:, : len(part)] = segment_means(part, ends).T
    return sketch


@jit
def _add_excess(means: Any, upper: Any, lower: Any, weight: Any, bounds: Any) -> None:
    for row in range(bounds.size):
        over = means[row] - upper
        under = lower - means[row]
        excess = over if over > under else under
        excess = excess if excess > np.float32(0.0) else np.float32(0.0)
        bounds[row] += weight * (excess * excess)


@jit
def sketch_bounds(sketch: Any, ends: Any, upper: Any, lower: Any, first: int, bounds: Any) -> None:
    """Fill the lower bounds of the cost of the rows from number `first`, a multiple of `CHUNK`."""
    for begin in range(0, bounds.size, CHUNK):
        part = bounds[begin : begin + CHUNK]
        for row in range(part.size):
            part[row] = np.float32(0.0)
        begun = 0
        for segment in range(ends.size):
            means = sketch[(first + begin) // CHUNK, segment]
            weight = np.float32(ends[segment] - begun)
            _add_excess(means, upper[segment], lower[segment], weight, part)
            begun = ends[segment]


@jit
def near_threshold(bounds: Any, wanted: int) -> Any:
    """Return a bound that about `wanted` of `bounds`, and seldom many more, do not exceed.

    Bits of floats that are not negative are ordered like the floats: their upper part is the
    number of a bucket, and one pass counts them.
    """
    counts = np.zeros(BUCKETS, np.int32)
    patterns = bounds.view(np.int32)
    for place in range(bounds.size):
        counts[patterns[place] >> _BUCKET_SHIFT] += 1
    found = bucket = 0
    while bucket < BUCKETS - 1 and found + counts[bucket] < wanted:
        found += counts[bucket]
        bucket += 1
    # The last buckets are infinity and what is no number.
    highest = np.array([min(((bucket + 1) << _BUCKET_SHIFT) - 1, _INFINITY)], np.int32)
    return highest.view(np.float32)[0]

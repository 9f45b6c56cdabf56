"""The sketch of a collection: a few segment means per row, and the lower bound LB_PAA from them.

A row is divided into segments, and only the mean of each segment is stored. The query's envelope
(the maximum and minimum within the band) is averaged over the same segments. The excess of a mean
over the mean envelope, squared and multiplied by the length of the segment, is at most the summed
squared excess of the points, because squares are convex. So LB_PAA (Zhu and Shasha 2003) is at most
LB_Keogh, which is at most the squared DTW distance. With 16 numbers per row of 128 points, most
rows are ruled out. The sketch fits the CPU caches, while the rows would be read from memory.

The means are stored in chunks of rows, segment by segment. In the loops over a chunk, neighbours in
memory are then neighbouring rows, so the compiler can vectorise these loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native.jit_decorators import jit

CHUNK = 1024  # rows per chunk: their bounds are summed within the L1 cache
SEGMENTS_MAX = 16  # greatest number of segments of a row
# A segment has at least this number of points. Shorter segments would hardly improve the bound.
POINTS_MIN = 4
BUCKETS = 1 << 13  # buckets of the histogram in `near_threshold`
_INFINITY = 0x7F800000  # the bits of +inf in float32
# A bucket is the upper 13 of the lower 31 bits of a non-negative float32: the exponent and 5 bits
# of the mantissa.
_BUCKET_SHIFT = 31 - 13


def segment_ends(m: int) -> NDArray[np.int64]:
    """Return the end of each segment for rows of `m` points: indices, shape (segments,), int64."""
    segments = max(1, min(SEGMENTS_MAX, m // POINTS_MIN))
    return np.arange(1, segments + 1, dtype=np.int64) * m // segments


def segment_means(rows: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the segment means of `rows`, shape (n, m), as float32 of shape (n, segments)."""
    begins = np.concatenate(([0], ends[:-1]))
    sums = np.add.reduceat(rows.astype(np.float64), begins, axis=1)
    return (sums / (ends - begins)).astype(np.float32)


def sketch_of(rows: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the sketch of float32 `rows`, shape (n, m): shape (chunks, segments, CHUNK).

    Elements of the last chunk that have no row are 0.
    """
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
    """Fill `bounds` with LB_PAA of the rows from number `first` on.

    `first` is a multiple of `CHUNK`. `bounds` is float32 and holds lower bounds of the squared DTW
    distance. `upper` and `lower` are the segment means of the query's envelope.
    """
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
    """Return a threshold such that at least `wanted` bounds, and seldom many more, are within it.

    Non-negative floats have the same order as their bits taken as integers. So the upper bits of a
    float32 are the number of its histogram bucket, and one pass over `bounds` counts the buckets.
    """
    counts = np.zeros(BUCKETS, np.int32)
    patterns = bounds.view(np.int32)
    for place in range(bounds.size):
        counts[patterns[place] >> _BUCKET_SHIFT] += 1
    found = bucket = 0
    while bucket < BUCKETS - 1 and found + counts[bucket] < wanted:
        found += counts[bucket]
        bucket += 1
    # The threshold is the greatest float32 in `bucket`, but at most +inf. Greater bit patterns are
    # NaN, and NaN is the bound of a row that must not be chosen.
    highest = np.array([min(((bucket + 1) << _BUCKET_SHIFT) - 1, _INFINITY)], np.int32)
    return highest.view(np.float32)[0]

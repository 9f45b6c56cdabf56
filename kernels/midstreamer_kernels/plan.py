"""What both engines are given: the table of histories, the options, the tolerances for rounding.

The table is an int64 array of shape (histories, `COLUMNS`); the constants here name its columns.
Points and window statistics are passed by address, because numba has no cheap list of arrays, and
the WebAssembly engine copies them in any case. The caller that builds the table keeps the arrays
alive until the search has returned.
"""

from __future__ import annotations

from typing import NamedTuple

VALUES = 0  # address of the first stored point
SHIFT = 1  # address of the first window's shift; 0 when windows are not z-normalised
SCALE = 2  # address of the first window's scale; 0 when windows are not z-normalised
ITEM_BYTES = 3  # bytes per point: 4 for float32, 8 for float64
FIRST = 4  # offset of the first candidate window from the first stored point
COUNT = 5  # number of candidate windows
START = 6  # absolute position of the first stored point
COLUMNS = 7  # number of columns

# Relative tolerance for a bound: a sum of 2m non-negative float64 terms is off by less than
# 2m * 2**-52 of itself, so 1e-9 suffices for queries of up to m = 10**6 points.
SLACK = 1e-9
# Absolute tolerance for a bound: squares below about 1e-308 lose digits, where SLACK is too small.
SMALLEST = 1e-290
SEEDS_PER_MATCH = 2  # candidates with the smallest bounds compared first, per wanted match


class SearchOptions(NamedTuple):
    """The checked options of a search of histories, as both engines take them."""

    k: int
    """Number of wanted matches."""
    step: int
    """Number of points from one candidate window to the next."""
    band: int
    """Half-width of the warping band in points."""
    normalized: bool
    """Whether z-normal forms are compared."""
    lcss: bool
    """Whether the distance is that of LCSS instead of DTW."""
    epsilon: float
    """For LCSS, the greatest difference of two points that match; otherwise 0."""
    cutoff: float
    """Greatest distance of a match; infinity for no limit."""

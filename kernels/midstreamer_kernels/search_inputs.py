"""The inputs of a search in both engines: table of histories, options, tolerances for rounding.

The table is an int64 array of shape (histories, `COLUMNS`); constants of this module number its
columns. Points and window statistics are passed by address, because numba has no cheap list of
arrays, and the WebAssembly engine copies the arrays in any case. The caller that builds the table
keeps the arrays alive until the search has returned.
"""

from __future__ import annotations

from typing import NamedTuple

# Column numbers of the table of histories. Each row of the table describes one history. If windows
# are not normalised, the addresses in the columns `SHIFT` and `SCALE` are 0.
VALUES = 0  # the column with the address of the first stored point of the history
SHIFT = 1  # the column with the address of the windows' shifts: a window's mean minus its point 0
SCALE = 2  # the column with the address of the windows' scales: 1 / standard deviation of a window
ITEM_BYTES = 3  # the column with the size of a point in bytes: 4 for float32, 8 for float64
FIRST = 4  # the column with the offset of the first candidate window from the first stored point
COUNT = 5  # the column with the number of candidate windows
START = 6  # the column with the absolute position of the first stored point
COLUMNS = 7  # number of columns of the table of histories

# Relative tolerance for the rounding of a bound. The relative error of a sum of 2m non-negative
# float64 terms is less than 2m * 2**-52, so 1e-9 suffices for queries of up to m = 10**6 points.
SLACK = 1e-9
# Absolute tolerance for the rounding of a bound. Squares below about 1e-308 lose so many digits
# that the relative tolerance SLACK is too small for them.
SMALLEST = 1e-290
# A search first compares the candidates with the least lower bounds (the seeds). It takes this
# number of seeds for each wanted match.
SEEDS_PER_MATCH = 2


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

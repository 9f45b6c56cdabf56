"""The data of the benchmark: seeded series, written once to files that every process reads.

The series are random walks, as is usual; they are z-normalised for tasks that compare z-normalised
series.  All numbers are rounded to float32 and stored as float64, so that calls in float32 and
calls in float64 get the same input.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PAIR = 1_000
"""Number of points of each series in the tasks that compare a pair of series."""
BAND = 100
"""The Sakoe-Chiba band, in points, for calls that compare a pair of series within a band."""
EPSILON = 0.2
"""Matching threshold of LCSS: points match if they differ by at most this value."""

ROWS, LENGTH, NARROW = 100_000, 128, 6
"""Rows of the collection, points of each row, and the band of searches in the collection."""
QUERIES = 50
"""Number of queries that are searched in the collection."""

POINTS, PLANTED_AT = 1_000_000, 612_345
"""Number of points of the history, and a position in it.

`planted` takes the points that begin at this position, and makes a query from them.
"""

PATTERNS, TICKS = 1_024, 4_096
"""Number of patterns of the monitor, and of ticks in the stream that it watches."""
THRESHOLD = 1.0
"""Distance below which the monitor reports a match."""


def walks(seed: int, *shape: int) -> Floats:
    """Return independent random walks along the last axis, as float64 of this shape."""
    return np.random.default_rng(seed).standard_normal(shape).cumsum(axis=-1)


def normal(values: Floats) -> Floats:
    """Return the rows z-normalised: minus the mean, divided by the standard deviation."""
    deviation = values.std(axis=-1, keepdims=True)
    return np.asarray((values - values.mean(axis=-1, keepdims=True)) / deviation)


def planted() -> Floats:
    """Return a query that has a near neighbour in the history.

    The query is a part of the history, slightly warped in time, with noise added.
    """
    stretch = walks(7, POINTS)[PLANTED_AT : PLANTED_AT + LENGTH]
    steps = np.arange(LENGTH)
    warped = np.interp(np.clip(steps + 3 * np.sin(steps / 9), 0, LENGTH - 1), steps, stretch)
    noise = np.random.default_rng(8).standard_normal(LENGTH)
    return np.asarray(warped + 0.05 * stretch.std() * noise)


RECIPES: dict[str, Callable[[], Floats]] = {
    "pair": lambda: normal(walks(42, 2, PAIR)),
    "rows": lambda: normal(walks(5, ROWS, LENGTH)),
    "queries": lambda: normal(walks(6, QUERIES, LENGTH)),
    "history": lambda: walks(7, POINTS),
    "easy": planted,
    "hard": lambda: walks(9, LENGTH),
    "patterns": lambda: normal(walks(10, PATTERNS, LENGTH)),
    # The stream is scaled down, so that some patterns match.
    "stream": lambda: 0.1 * walks(11, TICKS),
}


class Files:
    """The series by name, each in a file of one folder.

    The main process writes the files.  The processes that measure read them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str) -> None:
        """Write the file of a series, unless it exists."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            np.save(path, RECIPES[name]().astype(np.float32).astype(np.float64))

    def read(self, name: str) -> Floats:
        """Return the array in the file of a series."""
        return np.asarray(np.load(self.folder / f"{name}.npy"))

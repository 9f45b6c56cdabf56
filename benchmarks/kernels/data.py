"""What is measured on: seeded series, written once to files that every process reads.

Random walks, as is customary; z-normalised where the task compares z-normal forms. All numbers are
rounded to float32 and then kept as float64, so that whoever computes in float32 and whoever
computes in float64 is asked the same question.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PAIR = 1_000
"""Points of each of the two series of a pair."""
BAND = 100
EPSILON = 0.2

ROWS, LENGTH, NARROW = 100_000, 128, 6
"""Rows of the collection, points of a row, and the band of searches."""
QUERIES = 50

POINTS, PLANTED_AT = 1_000_000, 612_345
"""Points of the history, and where the easy query was taken from."""

PATTERNS, TICKS = 1_024, 4_096
THRESHOLD = 1.0


def walks(seed: int, *shape: int) -> Floats:
    """Independent random walks along the last axis."""
    return np.random.default_rng(seed).standard_normal(shape).cumsum(axis=-1)


def normal(values: Floats) -> Floats:
    """Each row less its mean, over its deviation."""
    deviation = values.std(axis=-1, keepdims=True)
    return np.asarray((values - values.mean(axis=-1, keepdims=True)) / deviation)


def planted() -> Floats:
    """A stretch of the history, warped in time and with noise: it has a near neighbour."""
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
    # Slow enough against the patterns that some of them are met.
    "stream": lambda: 0.1 * walks(11, TICKS),
}


class Files:
    """The series by name, in a folder: written by the one who asks, read by all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str) -> None:
        """Make a file unless it is there."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            np.save(path, RECIPES[name]().astype(np.float32).astype(np.float64))

    def read(self, name: str) -> Floats:
        """The numbers of a file."""
        return np.asarray(np.load(self.folder / f"{name}.npy"))

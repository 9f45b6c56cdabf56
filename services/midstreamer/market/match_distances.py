"""Recompute distances of windows that an earlier search has already found."""

from __future__ import annotations

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Measure, Specification


def between(specification: Specification, window: Floats, others: Floats) -> Floats:
    """Return the distances of transformed windows, shape (k, m), to one window, shape (m,).

    The k windows are concatenated to one history, which is searched in steps of m points. A
    distance depends on the two windows only. The results therefore equal, bit for bit, the
    distances of the search that found the windows.
    """
    count, length = others.shape
    lcss = specification.measure is Measure.LCSS
    _, start, distance = kernels.nearest(
        [kernels.Run(kernels.History(others.ravel(), dtype="float64"))],
        window,
        count,
        measure=specification.measure.value,
        epsilon=specification.epsilon if lcss else None,
        band=specification.band,
        step=length,
    )
    distances = np.full(count, np.nan)
    distances[start // length] = distance
    return distances

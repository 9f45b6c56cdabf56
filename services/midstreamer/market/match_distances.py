"""Recompute distances of windows that an earlier search has already found."""

from __future__ import annotations

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Measure, Specification


def between(specification: Specification, window: Floats, others: Floats) -> Floats:
    """Return the distance of each window in ``others``, shape (k, m), to ``window``, shape (m,).

    All windows are transformed already. The kernels search histories, so the k windows are joined
    to one history. It is searched at every m-th point only, where one of the k windows begins. A
    distance depends on its two windows alone. So the results equal, bit for bit, the distances of
    the search that found the windows.
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

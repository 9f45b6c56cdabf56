"""Distances of windows that are known already: what a search said of them, computed again."""

from __future__ import annotations

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Measure, Specification


def between(specification: Specification, window: Floats, others: Floats) -> Floats:
    """Distances of transformed windows, shape (k, m), to one, shape (m,), as a search gives them.

    The windows are laid end to end as one history and searched in steps of their length.  A
    distance depends on nothing but the two windows, so the bits are those of the search.
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
    made = np.full(count, np.nan)
    made[start // length] = distance
    return made

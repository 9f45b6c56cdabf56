"""Calls of every public function, so that numba compiles the kernels ahead of the first use."""

from __future__ import annotations

import numpy as np

from midstreamer_kernels import (
    Collection,
    History,
    Monitor,
    Run,
    barycenter,
    dtw,
    dtw_path,
    lcss,
    nearest,
    pairwise,
)

POINTS = np.sin(np.arange(64.0))


def warm_searches() -> None:
    """Search a history by DTW and by LCSS, which compiles everything that searches need."""
    history = History(POINTS, dtype="float64")
    for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
        nearest([Run(history)], POINTS[:8], 1, measure=measure, epsilon=epsilon, band=2)


def warm() -> None:
    """Call every public function that compiles kernels, for float32 and for float64 series."""
    warm_searches()
    lcss(POINTS, POINTS, epsilon=0.5)
    for dtype in ("float32", "float64"):
        typed = POINTS.astype(dtype)
        rows = typed.reshape(8, 8)
        dtw(typed, typed)
        dtw_path(typed, typed)
        barycenter(rows, iterations=1)
        History(typed, dtype=dtype).search(typed[:8], band=2)
        for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
            pairwise(rows, measure=measure, epsilon=epsilon)
            Collection(rows).nearest(rows[0], measure=measure, epsilon=epsilon)
    for normalize in (False, True):
        Monitor([POINTS[:8]], threshold=0.5, normalize=normalize).extend(POINTS)

"""The measured calls of other packages, each as the documentation of the package recommends.

Each function prepares a call from the data.  The call returns its answer: a distance, a length, or
a position with its distance.  As in our kernels, a DTW distance is the square root of the summed
squares, and points i and j may be aligned if ``|i - j| <= band``.  The packages get float64 arrays,
with which they are fastest.

Each package has a band argument of its own.  For our ``band``, and series of
``length`` points, the calls give this argument to the package:

==============================  =====================
dtaidistance                    band + 1
wildboar                        (band + 1) / length
wildboar, search of a history   (band + 0.5) / length
aeon                            band / length
tslearn, augurs                 band
==============================  =====================

Imports are inside the functions, so that a missing package does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.kernels.data import BAND, EPSILON, LENGTH, NARROW, PAIR, Files

Call = Callable[[int], Any]


# --- one pair -------------------------------------------------------------------------------------


def dtaidistance_pair(files: Files) -> Call:
    from dtaidistance import dtw

    a, b = files.read("pair")
    return lambda _: dtw.distance_fast(a, b)


def dtaidistance_band(files: Files) -> Call:
    from dtaidistance import dtw

    a, b = files.read("pair")
    return lambda _: dtw.distance_fast(a, b, window=BAND + 1)


def tslearn_pair(files: Files) -> Call:
    from tslearn.metrics import dtw

    a, b = files.read("pair")
    return lambda _: dtw(a, b)


def tslearn_band(files: Files) -> Call:
    from tslearn.metrics import dtw

    a, b = files.read("pair")
    return lambda _: dtw(a, b, global_constraint="sakoe_chiba", sakoe_chiba_radius=BAND)


def aeon_pair(files: Files) -> Call:
    from aeon.distances import dtw_distance

    a, b = files.read("pair")
    return lambda _: dtw_distance(a, b) ** 0.5


def aeon_band(files: Files) -> Call:
    from aeon.distances import dtw_distance

    a, b = files.read("pair")
    return lambda _: dtw_distance(a, b, window=BAND / PAIR) ** 0.5


def wildboar_pair(files: Files) -> Call:
    return _wildboar(files, 1.0)


def wildboar_band(files: Files) -> Call:
    return _wildboar(files, (BAND + 1) / PAIR)


def _wildboar(files: Files, share: float) -> Call:
    from wildboar.distance import pairwise_distance

    a, b = files.read("pair")
    return lambda _: pairwise_distance(a, b, metric="dtw", metric_params={"r": share})


def augurs_pair(files: Files) -> Call:
    from augurs import Dtw

    (a, b), measure = files.read("pair"), Dtw()
    return lambda _: measure.distance(a, b)


def augurs_band(files: Files) -> Call:
    from augurs import Dtw

    (a, b), measure = files.read("pair"), Dtw(window=BAND)
    return lambda _: measure.distance(a, b)


def aeon_lcss(files: Files) -> Call:
    from aeon.distances import lcss_distance

    a, b = files.read("pair")
    return lambda _: round((1 - lcss_distance(a, b, epsilon=EPSILON)) * PAIR)


def tslearn_lcss(files: Files) -> Call:
    from tslearn.metrics import lcss

    a, b = files.read("pair")
    return lambda _: round(lcss(a, b, eps=EPSILON) * PAIR)


# --- search for the nearest row of a collection ---------------------------------------------------


def dtaidistance_collection(files: Files) -> Call:
    """Return a call that finds the row nearest to a query.

    It uses the lower bound LB_Keogh, with which the package is fastest.
    """
    from dtaidistance.subsequence.subsequencesearch import subsequence_search

    rows, queries = files.read("rows"), files.read("queries")
    options = {"window": NARROW + 1, "use_c": True}

    def call(number: int) -> list[float]:
        query = queries[number % len(queries)]
        # A copy, because the search writes its best distance into the options.
        found = subsequence_search(query, rows, dists_options=dict(options), use_lb=True)
        best = found.best_match()
        return [best.idx, best.distance]

    return call


def wildboar_collection(files: Files) -> Call:
    from wildboar.distance import argmin_distance

    rows, queries = files.read("rows"), files.read("queries")
    options = {"r": (NARROW + 1) / LENGTH}

    def call(number: int) -> list[float]:
        query = queries[number % len(queries)][np.newaxis]
        index, distance = argmin_distance(
            query, rows, k=1, metric="dtw", metric_params=options, return_distance=True
        )
        return [index.item(), distance.item()]

    return call


def aeon_collection(files: Files) -> Call:
    from aeon.distances import dtw_pairwise_distance

    rows, queries = files.read("rows"), files.read("queries")

    def call(number: int) -> list[float]:
        query = queries[number % len(queries)][np.newaxis]
        found = dtw_pairwise_distance(query, rows, window=NARROW / LENGTH)
        return [found.argmin(), found.min() ** 0.5]

    return call


def tslearn_collection(files: Files) -> Call:
    from tslearn.metrics import cdist_dtw

    rows, queries = files.read("rows"), files.read("queries")
    options = {"global_constraint": "sakoe_chiba", "sakoe_chiba_radius": NARROW}

    def call(number: int) -> list[float]:
        found = cdist_dtw(queries[number % len(queries)][np.newaxis], rows, **options)
        return [found.argmin(), found.min()]

    return call


# --- search for the nearest window of a history ---------------------------------------------------


def wildboar_history(files: Files, query: str) -> Call:
    """Return a call of wildboar's UCR suite: it normalises windows and uses lower bounds."""
    from wildboar.distance import pairwise_subsequence_distance

    wanted, values = files.read(query), files.read("history")
    options = {"r": (NARROW + 0.5) / LENGTH}

    def call(_: int) -> list[float]:
        distance, index = pairwise_subsequence_distance(
            wanted, values, metric="scaled_dtw", metric_params=options, return_index=True
        )
        return [index, distance]

    return call


def stumpy_history(files: Files, query: str) -> Call:
    """Return a call that compares normalised windows point by point, without warping.

    This Euclidean distance is a common alternative to DTW.
    """
    import stumpy

    wanted, values = files.read(query), files.read("history")

    def call(_: int) -> list[float]:
        found = stumpy.mass(wanted, values)
        return [found.argmin(), found.min()]

    return call

"""Search: the k nearest windows of many histories, exactly, in a few calls without the GIL.

How a scan goes:

1. *Coarse bounds* of every window, in lanes of float32 (`sift`).
2. *Seeds.* The windows with the least bounds are compared first, so that the k-th best is nearly
   final before the rest is looked at.
3. *Fine bounds* of the windows that the coarse ones do not rule out, a vector of them at a time,
   given up as soon as all are too far. 64 windows without a near one are passed over at once.
4. *Comparison* of what is left (`contest`), some thousands at a time, and back to 3.

Memory while a scan lasts: 4 bytes for each window, and some for matches and blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native import block, contest, sift
from midstreamer_kernels.native.profile import STRIP, profile_of
from midstreamer_kernels.plan import COUNT, FIRST, SEEDS_PER_MATCH, START
from midstreamer_kernels.stop import Stop

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

SEEDS_MIN = 32
CHOSEN_MAX = 4096  # candidates compared before the fine bounds go on with a lower limit


def scan(
    table: NDArray[np.int64],
    step: int,
    query: NDArray[np.float64],
    k: int,
    band: int,
    normalized: bool,
    lcss: bool,
    epsilon: float,
    cutoff: float,
    shared: NDArray[np.float64],
    stop: Stop,
) -> Found:
    """Return (which, index, distance) of the k nearest windows of all histories in `table`.

    Parameters
    ----------
    table : ndarray, shape (runs, COLUMNS), int64
        As `plan` says.
    step : int
        Points between two candidates.
    query : ndarray, shape (m,), float64
        As given; z-normalised here when `normalized`.
    cutoff : float
        Only windows at most this far; infinity for all.
    shared : ndarray, shape (1,), float64
        A distance that the k-th best does not exceed, infinity at first; read and lowered.
    stop : Stop
        Read by the compiled functions, which leave early when it is set.

    Returns
    -------
    which, index : ndarray, int64
        Row of the table and absolute position of the window's first point.
    distance : ndarray, float64
        Nearest first; ties by row, then position.

    Raises
    ------
    StoppedError
    """
    profile = profile_of(
        query, k=k, step=step, band=band, normalized=normalized, lcss=lcss,
        epsilon=epsilon, cutoff=cutoff, stop=stop.address,
    )  # fmt: skip
    plan, counts = profile.plan[0], table[:, COUNT]
    before = np.concatenate([[0], np.cumsum(counts)])
    strips = np.concatenate([[0], np.cumsum(-(-counts // STRIP))])
    bounds, lows = np.empty(STRIP * strips[-1], np.float32), np.empty(strips[-1], np.float32)
    kept = min(k, int(before[-1]))
    distances, orders = np.empty(kept), np.empty(kept, np.int64)
    found = np.zeros(1, np.int64)
    room, ranking = block.room(profile.plan), (distances, orders, found, shared)
    desk = contest.room(profile.plan)

    def compare(chosen: NDArray[np.int64], near: NDArray[np.float32]) -> None:
        given = (plan, table, before, chosen, near, profile.query)
        if lcss:
            contest.compare_common(*given, *desk, *ranking)
        else:
            contest.compare_warped(*given, profile.narrow, *desk, *ranking)
        stop.check()

    sift.bound_all(plan, table, strips, profile.narrow, *profile.coarse, *room, bounds, lows)
    stop.check()  # what a compiled function leaves behind when it left early is no result
    chosen = np.empty(max(CHOSEN_MAX, int(plan["windows"])) + STRIP, np.int64)
    near = np.empty(chosen.size, np.float32)
    if kept < before[-1]:  # else the k-th best rules nothing out, only the cutoff
        taken = sift.seeds(strips, before, SEEDS_PER_MATCH * kept + SEEDS_MIN, bounds, lows)
        compare(taken, np.zeros(taken.size, np.float32))
    cursor = np.zeros(2, np.int64)
    while cursor[0] < len(table):
        limit = contest.reach(plan, distances, found, shared)
        count = sift.refine(
            plan, table, strips, before, profile.narrow, *profile.fine, *room, bounds, lows,
            limit, cursor, chosen, near,
        )  # fmt: skip
        stop.check()
        compare(chosen[:count], near[:count])
    return _ranked(table, step, before, distances[: found[0]], orders[: found[0]])


def _ranked(
    table: NDArray[np.int64],
    step: int,
    before: NDArray[np.int64],
    distances: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> Found:
    """Sort the matches and turn candidate numbers into positions."""
    best = np.lexsort((orders, distances))
    orders = orders[best]
    which = np.searchsorted(before, orders, side="right") - 1
    index = table[which, START] + table[which, FIRST] + (orders - before[which]) * step
    return which, index, distances[best]

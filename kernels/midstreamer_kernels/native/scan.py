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
from midstreamer_kernels.native.profile import STRIP, Profile, profile_of
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
    under_way = _Scan(table, profile, k, lcss, shared, stop)
    under_way.bound()
    under_way.seed()
    under_way.refine()
    return _ranked(table, step, under_way.before, *under_way.matches())


class _Scan:
    """One scan under way: the bounds of all windows, and the best found so far."""

    def __init__(
        self,
        table: NDArray[np.int64],
        profile: Profile,
        k: int,
        lcss: bool,
        shared: NDArray[np.float64],
        stop: Stop,
    ) -> None:
        counts = table[:, COUNT]
        self.before = np.concatenate([[0], np.cumsum(counts)])
        """Candidates in the rows before each row, and in all."""
        self._table, self._profile, self._stop = table, profile, stop
        self._lcss = lcss
        self._strips = np.concatenate([[0], np.cumsum(-(-counts // STRIP))])
        self._bounds = np.empty(STRIP * self._strips[-1], np.float32)
        self._lows = np.empty(self._strips[-1], np.float32)
        """The least bound of each strip."""
        self._kept = min(k, int(self.before[-1]))
        self._distances, self._orders = np.empty(self._kept), np.empty(self._kept, np.int64)
        self._found, self._shared = np.zeros(1, np.int64), shared
        self._room, self._desk = block.room(profile.plan), contest.room(profile.plan)

    def bound(self) -> None:
        """Compute the coarse bounds of every window."""
        profile = self._profile
        sift.bound_all(
            profile.plan[0], self._table, self._strips, profile.narrow, *profile.coarse,
            *self._room, self._bounds, self._lows,
        )  # fmt: skip
        self._stop.check()  # what a compiled function leaves behind when it left early is no result

    def seed(self) -> None:
        """Compare the windows with the least bounds."""
        if self._kept < self.before[-1]:  # else the k-th best rules nothing out, only the cutoff
            most = SEEDS_PER_MATCH * self._kept + SEEDS_MIN
            taken = sift.seeds(self._strips, self.before, most, self._bounds, self._lows)
            self._compare(taken, np.zeros(taken.size, np.float32))

    def refine(self) -> None:
        """Compute fine bounds and compare what they leave, until all windows were looked at."""
        plan, profile, cursor = self._profile.plan[0], self._profile, np.zeros(2, np.int64)
        chosen = np.empty(max(CHOSEN_MAX, int(plan["windows"])) + STRIP, np.int64)
        near = np.empty(chosen.size, np.float32)
        while cursor[0] < len(self._table):
            limit = self._reach()
            count = sift.refine(
                plan, self._table, self._strips, self.before, profile.narrow, *profile.fine,
                *self._room, self._bounds, self._lows, limit, cursor, chosen, near,
            )  # fmt: skip
            self._stop.check()
            self._compare(chosen[:count], near[:count])

    def _reach(self) -> float:
        # `contest.reach` is a part of its callers: by itself each process would compile it.
        full = self._found[0] == self._distances.size
        worst = self._distances[0] if full else np.inf
        limit: float = min(worst, self._profile.plan["cutoff"][0], self._shared[0])
        return limit

    def matches(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distances and candidate numbers of what was found, in no order."""
        return self._distances[: self._found[0]], self._orders[: self._found[0]]

    def _compare(self, chosen: NDArray[np.int64], near: NDArray[np.float32]) -> None:
        profile = self._profile
        given = (profile.plan[0], self._table, self.before, chosen, near, profile.query)
        ranking = (self._distances, self._orders, self._found, self._shared)
        if self._lcss:
            contest.compare_common(*given, *self._desk, *ranking)
        else:
            contest.compare_warped(*given, profile.narrow, *self._desk, *ranking)
        self._stop.check()


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

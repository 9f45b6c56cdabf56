"""Exact search for the k nearest windows of many histories, in a few calls without the GIL.

The steps of a scan:

1. *Coarse bounds* of all windows are computed in float32 lanes (`sift`).
2. *Seeds*: the windows with the least bounds are compared first, so that the k-th best distance is
   nearly final before the other windows are examined.
3. *Fine bounds* are computed for windows that the coarse bounds do not rule out, for one vector of
   windows at a time. The sum ends early when all windows of the vector exceed the limit. A strip of
   64 windows is skipped at once if none of them is within the limit.
4. *Comparison*: up to some thousands of remaining windows are compared (`contest`). Steps 3 and 4
   repeat until no window is left.

A running scan uses 4 bytes of memory per window, and a little for matches and blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native import block, contest, sift
from midstreamer_kernels.native.profile import STRIP, Profile, profile_of
from midstreamer_kernels.plan import COUNT, FIRST, SEEDS_PER_MATCH, START
from midstreamer_kernels.stop import Stop

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

SEEDS_MIN = 32  # seeds compared in addition to `SEEDS_PER_MATCH` per wanted match
CHOSEN_MAX = 4096  # candidates compared before the fine bounds continue with a lower limit


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
        The histories to search; `plan` describes the columns.
    step : int
        Points from one candidate window to the next.
    query : ndarray, shape (m,), float64
        Not z-normalised; if `normalized`, this function normalises the query.
    k, band : int
        Number of matches, and half-width of the warping band in points.
    normalized : bool
        Whether z-normal forms are compared.
    lcss : bool
        Whether the distance is that of LCSS instead of DTW.
    epsilon : float
        For LCSS, the greatest difference of two points that match.
    cutoff : float
        Greatest distance of a match; infinity for no limit.
    shared : ndarray, shape (1,), float64
        An upper bound of the k-th best distance, infinity at first. All threads of a search read
        and lower this value.
    stop : Stop
        Flag that cancels the search; the compiled functions return early when it is set.

    Returns
    -------
    which, index : ndarray, shape (found,), int64
        Row of the table and absolute position of the window's first point.
    distance : ndarray, shape (found,), float64
        Ascending; equal distances are ordered by row, then by position.

    Raises
    ------
    StoppedError
        `stop` was set.
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
    """The state of one running scan: the bounds of all windows, and the best matches so far."""

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
        """Number of candidates before each row of the table; the last element is the total."""
        self._table, self._profile, self._stop = table, profile, stop
        self._lcss = lcss
        self._strips = np.concatenate([[0], np.cumsum(-(-counts // STRIP))])
        self._bounds = np.empty(STRIP * self._strips[-1], np.float32)
        self._lows = np.empty(self._strips[-1], np.float32)
        """The least bound of each strip, shape (strips,)."""
        self._kept = min(k, int(self.before[-1]))
        self._distances, self._orders = np.empty(self._kept), np.empty(self._kept, np.int64)
        self._found, self._shared = np.zeros(1, np.int64), shared
        self._room, self._desk = block.room(profile.plan), contest.room(profile.plan)

    def bound(self) -> None:
        """Compute the coarse bounds of all windows."""
        profile = self._profile
        sift.bound_all(
            profile.plan[0], self._table, self._strips, profile.narrow, *profile.coarse,
            *self._room, self._bounds, self._lows,
        )  # fmt: skip
        self._stop.check()  # a compiled function that returned early leaves incomplete bounds

    def seed(self) -> None:
        """Compare the windows with the least bounds, to lower the k-th best distance early."""
        if self._kept < self.before[-1]:  # otherwise all windows are wanted, and no seeds help
            most = SEEDS_PER_MATCH * self._kept + SEEDS_MIN
            taken = sift.seeds(self._strips, self.before, most, self._bounds, self._lows)
            self._compare(taken, np.zeros(taken.size, np.float32))

    def refine(self) -> None:
        """Compute fine bounds and compare the remaining windows, until no window is left."""
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
        # `contest.reach` does the same, but is inlined; called from here it would be compiled anew
        # by each process.
        full = self._found[0] == self._distances.size
        worst = self._distances[0] if full else np.inf
        limit: float = min(worst, self._profile.plan["cutoff"][0], self._shared[0])
        return limit

    def matches(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distances and the candidate numbers of the matches, unordered."""
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
    """Sort the matches by distance, and convert candidate numbers to rows and positions."""
    best = np.lexsort((orders, distances))
    orders = orders[best]
    which = np.searchsorted(before, orders, side="right") - 1
    index = table[which, START] + table[which, FIRST] + (orders - before[which]) * step
    return which, index, distances[best]

"""Exact search for the k nearest windows of many histories, in a few calls without the GIL.

The steps of a scan:

1. *Coarse bounds* of all windows are computed in float32 lanes (`bound_filter`).
2. *Seeds*: the windows with the least bounds are compared first, so that the k-th best distance is
   nearly final before the other windows are examined.
3. *Fine bounds* are computed for windows that the coarse bounds do not rule out, for one vector of
   windows at a time. The sum ends early when all windows of the vector exceed the limit. A strip of
   64 windows is skipped at once if none of them is within the limit.
4. *Comparison*: up to some thousands of remaining windows are compared (`remaining_windows`). Steps
   3 and 4 repeat until no window is left.

A running scan uses 4 bytes of memory per window, and a little for matches and blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native import bound_filter, remaining_windows, window_preparation
from midstreamer_kernels.native.histories import numbered, places
from midstreamer_kernels.native.query_profile import STRIP, Profile, profile_of
from midstreamer_kernels.search_inputs import SEEDS_PER_MATCH, SearchOptions
from midstreamer_kernels.stop import Stop

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

# The windows with the least bounds, called seeds, are compared first: `SEEDS_PER_MATCH` for each
# wanted match, and this number in addition.
SEEDS_MIN = 32
# After fine bounds have chosen about this number of candidates, these are compared. That lowers the
# limit for the fine bounds that are computed next.
CHOSEN_MAX = 4096


def scan(
    table: NDArray[np.int64],
    query: NDArray[np.float64],
    options: SearchOptions,
    shared: NDArray[np.float64],
    stop: Stop,
) -> Found:
    """Return (which, index, distance) of the k nearest windows of all histories in `table`.

    Parameters
    ----------
    table : ndarray, shape (histories, COLUMNS), int64
        The histories to search; `midstreamer_kernels.search_inputs` describes the columns.
    query : ndarray, shape (m,), float64
        The query before z-normalisation. If ``options.normalized`` is true, this function
        normalises it.
    options : SearchOptions
    shared : ndarray, shape (1,), float64
        An upper bound of the k-th best distance, infinity at first. All threads of a search read
        and lower this value.
    stop : Stop
        Flag that cancels the search; the compiled functions return early when it is set.

    Returns
    -------
    which, index : ndarray, shape (found,), int64
        For each window the row of its history in `table`, and the absolute position of its first
        point.
    distance : ndarray, shape (found,), float64
        Ascending; equal distances are ordered by row, then by position.

    Raises
    ------
    StoppedError
        `stop` was set.
    """
    under_way = _Scan(table, profile_of(query, options, stop.address), options, shared, stop)
    under_way.bound()
    under_way.seed()
    under_way.refine()
    return under_way.matches()


class _Scan:
    """The state of one running scan: the bounds of all windows, and the best matches so far."""

    def __init__(
        self,
        table: NDArray[np.int64],
        profile: Profile,
        options: SearchOptions,
        shared: NDArray[np.float64],
        stop: Stop,
    ) -> None:
        self._histories = numbered(table)
        self._profile, self._stop = profile, stop
        self._options = options
        self._windows = int(self._histories.before[-1])
        """Number of candidates in all histories."""
        self._kept = min(options.k, self._windows)
        self._ranking = remaining_windows.Ranking(
            np.empty(self._kept), np.empty(self._kept, np.int64), np.zeros(1, np.int64), shared
        )
        self._room, self._desk = (
            window_preparation.room(profile.plan),
            remaining_windows.desk(profile.plan),
        )

    def bound(self) -> None:
        """Compute the coarse bounds of all windows."""
        profile = self._profile
        bound_filter.bound_all(
            profile.plan[0], self._histories, profile.narrow, profile.coarse, self._room
        )
        self._stop.check()  # raises if the search was stopped: then some bounds are missing

    def seed(self) -> None:
        """Compare the windows with the least bounds, to lower the k-th best distance early."""
        if self._kept < self._windows:  # if all windows are wanted, seeds save no time
            most = SEEDS_PER_MATCH * self._kept + SEEDS_MIN
            taken = bound_filter.seeds(self._histories, most)
            self._compare(taken, np.zeros(taken.size, np.float32))

    def refine(self) -> None:
        """Compute fine bounds and compare the remaining windows, until no window is left."""
        plan, profile = self._profile.plan[0], self._profile
        capacity = max(CHOSEN_MAX, int(plan["windows"])) + STRIP
        selection = bound_filter.Selection(
            np.zeros(2, np.int64), np.empty(capacity, np.int64), np.empty(capacity, np.float32)
        )
        while selection.cursor[0] < len(self._histories.table):
            count = bound_filter.refine(
                plan, self._histories, profile.narrow, profile.fine, self._room, self._reach(),
                selection,
            )  # fmt: skip
            self._stop.check()
            if count:
                self._compare(selection.orders[:count], selection.bounds[:count])

    def _reach(self) -> float:
        # Return the distance beyond which no window is among the k nearest. This repeats the
        # formula of `remaining_windows.reach`. A call of `reach` from Python would make numba
        # compile it in every process, because code of `inlined` functions is not cached on disk.
        distances, _, found, shared = self._ranking
        worst = distances[0] if found[0] == distances.size else np.inf
        limit: float = min(worst, self._options.cutoff, shared[0])
        return limit

    def _compare(self, chosen: NDArray[np.int64], bounds: NDArray[np.float32]) -> None:
        profile = self._profile
        plan, query = profile.plan[0], profile.query
        if self._options.lcss:
            remaining_windows.compare_common(
                plan, self._histories, query, chosen, bounds, self._desk, self._ranking
            )
        else:
            remaining_windows.compare_warped(
                plan, self._histories, query, profile.narrow, chosen, bounds, self._desk,
                self._ranking,
            )  # fmt: skip
        self._stop.check()

    def matches(self) -> Found:
        """Return row, position and distance of the matches, nearest first.

        Matches at equal distances are sorted by their candidate numbers.
        """
        distances, orders, found, _ = self._ranking
        distances, orders = distances[: found[0]], orders[: found[0]]
        best = np.lexsort((orders, distances))
        return *places(self._histories, orders[best], self._options.step), distances[best]

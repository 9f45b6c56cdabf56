"""Plain mode of a monitor: which patterns get an exact column, and which points are kept.

A column is the newest column of a pattern's SPRING cost matrix, one cell per pattern point. While
the filter in `native.spring` rules out a match, a pattern is *asleep*: only an integer
approximation of its column is updated. When the filter cannot rule out a match, the pattern
*wakes*. It gets a *slot*, which is memory for an exact column. The column is first recomputed from
points that were kept. They go back to the first point of the oldest path whose cost is still within
the threshold. Then the column is updated point by point. From then on costs, starts and matches
have the same bits as `reference.spring`. A pattern without matches for some time goes back to
sleep.

A sleeping pattern may wake later, so points are kept as far back as its paths may begin. But a path
can stay within the threshold forever. For example, while the stream stays at the value of one
pattern point, a path that stays at that point costs nothing. So each sleeping pattern is *audited*
once per `AUDIT` points: it wakes if a path that began more than `AUDIT` points ago is still within
the threshold. A pattern that stays asleep then needs only the last `AUDIT` points. Until its next
audit at most `AUDIT` points are added. So sleeping patterns need at most ``2 * AUDIT`` points.

A pattern that is awake may have a match that can still change. When this match becomes final, the
column is recomputed from the points after the match. So these points are kept too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.native import spring

# Each sleeping pattern is checked once per `AUDIT` points. The check asks whether a path is still
# within the threshold although it began more than `AUDIT` points ago. A check takes about 50 us, so
# the checks of a thousand patterns take 0.4 us per point.
AUDIT = 2**17
# A difference equal to the threshold becomes at most this integer in the filter. The greatest
# integer of the filter is 65,535, so differences a little greater than the threshold fit too.
FULL = 65_200
# Any two allowed points differ by less than `FAR`. A threshold greater than `FAR` is treated as
# `FAR`.
FAR = 1e152

ROOM_LEAST = 1024  # least capacity of the history buffer, in points

Match = tuple[int, int, int, float]  # pattern, start, end (one past the last point), distance


class _Scales(NamedTuple):
    """Conversion of k patterns to the filter's integers, one scale per pattern; shapes (k,)."""

    origins: NDArray[np.float64]
    """The value that becomes integer 0."""
    scales: NDArray[np.float64]
    """Integer steps per unit of value."""
    factors: NDArray[np.float64]
    """The factor by which integer differences are multiplied before squaring, from 1 to 65,535.

    It is the greatest integer in this range for which a difference equal to the threshold,
    multiplied by the factor, is at most `FULL`. A great factor is better, because only the upper 16
    bits of a square are kept.
    """
    units: NDArray[np.float64]
    """The integer cost in the filter that equals a cost (a squared difference) of 1."""


def _scales(patterns: list[NDArray[np.float64]], threshold: float) -> _Scales:
    """Return the integer scale of each pattern.

    A scale covers all values from the pattern's minimum minus 1.1 times the threshold to its
    maximum plus 1.1 times the threshold. A stream value outside of this range is clipped to the
    nearer end of the range. The clipped value still does not match, because both ends differ from
    every pattern point by more than the threshold.
    """
    reach = 1.1 * min(threshold, FAR)
    low = np.array([pattern.min() for pattern in patterns]) - reach
    width = np.array([pattern.max() for pattern in patterns]) + reach - low
    scales = (spring.SCALE_MOST - 2) / np.maximum(width, 1e-130)
    places = scales * min(threshold, FAR)
    factors = np.clip(np.floor(FULL / np.maximum(places, 1e-9)), 1.0, 65_535.0)
    return _Scales(low, scales, factors, (scales * factors / 256.0) ** 2)


class Watch:
    """SPRING for several patterns on one stream; positions count from the first point.

    Parameters
    ----------
    patterns : list of ndarray of float64, each of shape (m,)
    threshold : float
        The greatest DTW distance of a match; finite.
    audit : int
        Every `audit` points, each pattern without an exact column is checked once. If a path that
        began more than `audit` points ago is still within the threshold, the pattern gets an exact
        column. The number does not change the results.
    """

    def __init__(
        self, patterns: list[NDArray[np.float64]], threshold: float, *, audit: int = AUDIT
    ) -> None:
        self._audit_points = audit
        self._numbers = sorted(range(len(patterns)), key=lambda number: patterns[number].size)
        # The patterns, sorted by length; the index of a pattern is the number of its lane.
        self._patterns = [patterns[number] for number in self._numbers]
        self._threshold = threshold
        self._arrays: dict[str, NDArray[Any]] = {}
        self._states = np.zeros(1, spring.STATE)
        self._state: Any = self._states[0]
        self._state["threshold_squared"] = greatest_square(threshold)
        self._state["rows"] = max(pattern.size for pattern in patterns)
        self._lay_out()
        # For the pattern in each lane, the least position at which its next match can begin. That
        # is the end of the latest match that was returned for the pattern, or 0 if there is none.
        self._floors = [0] * len(patterns)
        # A slot is memory for the exact column of one pattern. The list has, for each slot, the
        # lane of the pattern that uses the slot, or -1 if the slot is free.
        self._slots: list[int] = []
        self._add_slots()
        self._column = np.empty(self._state["rows"])
        self._begun = np.empty(self._state["rows"], np.int64)
        self._next_lane = 0
        self._state["next_audit"] = self._audit_points
        self._room = 0  # number of points that fit into the history buffer
        self._put("history", np.empty(0))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or a pickle: all attributes except `_state`.

        `_state` is a view of `_states`, so `__setstate__` can make it anew.
        """
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state of a copy or a pickle; `_state` gets the addresses of new arrays."""
        vars(self).update(state)
        self._state = self._states[0]
        for name, array in self._arrays.items():
            self._state[name] = array.ctypes.data

    @property
    def count(self) -> int:
        """Number of points added so far."""
        return int(self._state["count"])

    def take(self, values: NDArray[np.float64]) -> list[Match]:
        """Add points, all finite, shape (n,); return the matches that become final.

        The matches are ordered by the point that made them final, then by pattern.
        """
        found: list[Match] = []
        for part in (
            values[at : at + self._audit_points] for at in range(0, values.size, self._audit_points)
        ):
            found += self._take(part)
        return found

    def _take(self, values: NDArray[np.float64]) -> list[Match]:
        self._room -= values.size
        if self._room < 0:
            self._remember(values.size)
        done = spring.advance(self._states, values, 0)
        if done >= 0:
            return []
        found: list[Match] = []
        while done < 0:
            now = self._handle()
            if self._state["count"] >= self._state["next_audit"]:
                now += self._audit()
            found += sorted(now)
            done = spring.advance(self._states, values, -done)
        return found

    def finish(self) -> list[Match]:
        """Return the matches that become final because the stream ends, sorted by pattern."""
        found: list[Match] = []
        for slot, lane in enumerate(self._slots):
            while lane >= 0 and self._arrays["ends"][slot]:
                found += self._settle(slot)
        return sorted(found)

    # The filter's layout: one lane per pattern, in groups, sorted by pattern length

    def _lay_out(self) -> None:
        count, width = len(self._patterns), spring.LANES
        groups = -(-count // width)
        lengths = np.zeros(groups * width, np.int64)
        lengths[:count] = [pattern.size for pattern in self._patterns]
        rows = lengths.reshape(groups, width).max(axis=1)
        even = (lengths.reshape(groups, width) == rows[:, None]).all(axis=1)
        offsets = np.concatenate([[0], np.cumsum(rows * width)])
        for name in ("under", "over", "factors", "caps", "limits"):
            self._put(name, np.zeros(groups * width, np.uint16))
        self._put("cells", np.full(offsets[-1], 65_535, np.uint16))
        self._put("points", np.full(offsets[-1], 65_535, np.uint16))
        self._put("origins", np.zeros(groups * width))
        self._put("scales", np.ones(groups * width))
        self._put("lane_lengths", lengths)
        self._put("awake", np.zeros(groups * width, np.int64))
        self._put("group_offsets", offsets[:-1].astype(np.int64))
        # The greatest length in each group; negative if the group has several lengths.
        self._put("group_rows", np.where(even, rows, -rows))
        self._state["groups"] = groups
        self._fill_lanes()

    def _fill_lanes(self) -> None:
        count, held = len(self._patterns), self._arrays
        grid = self._grid = _scales(self._patterns, self._threshold)
        held["origins"][:count], held["scales"][:count] = grid.origins, grid.scales
        held["factors"][:count] = grid.factors
        held["caps"][:count] = 65_535 // grid.factors
        most = min(self._threshold, FAR) ** 2 * grid.units * (1.0 + spring.SLACK)
        held["limits"][:count] = np.minimum(most, 65_534.0)
        for lane, pattern in enumerate(self._patterns):
            spring.positions(
                pattern, grid.origins[lane], grid.scales[lane], self._lane("points", lane)
            )

    def _lane(self, name: str, lane: int) -> NDArray[Any]:
        """Return a view of one lane of the array `name` ("points" or "cells"), shape (m,)."""
        group, place = divmod(lane, spring.LANES)
        first = int(self._arrays["group_offsets"][group]) + place
        size = self._patterns[lane].size
        return self._arrays[name][first : first + size * spring.LANES : spring.LANES]

    def _put(self, name: str, array: NDArray[Any]) -> None:
        self._arrays[name] = array
        self._state[name] = array.ctypes.data

    # Slots

    def _add_slots(self) -> None:
        """Create the first slots, or double their number; a slot is memory for an exact column."""
        groups = max(1, 2 * int(self._state["slot_groups"]))
        slots, rows = groups * spring.SLOTS, int(self._state["rows"])
        cells = slots * rows
        for name, size, filler, dtype in (
            ("slot_cells", cells, math.inf, np.float64), ("slot_starts", cells, -1, np.int64),
            ("slot_points", cells, math.inf, np.float64), ("pending", slots, 0.0, np.float64),
            ("least", slots, 0.0, np.float64), ("best", slots, math.inf, np.float64),
            ("begins", slots, 0, np.int64), ("ends", slots, 0, np.int64),
            ("slot_lengths", slots, 0, np.int64), ("quiet_since", slots, 0, np.int64),
            ("slot_rows", groups, 0, np.int64),
        ):  # fmt: skip
            grown: NDArray[Any] = np.full(size, filler, dtype)
            if name in self._arrays:
                grown[: self._arrays[name].size] = self._arrays[name]
            self._put(name, grown)
        lanes = int(self._state["groups"]) * spring.LANES
        self._put("events", np.zeros(2 * (lanes + slots), np.int64))
        self._slots += [-1] * (slots - len(self._slots))
        self._state["slot_groups"] = groups

    def _in_slot(self, name: str, slot: int, size: int) -> NDArray[Any]:
        group, place = divmod(slot, spring.SLOTS)
        first = group * spring.SLOTS * int(self._state["rows"]) + place
        return self._arrays[name][first : first + size * spring.SLOTS : spring.SLOTS]

    def _update_rows(self, slot: int) -> None:
        group = slot // spring.SLOTS
        lengths = self._arrays["slot_lengths"].reshape(-1, spring.SLOTS)
        self._arrays["slot_rows"][group] = lengths[group].max()

    # Events of `spring.advance`: a pattern must get an exact column (it wakes), a match is final,
    # or a pattern may give up its exact column (it goes to sleep)

    def _handle(self) -> list[Match]:
        found: list[Match] = []
        happened = self._arrays["events"][: 2 * int(self._state["found"])].reshape(-1, 2).tolist()
        self._state["found"] = 0
        for what, which in happened:
            if what == spring.WAKE:
                found += self._wake(which)
            elif what == spring.CERTAIN:
                found += self._settle(which)
            else:
                self._rest(which)
        return found

    def _wake(self, lane: int) -> list[Match]:
        if -1 not in self._slots:
            self._add_slots()
        slot = self._slots.index(-1)
        pattern = self._patterns[lane]
        self._slots[slot] = lane
        self._arrays["awake"][lane] = 1
        self._arrays["slot_lengths"][slot] = pattern.size
        self._arrays["quiet_since"][slot] = self._state["count"]
        self._in_slot("slot_points", slot, pattern.size)[:] = pattern
        self._update_rows(slot)
        certain = self._begin_anew(slot, self._oldest(lane, int(self._state["first"])))
        return self._settle(slot) if certain else []

    def _settle(self, slot: int) -> list[Match]:
        """Return the match of the pattern in `slot` that is now final, and later final matches.

        The search for later matches begins anew at the end of the final match. The points since
        then may contain further matches of the pattern that are already final.
        """
        held, lane = self._arrays, self._slots[slot]
        found: list[Match] = []
        certain = True
        while certain:
            begin, end = int(held["begins"][slot]), int(held["ends"][slot])
            found.append((self._numbers[lane], begin, end, math.sqrt(held["best"][slot])))
            self._floors[lane] = end
            certain = self._begin_anew(slot, end)
        return found

    def _begin_anew(self, slot: int, begin: int) -> bool:
        """Recompute the exact column of the pattern in `slot` from the points since `begin`.

        If a match becomes final during these points, stop there. Return whether that happened.
        """
        pattern = self._patterns[self._slots[slot]]
        column, begun = self._column[: pattern.size], self._begun[: pattern.size]
        match = np.zeros(3, np.int64)
        best = spring.replay(
            pattern, self._points(begin), begin, self._state["threshold_squared"],
            column, begun, match,
        )  # fmt: skip
        held = self._arrays
        held["best"][slot], held["begins"][slot], held["ends"][slot] = best, match[0], match[1]
        self._in_slot("slot_cells", slot, pattern.size)[:] = column
        self._in_slot("slot_starts", slot, pattern.size)[:] = begun
        return bool(match[2])

    def _rest(self, slot: int) -> None:
        """Put the pattern in `slot` to sleep, unless it has an old path within the threshold.

        An old path is one that began more than `audit` points ago. With such a path the pattern
        stays awake. While a pattern sleeps, the filter updates an integer approximation of its
        column.
        """
        lane = self._slots[slot]
        if self._too_old(lane):
            self._arrays["quiet_since"][slot] = int(self._state["count"]) + self._audit_points
            return
        size = self._patterns[lane].size
        exact = self._in_slot("slot_cells", slot, size)
        rounded = exact * (self._grid.units[lane] * (1.0 - spring.SLACK))
        self._lane("cells", lane)[:] = np.minimum(rounded, 65_535.0)
        exact[:] = math.inf
        self._in_slot("slot_points", slot, size)[:] = math.inf
        self._arrays["awake"][lane] = 0
        self._arrays["slot_lengths"][slot] = 0
        self._slots[slot] = -1
        self._update_rows(slot)

    # Methods about the points that are kept

    def _points(self, begin: int) -> NDArray[np.float64]:
        first = int(self._state["first"])
        return self._arrays["history"][begin - first : int(self._state["count"]) - first]

    def _oldest(self, lane: int, begin: int) -> int:
        """Return a position, at least `begin`, from which the exact column can be recomputed.

        The pattern is the one in `lane`. Only paths that begin at `begin` or later are considered,
        and only those that begin after the pattern's latest match. None of these paths whose cost
        is within the threshold begins before the returned position.
        """
        begin = max(begin, self._floors[lane])
        pattern = self._patterns[lane]
        limit = float(self._state["threshold_squared"]) * (1.0 + spring.SLACK)
        column = self._column[: pattern.size]
        return begin + int(spring.oldest_start(pattern, self._points(begin), limit, column))

    def _too_old(self, lane: int) -> bool:
        begin = self.count - self._audit_points
        if begin <= self._floors[lane]:
            return False
        return self._oldest(lane, begin) == begin

    def _audit(self) -> list[Match]:
        """Check the next patterns without an exact column, so that each has its turn.

        Each is checked once per `audit` points. It wakes, which means that it gets an exact column,
        if a path within the threshold began more than `audit` points ago. Return the matches that
        become final when patterns wake.
        """
        found: list[Match] = []
        count = len(self._patterns)
        for _ in range(-(-count // self._audit_points)):
            lane = self._next_lane
            self._next_lane = (lane + 1) % count
            if not self._arrays["awake"][lane] and self._too_old(lane):
                found += self._wake(lane)
        self._state["next_audit"] += max(1, self._audit_points // count)
        return found

    def _remember(self, coming: int) -> None:
        """Make room for `coming` more points, and drop the points that no pattern can need."""
        ends = self._arrays["ends"]
        needed = min([self.count - 2 * self._audit_points, *ends[ends > 0].tolist()])
        kept = self._points(max(needed, int(self._state["first"])))
        grown = np.empty(max(2 * (kept.size + coming), ROOM_LEAST))
        grown[: kept.size] = kept
        self._state["first"] = self.count - kept.size
        self._put("history", grown)
        self._room = grown.size - kept.size - coming


def greatest_square(threshold: float) -> float:
    """Return the greatest float64 whose square root is at most `threshold`."""
    square = threshold * threshold
    while math.sqrt(square) > threshold:
        square = math.nextafter(square, 0.0)
    while square < math.inf and math.sqrt(math.nextafter(square, math.inf)) <= threshold:
        square = math.nextafter(square, math.inf)
    return square
